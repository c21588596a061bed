"""Robust-ResNet against numbers of the original implementation, and the contract of a timm model."""

import hashlib
import json
import math

import pytest
import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

import backbones  # noqa: F401  (registers the models)

# Of the original code (https://github.com/UCSC-VLAA/RobustCNN), run with torch 2.14.1 on the CPU: parameters, GMACs
# of one 224×224 image, and the first 16 hex digits of the SHA-256 of the JSON list of (key, shape).
ORIGINAL = {
    'robust_resnet_dw_small': (38558440, 4.473621888, '5fc25db5d72ef888'),
    'robust_resnet_inverted_dw_small': (33618088, 4.565454336, '40e573fea29bb1d5'),
    'robust_resnet_up_inverted_dw_small': (34432552, 4.419084672, '3152b96e95c74d67'),
    'robust_resnet_down_inverted_dw_small': (34316776, 4.529741568, '7a0317a679886d5a'),
}
# Its first eight logits and the standard deviation of all 1000, for `closed_form_weights` and `closed_form_image`.
ORIGINAL_LOGITS = {
    'robust_resnet_dw_small': (
        (1.008972, -1.130884, -1.110033, 0.954651, 1.002901, -1.005526, -1.037531, 1.06408),
        1.050693,
    ),
    'robust_resnet_up_inverted_dw_small': (
        (-0.40356, 0.843076, -1.26593, 1.624281, -1.444413, 1.381393, -0.903896, 0.281476),
        1.11165,
    ),
}
STRIDES = {4: [4, 8, 16, 32], 8: [8, 8, 16, 32], 16: [16, 16, 16, 32]}
DOWN_STRIDES = {4: [8, 16, 32, 32], 8: [8, 16, 32, 32], 16: [16, 16, 32, 32]}
TINY = dict(dims=(8, 16, 32, 64), depths=(2, 2, 3, 2), kernel_size=5, num_classes=5)
NAMES = list(ORIGINAL)


def closed_form_weights(model: torch.nn.Module) -> None:
    """Give tensor i of the state dict the values sin(0.7·n + i), scaled by its kind."""
    weights = {}
    for i, (key, value) in enumerate(model.state_dict().items()):
        t = torch.sin(0.7 * torch.arange(value.numel(), dtype=torch.float64) + i).reshape(value.shape)
        if not value.is_floating_point():
            t = value
        elif key.endswith('running_var'):
            t = 1 + 0.5 * t.abs()
        elif t.ndim > 1:
            t = t * math.sqrt(2 / t[0].numel())
        elif key.endswith(('norm1.weight', 'norm2.weight', 'downsample.1.weight')):
            t = 1 + 0.1 * t
        else:
            t = 0.1 * t
        weights[key] = t.to(value.dtype)
    model.load_state_dict(weights)


@pytest.mark.parametrize('name', NAMES)
def test_parameters_macs_and_keys_are_the_originals(name):
    params, gmacs, digest = ORIGINAL[name]
    with torch.device('meta'):
        model = timm.create_model(name).eval()
        counter = FlopCounterMode(display=False)
        with counter:
            model(torch.empty(1, 3, 224, 224))
    keys = json.dumps([[k, list(v.shape)] for k, v in model.state_dict().items()], separators=(',', ':'))
    assert sum(p.numel() for p in model.parameters()) == params
    assert counter.get_total_flops() / 2e9 == pytest.approx(gmacs, abs=1e-9)
    assert hashlib.sha256(keys.encode()).hexdigest()[:16] == digest


@pytest.mark.parametrize('name', list(ORIGINAL_LOGITS))
def test_logits_are_the_originals(name):
    model = timm.create_model(name).eval()
    closed_form_weights(model)
    image = torch.cos(0.01 * torch.arange(3 * 224 * 224, dtype=torch.float64)).reshape(1, 3, 224, 224).float()
    with torch.no_grad():
        logits = model(image)
    first, std = ORIGINAL_LOGITS[name]
    torch.testing.assert_close(logits[0, :8], torch.tensor(first), atol=1e-4, rtol=0)
    assert logits.std().item() == pytest.approx(std, abs=1e-4)


@pytest.mark.parametrize('patch_size', [4, 8, 16])
@pytest.mark.parametrize('name', NAMES)
def test_feature_info_tells_the_true_shapes(name, patch_size):
    model = timm.create_model(name, features_only=True, patch_size=patch_size, **TINY).eval()
    strides = (DOWN_STRIDES if 'down' in name else STRIDES)[patch_size]
    assert model.feature_info.reduction() == strides
    shapes = [tuple(f.shape) for f in model(torch.zeros(1, 3, 96, 64))]
    assert shapes == [(1, c, 96 // s, 64 // s) for c, s in zip(model.feature_info.channels(), strides, strict=True)]


@pytest.mark.parametrize(('patch_size', 'output_stride'), [(4, 8), (8, 8), (16, 16)])
@pytest.mark.parametrize('name', NAMES)
def test_dilation_computes_the_same_at_the_strided_positions(name, patch_size, output_stride):
    strided = timm.create_model(name, patch_size=patch_size, **TINY).eval()
    dilated = timm.create_model(name, patch_size=patch_size, output_stride=output_stride, **TINY).eval()
    closed_form_weights(strided)
    dilated.load_state_dict(strided.state_dict())
    image = torch.randn(1, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        coarse, fine = strided.forward_features(image), dilated.forward_features(image)
    assert fine.shape[-1] == 128 // output_stride
    step = 32 // output_stride
    torch.testing.assert_close(fine[..., ::step, ::step], coarse, rtol=1e-4, atol=1e-4 * coarse.abs().max().item())


@pytest.mark.parametrize('name', NAMES)
def test_contract_of_a_timm_model(name):
    torch.manual_seed(0)
    model = timm.create_model(name, drop_path_rate=0.1, **TINY)
    image = torch.randn(2, 3, 64, 64)
    model(image).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())

    model.eval()
    logits = model(image)
    torch.testing.assert_close(model.forward_head(model.forward_features(image)), logits)
    torch.testing.assert_close(model.to(memory_format=torch.channels_last)(image), logits, atol=1e-5, rtol=1e-4)
    model.set_grad_checkpointing()
    torch.testing.assert_close(model(image), logits, atol=1e-5, rtol=1e-4)
    final, stages = model.forward_intermediates(image)
    torch.testing.assert_close(final, stages[-1])
    assert model.get_classifier() is model.head.fc
    model.reset_classifier(7)
    assert model(image).shape == (2, 7)
    model.reset_classifier(0, '')
    assert model(image).shape == (2, model.num_features, 2, 2)
    assert model.default_cfg['first_conv'] == 'stem'
    assert model.default_cfg['classifier'] == 'head.fc'


def test_layer_scale_is_off_by_default_and_scales_the_path():
    assert not any('gamma' in k for k in timm.create_model('robust_resnet_dw_small', **TINY).state_dict())
    scaled = timm.create_model('robust_resnet_inverted_dw_small', layer_scale_init_value=1e-6, **TINY)
    block = scaled.stages[1].blocks[1].eval()
    x = torch.randn(1, 16, 4, 4)
    torch.testing.assert_close(block(x), x, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        (dict(kernel_size=4), 'kernel_size 4 is not odd; choose from 3, 5'),
        (dict(patch_size=5), 'patch_size 5 is not available; choose from 4, 8, 16'),
        (dict(output_stride=4), 'output_stride 4 is not available with patch_size 16; choose from 16, 32'),
        (dict(dims=(8, 16)), 'must be four positive numbers each'),
    ],
)
def test_wrong_arguments_name_the_choices(wrong, message):
    with pytest.raises(ValueError, match=message):
        timm.create_model('robust_resnet_dw_small', **wrong)
