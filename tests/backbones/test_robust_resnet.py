"""The Robust-ResNet family against numbers of the original implementation, and the contract of a timm model."""

import hashlib
import json
import math
import re

import pytest
import timm
import torch

import backbones
from backbones.checkpoint import build_model
from backbones.cost import count_gmacs
from backbones.deploy import deploy
from backbones.robust_resnet import RobustResNet
from backbones.robust_resnet.stems import resample_stem

# Of the original code (https://github.com/UCSC-VLAA/RobustCNN), run with torch 2.14.1 on the CPU: parameters, GMACs
# of one 224×224 image, and the first 16 hex digits of the SHA-256 of the JSON list of (key, shape).
ORIGINAL = {
    'robust_resnet_dw_small': (38558440, 4.473621888, '5fc25db5d72ef888'),
    'robust_resnet_inverted_dw_small': (33618088, 4.565454336, '40e573fea29bb1d5'),
    'robust_resnet_up_inverted_dw_small': (34432552, 4.419084672, '3152b96e95c74d67'),
    'robust_resnet_down_inverted_dw_small': (34316776, 4.529741568, '7a0317a679886d5a'),
}
# The first eight logits of the original and the standard deviation of all 1000, for `closed_form_weights` and the image
# of `test_logits_are_the_originals`.
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
# Of every name: parameters and GMACs of one 224×224 image.
SIZES = {
    **{name: numbers[:2] for name, numbers in ORIGINAL.items()},
    'robust_resnet_dw_small_rep': (38797480, 4.504197888),
    'robust_resnet_inverted_dw_small_rep': (34666408, 4.702811136),
    'robust_resnet_up_inverted_dw_small_rep': (34691944, 4.453423872),
    'robust_resnet_down_inverted_dw_small_rep': (34590376, 4.564551168),
    'robust_resnet_dw_base': (116438504, 17.612786176),
    'robust_resnet_inverted_dw_base': (107098344, 17.465583616),
    'robust_resnet_up_inverted_dw_base': (110089448, 17.508760064),
    'robust_resnet_down_inverted_dw_base': (109907432, 17.704471552),
    'resnet_dw_small': (28166152, 4.50367104),
    'resnet_inverted_dw_small': (23821384, 4.575765504),
    'resnet_up_inverted_dw_small': (27531976, 4.634810112),
    'resnet_down_inverted_dw_small': (27369256, 4.711410048),
}
DEIT_S_GMACS, DEIT_B_GMACS = 4.598882304, 17.563828224
STRIDES = {4: [4, 8, 16, 32], 8: [8, 8, 16, 32], 16: [16, 16, 16, 32]}
DOWN_STRIDES = {4: [8, 16, 32, 32], 8: [8, 16, 32, 32], 16: [16, 16, 32, 32]}
TINY = dict(dims=(8, 16, 32, 64), depths=(2, 2, 3, 2), num_classes=5)
NAMES = list(ORIGINAL)
# With the tiny widths and depths a base model is the small one.
NOT_BASE = [name for name in SIZES if not name.endswith('_base')]
DOWN_REP = 'robust_resnet_down_inverted_dw_small_rep'


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


def test_the_table_has_every_name():
    assert sorted(SIZES) == timm.list_models(module='robust_resnet')


def test_scripts_find_the_family_under_one_name():
    assert backbones.robust_resnet.RobustResNet is RobustResNet
    assert backbones.robust_resnet.blocks.RobustBlock
    model = backbones.robust_resnet.robust_resnet_dw_small(**TINY)
    assert type(model) is RobustResNet


@pytest.mark.parametrize('name', SIZES)
def test_parameters_and_macs_are_those_of_table_and_docstring(name, counted):
    model, cost = counted(name)
    assert cost.size_px == 224
    assert sum(p.numel() for p in model.parameters()) == SIZES[name][0]
    assert cost.gmacs == pytest.approx(SIZES[name][1], abs=1e-9)
    documented = re.search(r'([\d.]+) M parameters, ([\d.]+) GMACs', timm.model_entrypoint(name).__doc__)
    assert documented.groups() == (f'{cost.params:.1f}', f'{cost.gmacs:.2f}')
    if name.endswith('_base') or name.startswith('resnet'):
        # A block more or less in the third stage would be further from the goal.
        goal = DEIT_B_GMACS if name.endswith('_base') else DEIT_S_GMACS
        block = model.stages[2].blocks[1]
        assert abs(cost.gmacs - goal) < count_gmacs(block, 14, block.pwconv1.in_channels) / 2


@pytest.mark.parametrize('name', NAMES)
def test_keys_are_the_originals(name, counted):
    model, _ = counted(name)
    keys = json.dumps([[k, list(v.shape)] for k, v in model.state_dict().items()], separators=(',', ':'))
    assert hashlib.sha256(keys.encode()).hexdigest()[:16] == ORIGINAL[name][2]


def test_the_goals_are_the_macs_of_deit(counted):
    assert counted('deit_small_patch16_224')[1].gmacs == pytest.approx(DEIT_S_GMACS)
    assert counted('deit_base_patch16_224')[1].gmacs == pytest.approx(DEIT_B_GMACS)


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
    check_shapes(name, (DOWN_STRIDES if 'down' in name else STRIDES)[patch_size], patch_size=patch_size)


@pytest.mark.parametrize(('stem', 'like'), [('resnet', 4), ('conv', 16)])
@pytest.mark.parametrize('name', NAMES)
def test_stems_without_patches_keep_the_total_stride(name, stem, like):
    model = check_shapes(name, (DOWN_STRIDES if 'down' in name else STRIDES)[like], stem=stem)
    first = timm.create_model(name, stem=stem, **TINY).default_cfg['first_conv']
    assert dict(model.named_modules())[first.replace('.', '_', 1)].in_channels == 3


def check_shapes(name, strides, **kwargs) -> torch.nn.Module:
    model = timm.create_model(name, features_only=True, **kwargs, **TINY).eval()
    assert model.feature_info.reduction() == strides
    shapes = [tuple(f.shape) for f in model(torch.zeros(1, 3, 96, 64))]
    assert shapes == [(1, c, 96 // s, 64 // s) for c, s in zip(model.feature_info.channels(), strides, strict=True)]
    return model


@pytest.mark.parametrize(('patch_size', 'output_stride'), [(4, 8), (8, 8), (16, 16)])
@pytest.mark.parametrize('name', [*NAMES, DOWN_REP, 'robust_resnet_inverted_dw_small_rep'])
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


@pytest.mark.parametrize('stem_stride', [4, 8])
@pytest.mark.parametrize('name', [*NAMES, DOWN_REP])
def test_an_atrous_stem_makes_the_maps_of_the_same_weights_denser(name, stem_stride):
    ordinary = timm.create_model(name, **TINY).eval()
    atrous = timm.create_model(name, stem_stride=stem_stride, **TINY).eval()
    closed_form_weights(ordinary)
    atrous.load_state_dict(ordinary.state_dict())
    image = torch.randn(1, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    step = 16 // stem_stride
    with torch.no_grad():
        maps = zip(*(m.forward_intermediates(image, intermediates_only=True) for m in (ordinary, atrous)), strict=True)
    for (coarse, fine), info in zip(maps, atrous.feature_info, strict=True):
        assert fine.shape[-2:] == (96 // info['reduction'], 64 // info['reduction'])
        torch.testing.assert_close(fine[..., ::step, ::step], coarse, rtol=1e-4, atol=1e-4 * coarse.abs().max().item())


def test_a_resampled_stem_sees_an_enlarged_patch_as_before():
    weights = timm.create_model('robust_resnet_dw_small', patch_size=8, **TINY).state_dict()
    patch = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    enlarged = torch.nn.functional.interpolate(patch, size=16, mode='bicubic', antialias=True)
    resampled = resample_stem(weights, 16)
    features = [torch.nn.functional.conv2d(x, w['stem.weight']) for x, w in ((patch, weights), (enlarged, resampled))]
    torch.testing.assert_close(features[0], features[1])
    assert {k for k in weights if weights[k] is not resampled[k]} == {'stem.weight'}
    with pytest.raises(ValueError, match='patch_size 5 is not available; choose from 4, 8, 16'):
        resample_stem(weights, 5)
    with pytest.raises(ValueError, match=r"no patchify stem 'stem\.weight'"):
        resample_stem({}, 8)


def test_weights_of_another_patch_size_are_an_error_unless_resampling_is_asked_for(tmp_path):
    name, path = 'robust_resnet_dw_small', tmp_path / 'trained.pth'
    trained = timm.create_model(name, **TINY)
    torch.save(trained.state_dict(), path)
    message = 'has patches of 16 pixels and the model 8: set patch_size=16, or resample_stem=True to interpolate'
    with pytest.raises(ValueError, match=rf"the stem of checkpoint '.*trained\.pth' {message}"):
        build_model(name, path, patch_size=8, **TINY)
    finer = build_model(name, path, resample_stem=True, patch_size=8, **TINY)
    expected = resample_stem(trained.state_dict(), 8)
    for key, value in finer.state_dict().items():
        assert value.equal(expected[key])
    # A stem of the same size is left as it is.
    same = build_model(name, path, resample_stem=True, **TINY)
    assert same.stem.weight.equal(trained.stem.weight)

    # timm knows no resampling, and torch's loading is as strict as for any module.
    pretrained = dict(file=str(path), num_classes=5)
    for kwargs in (dict(pretrained=True, pretrained_cfg_overlay=pretrained), dict(checkpoint_path=str(path))):
        with pytest.raises(RuntimeError, match=r'size mismatch for stem\.weight'):
            timm.create_model(name, patch_size=8, **kwargs, **TINY)
    with pytest.raises(RuntimeError, match=r'size mismatch for stem\.weight'):
        finer.load_state_dict(trained.state_dict())
    with pytest.raises(ValueError, match=r'1 of another shape \(stem\.weight'):
        deploy(finer, **TINY)  # without the patch size that the model was created with


def test_only_a_patchify_stem_is_resampled(tmp_path):
    path = tmp_path / 'trained.pth'
    torch.save(timm.create_model('resnet_dw_small', **TINY).state_dict(), path)
    with pytest.raises(ValueError, match=r"resample_stem=True is not available with this stem; .* stem='patch'"):
        build_model('resnet_dw_small', path, resample_stem=True, **TINY)
    torch.save(timm.create_model('test_resnet', num_classes=5).state_dict(), path)
    with pytest.raises(ValueError, match='resample_stem=True is not available with ResNet; leave it out'):
        build_model('test_resnet', path, resample_stem=True, num_classes=5)


def test_an_official_checkpoint_loads_as_it_is(tmp_path):
    trained = timm.create_model('robust_resnet_up_inverted_dw_small', **TINY)
    path = tmp_path / 'official.pth.tar'
    weights = {f'module.{k}': v for k, v in trained.state_dict().items()}
    torch.save(dict(epoch=3, state_dict=weights, model_ema=None, hparams=dict(lr=1e-3), metrics={'top1': 79.2}), path)
    by_timm = timm.create_model('robust_resnet_up_inverted_dw_small', checkpoint_path=str(path), **TINY)
    for loaded in (build_model('robust_resnet_up_inverted_dw_small', path, **TINY), by_timm):
        for key, value in loaded.state_dict().items():
            torch.testing.assert_close(value, trained.state_dict()[key], rtol=0, atol=0)


ALL_LAYERS = {
    'dw': 'pwconv1 norm1 act1 conv_dw norm2 act2 pwconv2 norm3 + act3',
    'inverted_dw': 'pwconv1 norm1 act1 conv_dw norm2 act2 pwconv2 norm3 + act3',
    'up_inverted_dw': 'conv_dw norm1 act1 pwconv1 norm2 act2 pwconv2 norm3 + act3',
    'down_inverted_dw': 'pwconv1 norm2 act2 pwconv2 norm3 act3 conv_dw norm1 + act1',
}
ROBUST_LAYERS = {
    'dw': 'pwconv1 norm1 conv_dw pwconv2 + act3',
    'inverted_dw': 'pwconv1 norm1 act1 conv_dw pwconv2 +',
    'up_inverted_dw': 'conv_dw norm1 pwconv1 act2 pwconv2 +',
    'down_inverted_dw': 'pwconv1 norm2 act2 pwconv2 conv_dw +',
}


@pytest.mark.parametrize('prefix', ['robust_resnet', 'resnet'])
@pytest.mark.parametrize('block', ALL_LAYERS)
def test_layers_run_in_the_order_of_the_paper(block, prefix):
    model = timm.create_model(f'{prefix}_{block}_small', drop_path_rate=0.1, **TINY)
    seen = []
    block_module = model.stages[2].blocks[1]
    for name, module in block_module.named_children():
        if not isinstance(module, torch.nn.Identity):
            module.register_forward_hook(lambda *_, name=name: seen.append('+' if name == 'drop_path' else name))
    block_module(torch.zeros(2, 128 if block == 'dw' else 32, 8, 8))
    assert ' '.join(seen) == (ROBUST_LAYERS if prefix == 'robust_resnet' else ALL_LAYERS)[block]


def test_single_components_lead_from_a_baseline_to_the_robust_model():
    def shapes(name, **kwargs):
        return {k: v.shape for k, v in timm.create_model(name, **TINY, **kwargs).state_dict().items()}

    stem, kernel = dict(stem='patch', patch_size=16), dict(kernel_size=11)
    fewer = dict(norms=(1,), acts=(3,))
    robust, baseline = shapes('robust_resnet_dw_small'), shapes('resnet_dw_small')
    assert shapes('resnet_dw_small', **stem, **kernel, **fewer) == robust
    changed = {k for k, _ in baseline.items() ^ shapes('resnet_dw_small', **stem).items()}
    assert {k.split('.')[0] for k in changed} == {'stem'}
    changed = {k for k, _ in baseline.items() ^ shapes('resnet_dw_small', **kernel).items()}
    assert {k.split('.', 4)[-1] for k in changed} == {'conv_dw.weight'}
    assert {k.split('.')[4] for k in baseline.keys() - shapes('resnet_dw_small', **fewer).keys()} == {'norm2', 'norm3'}


@pytest.mark.parametrize('name', SIZES)
def test_contract_of_a_timm_model(name):
    torch.manual_seed(0)
    model = timm.create_model(name, drop_path_rate=0.1, **TINY)
    image = torch.randn(2, 3, 64, 64)
    model(image).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())

    model.eval()
    logits = model(image)
    assert torch.equal(model(image), logits)
    torch.testing.assert_close(model.forward_head(model.forward_features(image)), logits)
    twin = timm.create_model(name, **TINY).eval()
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin(image), logits)
    torch.testing.assert_close(twin.to(memory_format=torch.channels_last)(image), logits, atol=1e-5, rtol=1e-4)
    final, stages = model.forward_intermediates(image)
    torch.testing.assert_close(final, stages[-1])
    assert [s.shape[1] for s in stages] == [info['num_chs'] for info in model.feature_info]
    assert [64 // s.shape[2] for s in stages] == [info['reduction'] for info in model.feature_info]
    backbone = timm.create_model(name, features_only=True, **TINY).eval()
    weights = {re.sub(r'^(stem|stages)\.(\d)', r'\1_\2', k): v for k, v in model.state_dict().items()}
    backbone.load_state_dict(weights, strict=False)
    for found, expected in zip(backbone(image), stages, strict=True):
        torch.testing.assert_close(found, expected)
    assert backbone.feature_info.channels() == [s.shape[1] for s in stages]
    groups = timm.models.group_parameters(model, model.group_matcher())
    assert sum(map(len, groups.values())) == len(list(model.parameters()))
    modules = dict(model.named_modules())
    assert modules[model.default_cfg['first_conv']].in_channels == 3
    assert modules[model.default_cfg['classifier']] is model.get_classifier()
    model.reset_classifier(7)
    assert model(image[..., :33, :47]).shape == (2, 7)
    model.reset_classifier(0, '')
    assert model(image).shape == (2, model.num_features, 2, 2)


@pytest.mark.parametrize('name', NOT_BASE)
def test_checkpointing_changes_no_gradient(name):
    torch.manual_seed(0)
    model = timm.create_model(name, **TINY)
    image = torch.randn(2, 3, 64, 64)
    gradients = []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        model(image).square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed, atol=1e-5 * plain.abs().max().item() + 1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ('name', 'kwargs'),
    [
        *((name, {}) for name in NOT_BASE),
        ('robust_resnet_dw_small', dict(stem='conv')),
        ('robust_resnet_inverted_dw_small', dict(layer_scale_init_value=0.5)),
        ('robust_resnet_down_inverted_dw_small', dict(stem_stride=8)),
    ],
)
def test_torch_export_computes_the_same(name, kwargs):
    model = timm.create_model(name, **{**TINY, 'depths': (1, 1, 1, 1)}, **kwargs).eval()
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    exported = torch.export.export(model, (image,)).module()
    torch.testing.assert_close(exported(image), model(image))


def test_layer_scale_is_off_by_default_and_scales_the_path():
    assert not any('gamma' in k for k in timm.create_model('robust_resnet_dw_small', **TINY).state_dict())
    scaled = timm.create_model('robust_resnet_inverted_dw_small', layer_scale_init_value=1e-6, **TINY)
    block = scaled.stages[1].blocks[1].eval()
    x = torch.randn(1, 16, 4, 4)
    torch.testing.assert_close(block(x), x, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        (dict(kernel_size=4), 'kernel_size 4 is not available; choose from 3, 5, 7, 9, 11, 13'),
        (dict(kernel_size=15), 'kernel_size 15 is not available; choose from 3, 5, 7, 9, 11, 13'),
        (dict(small_kernel_size=7, kernel_size=7), 'small_kernel_size 7 .* kernel_size 7; choose from 1, 3, 5'),
        (dict(stem='deep'), "stem 'deep' is unknown; choose from patch, resnet, conv"),
        (dict(patch_size=5), 'patch_size 5 is not available; choose from 4, 8, 16'),
        (dict(stem='resnet', patch_size=8), "patch_size 8 needs stem 'patch'; leave it out with stem 'resnet'"),
        (dict(stem_stride=6), 'stem_stride 6 is not available with patch_size 16; choose from 4, 8, 16'),
        (dict(stem_stride=8, patch_size=4), 'stem_stride 8 is not available with patch_size 4; choose from 4'),
        (dict(output_stride=4), 'output_stride 4 is not available with patch_size 16; choose from 16, 32'),
        (dict(output_stride=8, stem='conv'), "output_stride 8 is not available with stem 'conv'; choose from 16, 32"),
        (dict(norms=(0, 1)), r'norms \(0, 1\) is no tuple of positions; choose from 1, 2, 3'),
        (dict(acts=(4,)), r'acts \(4,\) is no tuple of positions; choose from 1, 2, 3'),
        (dict(acts=1), 'acts 1 is no tuple of positions; choose from 1, 2, 3'),
        (dict(dims=(8, 16)), 'must be four positive numbers each'),
    ],
)
def test_wrong_arguments_name_the_choices(wrong, message):
    with pytest.raises(ValueError, match=message):
        timm.create_model('robust_resnet_dw_small', **wrong)
