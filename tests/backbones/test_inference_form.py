"""The inference form of a model computes what the model computes, with fewer layers."""

import pytest
import timm
import torch
from torch import nn

import backbones  # noqa: F401 - registers this project's models
from backbones.checkpoint import weights_sha256
from backbones.inference_form import TOLERANCE, inference_form

TINY = dict(dims=(8, 16, 16, 16), depths=(1, 1, 2, 1), num_classes=7)
FOLDED = {
    # Without a norm that could not go into the layer before it.
    'resnet18': {},
    'resnest14d': {},
    'mobileone_s0': {},
    'efficientnet_lite0': {},
    'mobilenetv3_small_050': {},
    'convnext_atto': {},
    'robust_resnet_dw_small': TINY,
    'robust_resnet_up_inverted_dw_small_rep': TINY,
}
KEPT = {
    # Its norms come before its convolutions.
    'densenet121': {},
}


def make(name: str, kwargs: dict) -> nn.Module:
    """A model whose norms and layer scales do something."""
    torch.manual_seed(0)
    model = timm.create_model(name, **kwargs).eval()
    for module in model.modules():
        if getattr(module, 'running_mean', None) is not None:
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
        if isinstance(getattr(module, 'gamma', None), nn.Parameter):
            nn.init.uniform_(module.gamma, 0.5, 1.5)
    return model


def norms(network: nn.Module) -> int:
    return sum('BatchNorm' in type(module).__name__ for module in network.modules())


@pytest.mark.parametrize('name', [*FOLDED, *KEPT])
def test_outputs_stay_and_norms_go(name):
    model = make(name, {**FOLDED, **KEPT}[name])
    before = weights_sha256(model.state_dict())
    form = inference_form(model, (64, 64))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected, found = model(images), form.network(images)
    assert (found - expected).abs().max() <= TOLERANCE * expected.abs().max()
    assert form.difference <= TOLERANCE
    assert weights_sha256(model.state_dict()) == before
    assert norms(form.network) < norms(model) or name == 'convnext_atto'
    assert norms(form.network) == 0 or name in KEPT
    assert not [m for m in form.network.modules() if isinstance(m, nn.Dropout) or getattr(m, 'gamma', None) is not None]


def test_a_norm_that_a_second_layer_reads_past_is_kept():
    class Branch(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
            self.pretrained_cfg = {'input_size': (3, 8, 8)}

        def forward(self, x):
            y = self.conv(x)
            return (self.norm(y) + y).mean((2, 3))

    model = Branch().eval()
    model.norm.running_mean.fill_(1.0)
    assert norms(inference_form(model).network) == 1


def test_a_norm_by_the_statistics_of_the_batch_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten())
    model.pretrained_cfg = {'input_size': (3, 8, 8)}
    with pytest.raises(ValueError, match='running statistics'):
        inference_form(model.eval())
