"""Published figures of every model; the relatives of Robust-ResNets: timm's contract, and each idea by hand."""

import copy
import json
from functools import partial

import pytest
import timm
import torch
from timm.models import group_parameters
from torch import nn

from backbones.cost import count, count_gmacs
from backbones.meta import ShapesOnly, without_storage
from backbones.relatives.condensenet import CondensingLinear, LearnedGroupConv
from backbones.relatives.deit_conv_stem import ConvStemEmbed
from backbones.relatives.shake_shake import Shake, ShiftedShortcut, mix
from backbones.relatives.shufflenet_v1 import channel_shuffle
from backbones.relatives.wide_resnet_cifar import WideBlock
from backbones.zoo import FAMILIES, deviation
from distill.cli.models import DOCS, main
from distill.report.models_page import MARKDOWN_HEADER, section

PARAMS_TOLERANCE = 0.005
GMACS_TOLERANCE = 0.02
PUBLISHED = {published.name: published for family in FAMILIES for published in family.models}

# Keywords that make a small network of each module, and the side of its image.
TINY = {
    'cbam_resnet': (dict(layers=(1, 1, 1, 1), channels=(8, 16, 32, 64), stem_width=8), 64),
    'coatnet': (dict(stem_width=16, dims=(32, 32, 64, 64), depths=(1, 1, 2, 1), img_size=64), 64),
    'condensenet': (dict(depths=(2, 2, 2), growths=(8, 8, 16)), 32),
    'deit_conv_stem': (dict(embed_dim=48, depth=3, num_heads=3, img_size=64), 64),
    'shake_shake': (dict(width=8, depth=8), 32),
    'shufflenet_v1': (dict(width=0.2, depths=(1, 2, 1)), 64),
    'wide_resnet_cifar': (dict(widen_factor=1, depth=10), 32),
}
NAMES = [(name, module) for module in TINY for name in timm.list_models(module=module)]


def tiny(name: str, module: str, **kwargs) -> tuple[nn.Module, torch.Tensor]:
    """A small network with running statistics that are not the initial ones, and two images for it."""
    torch.manual_seed(0)
    args, size = TINY[module]
    model = timm.create_model(name, num_classes=5, **args, **kwargs)
    image = torch.randn(2, 3, size, size)
    for _ in range(2):
        model(image)
    return model.eval(), image


def gradients(model: nn.Module, image: torch.Tensor) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    model.zero_grad()
    model.train()(image).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    return {key: p.grad.clone() for key, p in model.named_parameters()}


@pytest.mark.parametrize('family', FAMILIES, ids=lambda family: family.title)
def test_costs_are_the_published_ones_and_those_in_the_docs(family, counted):
    costs = {
        published.name: count(published.name, **published.kwargs) if published.kwargs else counted(published.name)[1]
        for published in family.models
    }
    for published in family.models:
        cost = costs[published.name]
        if published.params:
            assert deviation(cost.params, published.params) <= PARAMS_TOLERANCE, (published, cost)
        if published.gmacs:
            met = deviation(cost.gmacs - published.uncounted, published.gmacs) <= GMACS_TOLERANCE
            assert met != published.at_odds, (published, cost)
    assert section(family, costs) in DOCS.read_text(encoding='utf-8'), 'run python tools/list_models.py --markdown'


def test_the_docs_have_a_section_for_each_family_and_no_other():
    text = DOCS.read_text(encoding='utf-8')
    assert text.startswith(MARKDOWN_HEADER)
    assert [line[3:] for line in text.splitlines() if line.startswith('## ')] == [family.title for family in FAMILIES]


def test_the_table_holds_every_registered_model():
    modules = {name: timm.model_entrypoint(name).__module__ for name in timm.list_models()}
    registered = {name: module.split('.') for name, module in modules.items() if module.startswith('backbones.')}
    assert registered.keys() <= PUBLISHED.keys()
    assert len(PUBLISHED) == sum(len(family.models) for family in FAMILIES)
    # The families with a file of tests of their own, and those tested here.
    elsewhere = ('robust_resnet', 'resnest_fast', 'convnext_roadmap')
    assert {name for name, _ in NAMES} == {name for name, path in registered.items() if path[-1] not in elsewhere}


def test_one_published_figure_is_not_met():
    assert [name for name, published in PUBLISHED.items() if published.at_odds] == ['convnext_roadmap_layernorm']


def test_a_model_without_storage_costs_what_a_real_one_costs():
    model, image = tiny('shufflenet_v1_g3_x1_0', 'shufflenet_v1')
    logits = model(image)
    with without_storage():
        empty = tiny('shufflenet_v1_g3_x1_0', 'shufflenet_v1')[0]
    shapes = [{key: value.shape for key, value in network.state_dict().items()} for network in (empty, model)]
    assert shapes[0] == shapes[1]
    assert all(value.is_meta for value in empty.state_dict().values())
    assert count_gmacs(empty, 64) == count_gmacs(model, 64) > 0
    # Initial values and norms are left out where there are no values, and nowhere else.
    with ShapesOnly():
        assert torch.equal(model(image), logits)
        assert torch.ones(3).normal_(generator=torch.Generator().manual_seed(0)).std() > 0


def test_deviation_counts_from_the_nearest_number_that_rounds_to_the_printed_one():
    assert deviation(25.4, '25') == 0
    assert deviation(26.0, '25') == pytest.approx(0.02)
    assert deviation(24.0, '25.00') == pytest.approx(0.995 / 25)


@pytest.mark.parametrize('name', ['convmixer_768_32', 'condensenet74_g8', 'condensenet86_cifar'])
def test_what_a_source_counts_otherwise_is_what_the_table_says(name, counted):
    model, _ = counted(name)
    found, hooks = [], []

    def count_depthwise(module, inputs, output):
        if module.groups > 1:
            found.append(output.numel() * module.kernel_size[0] ** 2)

    def count_inputs(module, inputs, output):
        found.append(-inputs[0].numel())

    for module in model.modules():
        if name.startswith('convmixer') and isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(count_depthwise))
        elif name.startswith('condensenet') and isinstance(module, (nn.ReLU, nn.AvgPool2d)):
            hooks.append(module.register_forward_hook(count_inputs))
    model(torch.empty(1, *model.default_cfg['input_size'], device='meta'))
    for hook in hooks:
        hook.remove()
    assert sum(found) / 1e9 == pytest.approx(PUBLISHED[name].uncounted, abs=6e-4)


@pytest.mark.parametrize(('name', 'module'), NAMES)
def test_contract_of_a_timm_model(name, module):
    model, image = tiny(name, module)
    plain = gradients(model, image)
    restored = tiny(name, module)[0]
    model.set_grad_checkpointing()
    for key, gradient in gradients(model, image).items():
        torch.testing.assert_close(gradient, plain[key], atol=1e-4, rtol=1e-3, msg=key)
    model.set_grad_checkpointing(False)
    model.eval()

    with torch.no_grad():
        logits = model(image)
        close = partial(torch.testing.assert_close, atol=1e-5, rtol=1e-4)
        assert torch.equal(model(image), logits)
        close(model.forward_head(model.forward_features(image)), logits)
        restored.load_state_dict(model.state_dict())
        close(restored(image), logits)
        close(copy.deepcopy(model).to(memory_format=torch.channels_last)(image), logits)
        final, features = model.forward_intermediates(image)
        close(final, model.forward_features(image))
        assert len(features) == len(model.feature_info)
        for feature, info in zip(features, model.feature_info, strict=True):
            side = image.shape[-1] // info['reduction']
            assert feature.shape == (2, info['num_chs'], side, side)

    groups = group_parameters(model, model.group_matcher())
    assert sum(map(len, groups.values())) == len(list(model.parameters()))
    keys = model.state_dict()
    for key in (model.default_cfg['first_conv'], model.default_cfg['classifier']):
        assert f'{key}.weight' in keys
    assert model.get_classifier().weight.shape == (5, model.head_hidden_size)
    model.reset_classifier(7)
    assert model(image).shape == (2, 7)
    model.reset_classifier(0)
    assert model(image).shape == (2, model.head_hidden_size)


@pytest.mark.parametrize(('name', 'module'), NAMES)
def test_features_only_has_the_shapes_of_feature_info(name, module):
    backbone, image = tiny(name, module, features_only=True)
    features = backbone(image)
    assert len(features) >= 3
    for feature, chs, stride in zip(
        features, backbone.feature_info.channels(), backbone.feature_info.reduction(), strict=True
    ):
        assert feature.shape == (2, chs, image.shape[-1] // stride, image.shape[-1] // stride)
    assert not any(key.startswith('head') for key in backbone.state_dict())


# The tiny keywords make one network of most modules; these names still differ in their blocks or groups.
EXPORTED = {timm.list_models(module=module)[0]: module for module in TINY} | {
    'cbam_resnet18': 'cbam_resnet',
    'condensenet74_g8': 'condensenet',
    'condensenet86_cifar': 'condensenet',
}


@pytest.mark.parametrize(('name', 'module'), EXPORTED.items())
def test_export_computes_the_same(name, module):
    model, image = tiny(name, module)
    exported = torch.export.export(model, (image,)).module()
    torch.testing.assert_close(exported(image), model(image), atol=1e-5, rtol=1e-4)


def test_resnets_start_as_the_identity_and_dilate():
    model = timm.create_model('resnet18', output_stride=8, features_only=True)
    assert model.feature_info.reduction() == [2, 4, 8, 8, 8]
    assert [f.shape[-1] for f in model(torch.zeros(1, 3, 64, 64))] == [32, 16, 8, 8, 8]
    assert not timm.create_model('resnet18').layer2[1].bn2.weight.any()


def test_cbam_bottlenecks_stride_in_their_first_convolution():
    block = timm.create_model('cbam_resnet50', **TINY['cbam_resnet'][0]).layer2[0]
    assert (block.conv1.stride, block.conv2.stride) == ((2, 2), (1, 1))
    assert type(block.se).__name__ == 'CbamModule'


def test_mix_weighs_values_and_gradients_apart():
    a, b = torch.tensor(3.0, requires_grad=True), torch.tensor(1.0, requires_grad=True)
    mixed = mix(a, b, torch.tensor(0.25), torch.tensor(0.9))
    mixed.backward(torch.tensor(2.0))
    assert mixed.item() == pytest.approx(0.25 * 3 + 0.75 * 1)
    assert a.grad.item() == pytest.approx(1.8)
    assert b.grad.item() == pytest.approx(0.2)


def test_shake_draws_a_weight_for_each_image_and_pass():
    torch.manual_seed(0)
    a, b = torch.ones(64, 2, 1, 1, requires_grad=True), torch.zeros(64, 2, 1, 1)
    shake = Shake()
    mixed = shake(a, b)
    mixed.sum().backward()
    forward, backward = mixed.detach()[:, 0, 0, 0], a.grad[:, 0, 0, 0]
    assert torch.equal(mixed[:, 0], mixed[:, 1])
    for weights in (forward, backward):
        assert weights.unique().numel() == 64
        assert 0 <= weights.min() < 0.1
        assert 0.9 < weights.max() <= 1
    assert (forward - backward).abs().mean() > 0.2
    assert (shake(a, b) - mixed).abs().mean() > 0.2
    even = shake.eval()(a, b)
    assert torch.equal(even, torch.full_like(even, 0.5))
    kept_even = Shake(shake_forward=False)(a, b)
    torch.testing.assert_close(kept_even, torch.full_like(kept_even, 0.5))


def test_the_second_view_of_a_shortcut_is_one_pixel_down_and_right():
    shortcut = ShiftedShortcut(1, 2, stride=2).eval()
    nn.init.ones_(shortcut.conv1.weight)
    nn.init.ones_(shortcut.conv2.weight)
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    with torch.no_grad():
        y = shortcut(x).round()
    assert y.tolist() == [[[[0, 2], [8, 10]], [[0, 0], [0, 5]]]]


def test_channel_shuffle_deals_the_groups_out():
    x = torch.arange(6.0).reshape(1, 6, 1, 1)
    assert channel_shuffle(x, 3).flatten().tolist() == [0, 2, 4, 1, 3, 5]
    assert torch.equal(channel_shuffle(channel_shuffle(x, 3), 2), x)


def test_channel_shuffle_keeps_the_memory_format():
    x = torch.randn(2, 6, 3, 4)
    pixels = x.to(memory_format=torch.channels_last).requires_grad_()
    shuffled = channel_shuffle(pixels, 3)
    assert torch.equal(shuffled, channel_shuffle(x, 3))
    assert shuffled.is_contiguous(memory_format=torch.channels_last)
    shuffled.backward(channel_shuffle(x, 3).to(memory_format=torch.channels_last))
    assert torch.equal(pixels.grad, x)
    assert pixels.grad.is_contiguous(memory_format=torch.channels_last)
    assert channel_shuffle(x, 3).is_contiguous()


def test_a_wide_block_pre_activates_its_shortcut_where_the_width_changes():
    x = torch.full((1, 2, 4, 4), -1.0)
    for out_chs, expected in [(2, -1.0), (4, 0.0)]:
        block = WideBlock(2, out_chs).eval()
        nn.init.zeros_(block.conv2.weight)
        assert torch.equal(block(x), torch.full((1, out_chs, 4, 4), expected))


def hand_made() -> LearnedGroupConv:
    """Four inputs, four filters in two groups: filters 0 and 2, and 1 and 3."""
    conv = LearnedGroupConv(4, 4, groups=2, condense_factor=4)
    weight = [[3.0, 0.0, 0.5, 5.0], [1.0, 1.0, 0.0, 2.0], [4.0, 2.0, -1.0, 12.0], [0.0, 1.0, 3.0, 2.0]]
    conv.conv.weight.data = torch.tensor(weight)[..., None, None]
    return conv


def test_group_lasso_by_hand():
    conv = hand_made()
    norms = [5, 2, 1.25**0.5, 13] + [1, 2**0.5, 3, 8**0.5]  # columns of (filters 0, 2) and of (1, 3)
    loss = conv.lasso_loss()
    assert loss.item() == pytest.approx(sum(norms))
    loss.backward()
    assert conv.conv.weight.grad[0, 0].item() == pytest.approx(3 / 5)
    conv.condense()
    assert conv.lasso_loss().item() == pytest.approx(5 + 2 + 13 + 2**0.5 + 3 + 8**0.5)
    conv.conv.weight.grad = None
    conv.lasso_loss().backward()
    assert conv.conv.weight.grad.isfinite().all()
    conv.set_progress(0.5)
    assert conv.lasso_loss().item() == 0


def test_each_stage_prunes_the_weakest_input_of_each_group():
    conv = hand_made()
    masks = []
    for _ in range(3):
        conv.condense()
        masks.append(conv.mask.flatten(1)[:2].tolist())
        assert torch.equal(conv.mask[:2], conv.mask[2:])
    # L1 norms: (7, 2, 1.5, 17) and (1, 2, 3, 4).
    assert masks[0] == [[1, 1, 0, 1], [0, 1, 1, 1]]
    assert masks[1] == [[1, 0, 0, 1], [0, 0, 1, 1]]
    assert masks[2] == [[0, 0, 0, 1], [0, 0, 0, 1]]


def test_pruning_is_spread_over_the_first_half_of_training():
    for progress, stage in [(0.0, 0), (0.16, 0), (1 / 6, 1), (0.3, 1), (1 / 3, 2), (0.49, 2), (0.5, 3), (1.0, 3)]:
        conv = hand_made()
        conv.set_progress(progress)
        assert conv.stage.item() == stage, progress
    linear = CondensingLinear(4, 2)
    linear.weight.data = torch.tensor([[1.0, -2.0, 0.5, 3.0], [1.0, 0.5, 0.5, 3.0]])
    linear.condense()
    linear.condense()
    assert linear.mask.tolist() == [0, 1, 0, 1]


def test_conversion_to_group_convolutions_changes_no_output():
    model, image = tiny('condensenet74_g4', 'condensenet')
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    with pytest.raises(ValueError, match=r'0 of 3 condensing stages have run; call set_progress\(0.5\) first'):
        model.to_group_conv()
    dense = model(image)
    model.set_progress(0.5)
    pruned = model(image)
    assert (pruned - dense).abs().max() > 0.01
    converted = model.to_group_conv()
    torch.testing.assert_close(converted(image), pruned, atol=1e-5, rtol=1e-5)
    conv = converted.stages[0][0].conv1.conv
    assert conv.weight.shape == (32, 4, 1, 1)
    assert (conv.groups, converted.head.fc.in_features) == (4, model.num_features // 2)

    # Masks are part of the state, and a pruned weight stays pruned in training.
    restored, _ = tiny('condensenet74_g4', 'condensenet')
    restored.load_state_dict(model.state_dict())
    torch.testing.assert_close(restored(image), pruned)
    torch.testing.assert_close(restored.to_group_conv()(image), pruned, atol=1e-5, rtol=1e-5)
    layer = model.stages[0][0].conv1
    gradient = gradients(model, image)['stages.0.0.conv1.conv.weight']
    assert not gradient[layer.mask == 0].any()
    assert gradient[layer.mask == 1].any()


def test_the_convolutional_stem_makes_one_token_of_16_pixels():
    stem = ConvStemEmbed(64, 16, embed_dim=48)
    assert stem(torch.zeros(2, 3, 64, 64)).shape == (2, 16, 48)
    convs = [module for module in stem.proj if isinstance(module, nn.Conv2d)]
    assert [(c.out_channels, c.kernel_size[0], c.stride[0]) for c in convs] == [
        (6, 3, 2),
        (12, 3, 2),
        (24, 3, 2),
        (48, 3, 2),
        (48, 1, 1),
    ]


@pytest.mark.parametrize(
    ('name', 'wrong', 'message'),
    [
        ('shake_shake26_2x32d', dict(depth=27), 'depth 27 is not 6n'),
        ('wide_resnet28_10', dict(depth=27), 'depth 27 is not 6n'),
        ('shufflenet_v1_g3_x1_0', dict(groups=5), 'groups 5 is not available; choose from 1, 2, 3, 4, 8'),
        ('condensenet74_g4', dict(depths=(1, 1)), '2 depths and 5 growths'),
        ('condensenet74_g4', dict(condense_factor=3), 'do not divide by condense_factor 3'),
        ('deit_small_conv_stem_224', dict(patch_size=8), 'patch_size 8 is not available .* choose 16'),
    ],
)
def test_wrong_arguments_name_the_choices(name, wrong, message):
    with pytest.raises(ValueError, match=message):
        timm.create_model(name, **wrong)


def test_progress_is_a_share():
    with pytest.raises(ValueError, match='progress 60 is not a share'):
        tiny('condensenet74_g4', 'condensenet')[0].set_progress(60)


def test_the_list_prints_its_rows_and_says_so_when_nothing_matches(capsys, tmp_path):
    assert main(['wide_resnet28*', '--json', str(tmp_path / 'list.json')]) == 0
    row = json.loads((tmp_path / 'list.json').read_text())['wide_resnet28_10']
    assert (row['strides'], row['published']['top1_pct']) == ([1, 2, 4], '96.00')
    assert '36.48 (36.5)' in capsys.readouterr().out
    assert main(['cotnet*']) == 1
    assert (
        capsys.readouterr().err.splitlines()[-1].endswith('no model matches cotnet*; without patterns all are listed')
    )
