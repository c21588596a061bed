"""The steps from ResNet-50 to ConvNeXt-T against the paper's tables and timm's two ends, and the contract of timm."""

import inspect
import re

import pytest
import timm
import torch
from timm.layers import LayerNorm2d
from torch import nn

from backbones.cost import count
from backbones.meta import without_storage
from backbones.relatives import convnext_roadmap
from backbones.relatives.convnext_roadmap import convert_pointwise

# Of "A ConvNet for the 2020s" (https://arxiv.org/abs/2201.03545), table 10: top-1 and GFLOPs. Third: millions of
# parameters of this project; the paper has those of both ends only (table 9). GFLOPs of the steps from ResNet-200:
# table 11.
STEPS = {
    'resnet50': (78.82, 4.09, 25.56),
    'stage_ratio': (79.36, 4.53, 28.63),
    'patchify': (79.51, 4.42, 28.62),
    'depthwise': (78.28, 2.35, 15.72),
    'width': (80.50, 5.27, 33.76),
    'inverted': (80.64, 4.64, 25.85),
    'moved_up': (79.92, 4.07, 25.63),
    'kernel5': (80.35, 4.10, 25.72),
    'kernel7': (80.57, 4.15, 25.86),
    'kernel9': (80.57, 4.21, 26.05),
    'kernel11': (80.47, 4.29, 26.29),
    'gelu': (80.62, 4.15, 25.86),
    'fewer_acts': (81.27, 4.15, 25.86),
    'fewer_norms': (81.41, 4.15, 25.83),
    'layernorm': (81.47, 4.46, 25.84),
    'separate_downsample': (81.97, 4.49, 28.59),
}
PUBLISHED_PARAMS = {'resnet50': 25.6, 'separate_downsample': 28.6}
FROM_RESNET200 = {
    'depthwise': 7.23,
    'inverted': 15.68,
    'moved_up': 14.63,
    'layernorm': 14.81,
    'separate_downsample': 15.35,
}
FIRST, LAST = 'convnext_roadmap_resnet50', 'convnext_roadmap_separate_downsample'
NAMES = [f'convnext_roadmap_{step}' for step in STEPS]
TINY = dict(dims=(8, 16, 32, 64), depths=(1, 1, 2, 1), num_classes=5)
# Steps that change depths or dims alone are, with those of TINY, the network of the step before.
SAME_WHEN_TINY = ('convnext_roadmap_stage_ratio', 'convnext_roadmap_width')


def tiny(name: str, **kwargs) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, **{**TINY, **kwargs})


def randomise(model: nn.Module) -> None:
    """Give norms, biases and layer scale values other than their first, so that each layer matters."""
    generator = torch.Generator().manual_seed(1)
    for value in model.state_dict().values():
        if value.is_floating_point():
            fan_in = value[0].numel() if value.ndim > 1 else 1
            noise = torch.rand(value.shape, generator=generator)
            value.copy_((noise - 0.5) * (12 / fan_in) ** 0.5 if value.ndim > 1 else noise + 0.5)


def image(*size: int) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(2))


def test_every_registered_name_is_tested():
    assert set(timm.list_models(module='convnext_roadmap')) == set(NAMES)


@pytest.mark.parametrize('step', list(STEPS))
def test_cost_is_the_published_one(step, counted):
    top1_pct, published_gmacs, millions = STEPS[step]
    _, cost = counted(f'convnext_roadmap_{step}')
    assert cost.size_px == 224
    if step == 'layernorm':  # the figure contradicts table 11 of the paper, see the module's docstring
        assert cost.gmacs == counted('convnext_roadmap_fewer_norms')[1].gmacs
    else:
        assert cost.gmacs == pytest.approx(published_gmacs, rel=0.02 if step == 'separate_downsample' else 0.002)
    assert cost.params == pytest.approx(PUBLISHED_PARAMS.get(step, millions), rel=0.005)
    doc = inspect.getdoc(getattr(convnext_roadmap, f'convnext_roadmap_{step}'))
    numbers = [float(n) for n in re.findall(r'[\d.]+(?= %| GFLOPs| GMACs| M )', doc)]
    assert numbers == [top1_pct, published_gmacs, round(cost.gmacs, 2), millions]
    assert millions == round(cost.params, 2)


# The steps that settle how the blocks are built, and the one whose figure in table 10 is off.
@pytest.mark.parametrize('step', ['depthwise', 'inverted', 'moved_up', 'layernorm', 'separate_downsample'])
def test_cost_is_the_published_one_from_resnet200_too(step):
    width = 84 if step == 'depthwise' else 128
    cost = count(f'convnext_roadmap_{step}', dims=[width * 2**i for i in range(4)], depths=(3, 3, 27, 3))
    assert cost.gmacs == pytest.approx(FROM_RESNET200[step], rel=0.002)


def test_first_step_is_resnet50():
    model = tiny(FIRST, dims=(64, 128, 256, 512)).eval()
    timm_model = timm.create_model('resnet50', layers=TINY['depths'], num_classes=5).eval()
    randomise(timm_model)
    renamed = {}
    for key, value in timm_model.state_dict().items():
        key = re.sub(r'^layer(\d)\.(\d+)', lambda m: f'stages.{int(m[1]) - 1}.blocks.{m[2]}', key)
        key = re.sub(r'^conv1', 'stem.0', re.sub(r'^bn1', 'stem.1', re.sub(r'^fc', 'head.fc', key)))
        renamed[key.replace('.bn', '.norm').replace('downsample', 'shortcut')] = value
    model.load_state_dict(renamed)
    x = image(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(x), timm_model(x))


@pytest.mark.parametrize('output_stride', [8, 16, 32])
@pytest.mark.parametrize('conv_mlp', [False, True])
def test_last_step_is_timms_convnext_tiny(conv_mlp, output_stride):
    kwargs = dict(conv_mlp=conv_mlp, output_stride=output_stride)
    with without_storage():
        shapes = [
            [(k, v.shape) for k, v in timm.create_model(name, **kwargs).state_dict().items()]
            for name in (LAST, 'convnext_tiny')
        ]
    assert shapes[0] == shapes[1]
    model, timm_model = tiny(LAST, **kwargs).eval(), tiny('convnext_tiny', **kwargs).eval()
    randomise(timm_model)
    model.load_state_dict(timm_model.state_dict())
    x = image(2, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(model(x), timm_model(x), rtol=0, atol=0)


@pytest.mark.parametrize('name', ['convnext_roadmap_layernorm', LAST, 'convnext_tiny'])
def test_pointwise_layers_convert_without_change_of_output(name):
    linear, conv = tiny(name).eval(), tiny(name, conv_mlp=True).eval()
    randomise(linear)
    weights = linear.state_dict()
    converted = convert_pointwise(weights, conv_mlp=True)
    conv.load_state_dict(converted)
    assert conv.stages[0].blocks[0].mlp.fc1.weight.ndim == 4
    x = image(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(conv(x), linear(x))
    back = convert_pointwise(converted, conv_mlp=False)
    assert list(back) == list(weights)
    assert all(torch.equal(back[k], v) for k, v in weights.items())


def test_steps_leave_the_norms_and_activations_that_the_paper_leaves():
    def layers(step, kind):
        return sum(isinstance(m, kind) for m in tiny(f'convnext_roadmap_{step}').modules())

    blocks, striding = sum(TINY['depths']), 3
    assert [layers(s, nn.ReLU) for s in ('resnet50', 'patchify', 'kernel7', 'gelu')] == [16, 15, 15, 0]
    assert [layers(s, nn.GELU) for s in ('gelu', 'fewer_acts', 'layernorm')] == [3 * blocks, blocks, blocks]
    assert layers('fewer_acts', nn.BatchNorm2d) == 3 * blocks + striding
    assert layers('fewer_norms', nn.BatchNorm2d) == blocks + striding
    assert (layers('layernorm', nn.BatchNorm2d), layers('layernorm', nn.LayerNorm)) == (0, blocks + striding)
    assert layers('separate_downsample', nn.LayerNorm) == blocks + 1 + 3 + 1  # stem, downsampling, head


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
        if name not in SAME_WHEN_TINY:
            torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), logits)
        again = tiny(name).eval()
        again.load_state_dict(model.state_dict())
        assert torch.equal(again(x), logits)
        torch.testing.assert_close(again.to(memory_format=torch.channels_last)(x), logits, atol=1e-5, rtol=1e-4)
        info = [(i['num_chs'], i['reduction']) for i in model.feature_info]
        shapes = [(c, 64 // s, 64 // s) for c, s in info]
        assert [tuple(f.shape[1:]) for f in stages] == shapes
        assert [tuple(f.shape[1:]) for f in tiny(name, features_only=True).eval()(x)] == shapes
    saving = tiny(name).eval()
    saving.load_state_dict(model.state_dict())
    saving.set_grad_checkpointing()
    model.zero_grad()
    for net in (model, saving):
        torch.testing.assert_close(net(x), logits)
        net(x).square().sum().backward()
    for plain, saved in zip(model.parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(saved.grad, plain.grad)
    groups = timm.models.group_parameters(model, model.group_matcher())
    assert sorted(p for group in groups.values() for p in group) == sorted(n for n, _ in model.named_parameters())
    assert model.get_classifier() is model.head.fc
    assert (model.default_cfg['first_conv'], model.default_cfg['classifier']) == ('stem.0', 'head.fc')
    model.reset_classifier(7)
    assert model(x).shape == (2, 7)
    model.reset_classifier(0, '')
    assert model(x).shape == (2, model.num_features, 2, 2)


@pytest.mark.parametrize('output_stride', [8, 16])
@pytest.mark.parametrize('step', ['resnet50', 'depthwise', 'inverted', 'kernel7', 'layernorm'])
def test_dilation_computes_the_same_at_the_strided_positions(step, output_stride):
    name = f'convnext_roadmap_{step}'
    coarse, fine = tiny(name).eval(), tiny(name, output_stride=output_stride).eval()
    randomise(coarse)
    fine.load_state_dict(coarse.state_dict())
    x = image(1, 3, 96, 128)
    with torch.no_grad():
        strided, dilated = coarse.forward_features(x), fine.forward_features(x)
    assert dilated.shape[-1] == 128 // output_stride
    step = 32 // output_stride
    torch.testing.assert_close(dilated[..., ::step, ::step], strided, rtol=1e-4, atol=1e-4)


def test_layers_can_be_named_as_in_timm():
    model = tiny('convnext_roadmap_fewer_norms', norm_layer='layernorm2d', act_layer='silu')
    block = model.stages[1].blocks[0]
    assert (type(block.norm), type(block.mlp.act)) == (LayerNorm2d, nn.SiLU)


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        (dict(kernel_size=4), 'kernel_size 4 is not odd; choose from 3, 5'),
        (dict(output_stride=4), 'output_stride 4 is not available; choose from 8, 16, 32'),
        (dict(stem_type='deep'), "stem_type 'deep' is unknown; choose from resnet, patch"),
        (dict(norms=(0, 1)), r'norms \(0, 1\) are positions after convolutions; choose from 1, 2, 3'),
        (dict(conv_mlp=False), 'conv_mlp False is not available with ConvNeXtBlock and BatchNorm2d; choose'),
        (dict(dims=(8, 16)), 'must be four positive numbers each'),
    ],
)
def test_wrong_arguments_name_the_choices(wrong, message):
    with pytest.raises(ValueError, match=message):
        timm.create_model('convnext_roadmap_kernel7', **wrong)
