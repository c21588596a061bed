"""Layer-wise learning-rate decay: timm's own scales and weight decay, under mmengine's wrappers."""

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay
from torch import nn

pytest.importorskip('mmdet')

from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper

from backbones.meta import without_storage
from backbones.openmmlab import TimmBackbone

DECAY, LR, WEIGHT_DECAY = 0.7, 1e-3, 0.05
CONSTRUCTOR = dict(constructor='LayerDecayOptimWrapperConstructor', paramwise_cfg=dict(layer_decay=DECAY))
TINY = dict(dims=(8, 16, 24, 32), depths=(1, 1, 2, 1), kernel_size=3, patch_size=4)


class Detector(nn.Module):
    """The parts of a detector that matter here."""

    def __init__(self, backbone: TimmBackbone):
        super().__init__()
        self.backbone = backbone
        self.neck = nn.Conv2d(backbone.channels[-1], 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.neck(self.backbone(x)[-1]).square().mean()


def wrapper_of(model: nn.Module, optimizer: str = 'AdamW', **settings):
    optimizer = dict(type=optimizer, lr=LR, weight_decay=WEIGHT_DECAY)
    return build_optim_wrapper(model, dict(CONSTRUCTOR, optimizer=optimizer, **settings))


def settings_of(model: nn.Module, groups: list[dict]) -> dict[str, tuple[float, float]]:
    """Learning rate over the full one and weight decay of each parameter."""
    names = {id(p): name for name, p in model.named_parameters()}
    return {
        names[id(p)]: (group.get('lr_scale', group.get('lr', LR) / LR), group['weight_decay'])
        for group in groups
        for p in group['params']
    }


@pytest.mark.parametrize(
    ('name', 'layers'),
    [
        ('resnet50', 18),  # a stem, 16 blocks, and neck and heads
        ('convnext_tiny', 20),  # each downsampling goes with the block after it
        ('deit_small_patch16_224', 14),
        ('swin_tiny_patch4_window7_224', 14),
        ('robust_resnet_dw_small', 24),
        ('coatnet_0_rw_224', 6),  # timm sorts these by stage
    ],
)
def test_scales_and_weight_decay_are_those_of_timm(name, layers):
    with without_storage():
        detector = Detector(TimmBackbone(name))
        whole = timm.create_model(name)
    spared = getattr(whole, 'no_weight_decay', set)()
    expected = settings_of(whole, param_groups_layer_decay(whole, WEIGHT_DECAY, spared, layer_decay=DECAY))
    found = settings_of(detector, wrapper_of(detector).optimizer.param_groups)
    assert found.keys() == {key for key, _ in detector.named_parameters()}
    for key, values in found.items():
        if key.startswith('backbone.'):
            assert values == pytest.approx(expected[key.removeprefix('backbone.net.')]), key
    assert found['neck.weight'] == (1, WEIGHT_DECAY)
    assert found['neck.bias'] == (1, 0)
    depths = [detector.backbone.get_layer_depth(key, 'backbone.') for key in found if key.startswith('backbone.')]
    assert {number for _, number in depths} == {layers}
    assert {layer for layer, _ in depths} == set(range(layers - 1))


def test_frozen_parameters_are_left_out():
    detector = Detector(TimmBackbone('robust_resnet_dw_small', frozen_stages=2, **TINY))
    found = settings_of(detector, wrapper_of(detector).optimizer.param_groups)
    assert found.keys() == {name for name, p in detector.named_parameters() if p.requires_grad}
    assert not [name for name in found if 'stem' in name]


def test_no_decay_leaves_two_groups_and_logs_them(caplog):
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    detector = Detector(TimmBackbone('robust_resnet_dw_small', **TINY))
    groups = wrapper_of(detector, paramwise_cfg=dict(layer_decay=1.0)).optimizer.param_groups
    logger.removeHandler(caplog.handler)
    assert [(group['lr'], group['weight_decay']) for group in groups] == [(LR, 0.0), (LR, WEIGHT_DECAY)]
    sizes = [sum(p.numel() for p in detector.parameters() if (p.ndim > 1) == large) for large in (False, True)]
    table = next(message for message in caplog.messages if message.startswith('parameter groups')).split('\n')[1:]
    assert [int(line.split(', ', 3)[3].replace(',', '')) for line in table] == sizes


@pytest.mark.parametrize(
    'type_',
    [
        'OptimWrapper',
        pytest.param(
            'AmpOptimWrapper', marks=pytest.mark.skipif(not torch.cuda.is_available(), reason='AMP needs a GPU')
        ),
    ],
)
def test_works_with_gradient_accumulation_and_amp(type_):
    torch.manual_seed(0)
    device = 'cuda' if type_ == 'AmpOptimWrapper' else 'cpu'
    detector = Detector(TimmBackbone('robust_resnet_dw_small', **TINY)).to(device)
    wrapper = wrapper_of(detector, 'SGD', type=type_, accumulative_counts=2)
    before = {name: p.detach().clone() for name, p in detector.named_parameters()}
    gradients = {name: torch.zeros_like(p) for name, p in detector.named_parameters()}
    for step in range(2):
        x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(step)).to(device)
        with wrapper.optim_context(detector):
            loss = detector(x)
        for (name, p), gradient in zip(
            detector.named_parameters(), torch.autograd.grad(loss, list(detector.parameters())), strict=True
        ):
            gradients[name] += gradient.float() / 2
            assert p.equal(before[name])
        with wrapper.optim_context(detector):
            loss = detector(x)
        wrapper.update_params(loss)
    settings = settings_of(detector, wrapper.optimizer.param_groups)
    for name, p in detector.named_parameters():
        scale, decay = settings[name]
        expected = before[name] - LR * scale * (gradients[name] + decay * before[name])
        torch.testing.assert_close(p.detach(), expected, rtol=1e-3, atol=1e-6, msg=name)


@pytest.mark.parametrize(
    ('paramwise', 'message'),
    [
        (dict(layer_decay=0.7, norm_decay_mult=0.0), 'norm_decay_mult.*alone'),
        (dict(layer_decay=1.5), '1.5'),
        (dict(decay_rate=0.7), 'decay_rate'),
    ],
)
def test_wrong_settings_are_named(paramwise, message):
    detector = Detector(TimmBackbone('robust_resnet_dw_small', **TINY))
    with pytest.raises(ValueError, match=message):
        wrapper_of(detector, paramwise_cfg=paramwise)


def test_other_backbones_are_an_error():
    with pytest.raises(ValueError, match='Sequential has none'):
        wrapper_of(nn.Sequential(nn.Linear(2, 2)))
