"""ResNeSt against numbers of the original implementation, its options, and the contract of a timm model."""

import hashlib
import inspect
import json
import re

import pytest
import timm
import torch
from timm.layers import SplitAttn

from backbones.cost import count_gmacs
from backbones.relatives import resnest_fast

# Of the original code (https://github.com/zhanghang1989/ResNeSt), run with torch 2.14.1: parameters, GMACs of one
# 224×224 image, and the first 16 hex digits of the SHA-256 of the JSON list of (key, shape). Published top-1.
ORIGINAL = {
    'resnest50': (27483240, 5.371160576, '71a2c846b08ad38b', 81.03),
    'resnest101': (48275016, 10.20056576, '1f9b02a4a8fa6878', 82.83),
    'resnest200': (70201544, 17.408411648, '03021bcb6d1bd009', 83.84),
    'resnest269': (110929480, 22.434121728, '2f866dd7df5cfe4f', 84.54),
    'resnest50_fast_1s1x64d': (26217896, 4.329459712, '43a49ab024a2912d', 80.33),
    'resnest50_fast_2s1x64d': (27483240, 4.33071104, '71a2c846b08ad38b', 80.53),
    'resnest50_fast_4s1x64d': (31912712, 4.335112192, '283333c1adc75ea8', 80.76),
    'resnest50_fast_1s2x40d': (25946680, 4.364642816, '1cb182fc5b302028', 80.59),
    'resnest50_fast_2s2x40d': (26943792, 4.365622336, 'f0fda49d8d5733d4', 80.61),
    'resnest50_fast_4s2x40d': (30417592, 4.369060736, '762896930d6fcde3', 81.14),
    'resnest50_fast_1s4x24d': (25677000, 4.399827456, '73aadfd92f711790', 80.99),
}
# Parameters in millions and GFLOPs as its ablation table gives them.
PUBLISHED = {
    'resnest50_fast_1s1x64d': (26.3, 4.34),
    'resnest50_fast_2s1x64d': (27.5, 4.34),
    'resnest50_fast_4s1x64d': (31.9, 4.35),
    'resnest50_fast_1s2x40d': (25.9, 4.38),
    'resnest50_fast_2s2x40d': (26.9, 4.38),
    'resnest50_fast_4s2x40d': (30.4, 4.41),
    'resnest50_fast_1s4x24d': (25.7, 4.42),
}
TEST_SIZES = {'resnest101': 256, 'resnest200': 320, 'resnest269': 416}
TIMM_NAMES = {
    'resnest50': 'resnest50d',
    'resnest50_fast_4s2x40d': 'resnest50d_4s2x40d',
    'resnest50_fast_1s4x24d': 'resnest50d_1s4x24d',
}
NAMES = list(ORIGINAL)
TINY = dict(layers=(1, 1, 1, 2), channels=(32, 32, 64, 128), stem_width=8, num_classes=5)


def tiny(name: str, **kwargs) -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, **{**TINY, **kwargs})


def randomise(model: torch.nn.Module) -> None:
    """Give norms and biases values other than their first, so that each layer matters."""
    generator = torch.Generator().manual_seed(1)
    for key, value in model.state_dict().items():
        if value.is_floating_point() and value.ndim == 1:
            value.copy_(torch.rand(value.shape, generator=generator) + (0.5 if 'var' in key else 0.0))


def image(*size: int) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(2))


def test_every_registered_name_is_tested():
    assert set(timm.list_models(module='resnest_fast')) == set(NAMES)


@pytest.mark.parametrize('name', NAMES)
def test_parameters_macs_and_keys_are_the_originals(name, counted):
    params, gmacs, digest, top1_pct = ORIGINAL[name]
    model, cost = counted(name)
    keys = json.dumps([[k, list(v.shape)] for k, v in model.state_dict().items()], separators=(',', ':'))
    found_gmacs = cost.gmacs if cost.size_px == 224 else count_gmacs(model, 224)
    assert sum(p.numel() for p in model.parameters()) == params
    assert found_gmacs == pytest.approx(gmacs, abs=1e-9)
    assert hashlib.sha256(keys.encode()).hexdigest()[:16] == digest
    millions, published_gmacs = PUBLISHED.get(name, (params / 1e6, gmacs))
    assert params / 1e6 == pytest.approx(millions, rel=0.005)
    assert found_gmacs == pytest.approx(published_gmacs, rel=0.02)

    size_px = TEST_SIZES.get(name, 224)
    doc = inspect.getdoc(getattr(resnest_fast, name))
    numbers = [float(n) for n in re.findall(r'[\d.]+(?= M | GMACs| %)', doc)]
    assert numbers == [round(params / 1e6, 2), round(gmacs, 2), top1_pct]
    assert f'ImageNet at {size_px}×{size_px}' in doc
    assert model.default_cfg['input_size'] == (3, size_px, size_px)
    assert model.default_cfg['first_conv'] == 'conv1.0'
    assert model.default_cfg['classifier'] == 'fc'


@pytest.mark.parametrize('name', list(TIMM_NAMES))
def test_outputs_are_those_of_timms_own_names(name):
    model, timm_model = tiny(name).eval(), tiny(TIMM_NAMES[name]).eval()
    randomise(model)
    timm_model.load_state_dict(model.state_dict())
    x = image(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(x), timm_model(x), rtol=0, atol=0)


@pytest.mark.parametrize('name', NAMES)
def test_contract_of_a_timm_model(name):
    model = tiny(name, drop_path_rate=0.1)
    x = image(2, 3, 64, 64)
    model(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())

    model.eval()
    randomise(model)
    with torch.no_grad():
        logits = model(x)
        assert torch.equal(model(x), logits)
        torch.testing.assert_close(model.forward_head(model.forward_features(x)), logits)
        final, stages = model.forward_intermediates(x)
        torch.testing.assert_close(final, stages[-1])
        again = tiny(name).eval()
        again.load_state_dict(model.state_dict())
        assert torch.equal(again(x), logits)
        torch.testing.assert_close(again.to(memory_format=torch.channels_last)(x), logits, atol=1e-5, rtol=1e-4)
    info = [(i['num_chs'], i['reduction']) for i in model.feature_info]
    assert [tuple(f.shape[1:]) for f in stages] == [(c, 64 // s, 64 // s) for c, s in info]
    features = tiny(name, features_only=True).eval()
    assert [tuple(f.shape[1:]) for f in features(x)] == [(c, 64 // s, 64 // s) for c, s in info]
    model.set_grad_checkpointing()
    torch.testing.assert_close(model(x), logits)
    assert model.get_classifier() is model.fc
    model.reset_classifier(7)
    assert model(x).shape == (2, 7)


# The tiny overrides make the four published sizes one network; its last stage has a block with a plain shortcut.
@pytest.mark.parametrize('name', ['resnest50'] + [n for n in NAMES if 'fast' in n])
def test_export_computes_the_same(name):
    model = tiny(name, **({} if name == 'resnest50' else dict(layers=(1, 1, 1, 1)))).eval()
    x = image(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), model(x))


def test_checkpointing_gives_the_same_gradients():
    plain, saving = tiny('resnest50').eval(), tiny('resnest50').eval()
    saving.set_grad_checkpointing()
    for model in (plain, saving):
        model(image(2, 3, 64, 64)).square().sum().backward()
    for a, b in zip(plain.parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_options_of_the_original_are_reachable_by_keyword():
    model = tiny('resnest50', radix=4, cardinality=2, base_width=48, deep_stem=False, avg_down=False, avd_first=True)
    block = model.layer2[0]
    assert isinstance(block.conv2, SplitAttn)
    assert (block.conv2.radix, block.conv2.conv.groups, block.conv1.out_channels) == (4, 2 * 4, 2 * 32 * 48 // 64)
    assert (block.avd_first.stride, block.avd_last) == (2, None)
    assert block.downsample[0].stride == (2, 2)
    assert model.conv1.kernel_size == (7, 7)

    plain = tiny('resnest50_fast_1s1x64d', radix=0, avd=False).layer2[0]
    assert isinstance(plain.conv2, torch.nn.Conv2d)
    assert plain.conv2.stride == (2, 2)

    assert tiny('resnest50').layer1[0].bn3.weight.min() == 1
    assert tiny('resnest50', zero_init_last=True).layer1[0].bn3.weight.max() == 0


def test_drop_block_acts_in_the_last_two_stages_in_training():
    model = tiny('resnest50', drop_block_rate=0.5)
    drops = [type(getattr(model, f'layer{i}')[0].conv2.drop).__name__ for i in (1, 2, 3, 4)]
    assert drops == ['Identity', 'Identity', 'DropBlock2d', 'DropBlock2d']
    ones = torch.ones(1, 4, 16, 16)
    drop = model.layer3[0].conv2.drop
    assert (drop.train()(ones) == 0).any()
    assert torch.equal(drop.eval()(ones), ones)


def test_drop_path_drops_the_path_and_not_the_shortcut():
    model = tiny('resnest50', drop_path_rate=1.0)
    block = model.layer4[1].train()
    assert block.drop_path.drop_prob == 1
    x = image(2, 512, 4, 4).relu()
    torch.testing.assert_close(block(x), x)


@pytest.mark.parametrize('avd_first', [False, True])
def test_dilation_computes_the_same_at_the_strided_positions(avd_first):
    # Split attention averages over the whole map and so sees the stride; without it the nets agree.
    coarse = tiny('resnest50', radix=0, avd_first=avd_first).eval()
    fine = tiny('resnest50', radix=0, avd_first=avd_first, output_stride=16).eval()
    fine.load_state_dict(coarse.state_dict())
    x = image(1, 3, 128, 128)
    with torch.no_grad():
        strided, dilated = coarse.forward_features(x), fine.forward_features(x)
    assert dilated.shape[-1] == 2 * strided.shape[-1] == 8
    torch.testing.assert_close(dilated[..., ::2, ::2], strided, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        (dict(radix=3), 'radix 3 does not divide base_width 64; choose from 0, 1, 2, 4, 8'),
        (dict(radix=-1), 'radix -1 does not divide'),
        (dict(output_stride=4), 'output_stride 4 is not available; choose from 8, 16, 32'),
    ],
)
def test_wrong_arguments_name_the_choices(wrong, message):
    with pytest.raises(ValueError, match=message):
        timm.create_model('resnest50', **wrong)
