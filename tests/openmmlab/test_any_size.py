"""Any timm model takes any image size, in one of a few ways, and its maps line up with their strides."""

import copy
import math
from pathlib import Path

import pytest
import timm
import torch

pytest.importorskip('mmdet')

from backbones.openmmlab import TimmBackbone
from backbones.openmmlab.input_sizes import Fitted, Native, Tiled
from backbones.openmmlab.models_page import examples, row

PAGE = Path(__file__).parents[2] / 'docs' / 'timm_backbones.md'
SMALL_VIT = dict(embed_dim=48, depth=2, num_heads=3, out_indices=(0, 1))
BEIT = 'beit_base_patch16_224'
RELATIVE = 'vit_relpos_small_patch16_224'
WAYS = {
    'inception_v3': (Native, dict(out_indices=(2, 3))),  # no padding: a margin
    'test_maxvit': (Native, dict(out_indices=(1, 2))),  # windows
    BEIT: (Fitted, SMALL_VIT),
    RELATIVE: (Fitted, SMALL_VIT),
    'cait_xxs24_224': (Fitted, dict(embed_dim=48, depth=2, num_heads=4, out_indices=(0, 1))),
    'convit_tiny': (Fitted, dict(embed_dim=48, depth=2, num_heads=4, local_up_to_layer=1, out_indices=(0, 1))),
    'levit_128s': (Fitted, dict(out_indices=(0, 1))),
    'pit_ti_224': (Fitted, dict(out_indices=(0, 1))),
    'nest_tiny': (Fitted, dict(out_indices=(0,))),
    'mixer_s16_224': (Tiled, dict(out_indices=(0, 1))),
}


def build(model: str, **more) -> TimmBackbone:
    torch.manual_seed(0)
    backbone = TimmBackbone(model, **WAYS[model][1], **more)
    for name, parameter in backbone.named_parameters():
        if 'pos_embed' in name or 'bias_table' in name or 'attention_biases' in name:  # zero at first in some models
            torch.nn.init.normal_(parameter)
    return backbone.eval()


def network_of(model: str, **more) -> torch.nn.Module:
    """timm's own model with the weights of `build`."""
    arguments = {key: value for key, value in WAYS[model][1].items() if key != 'out_indices'}
    network = timm.create_model(model, num_classes=0, **arguments, **more).eval()
    network.load_state_dict(build(model).net.state_dict(), strict=False)
    return network


def maps_of(network, x: torch.Tensor, out_indices) -> list[torch.Tensor]:
    return network.forward_intermediates(x, indices=list(out_indices), intermediates_only=True)


@pytest.mark.parametrize('model', WAYS)
def test_maps_line_up_at_any_size_and_learn(model):
    backbone = build(model).train()
    assert type(backbone._way) is WAYS[model][0]
    for height, width in ((64, 96), (97, 50)):
        maps = backbone(torch.randn(2, 3, height, width))
        expected = [
            (2, c, math.ceil(height / s), math.ceil(width / s))
            for c, s in zip(backbone.channels, backbone.strides, strict=True)
        ]
        assert [tuple(m.shape) for m in maps] == expected
        sum(m.square().mean() for m in maps).backward()
    assert [name for name, p in backbone.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


@pytest.mark.parametrize('model', [m for m in WAYS if m not in ('inception_v3', 'pit_ti_224')])
def test_own_size_gives_timms_maps_before_and_after_another_size(model):
    backbone = build(model)
    own = backbone.net.pretrained_cfg['input_size'][-2:]
    image = torch.randn(1, 3, *own)
    with torch.no_grad():
        expected = maps_of(network_of(model), image, WAYS[model][1]['out_indices'])
        for _ in range(2):
            assert all(torch.equal(found, m) for found, m in zip(backbone(image), expected, strict=True))
            backbone(torch.randn(1, 3, 64, 96))


@pytest.mark.parametrize('model', [BEIT, RELATIVE])
def test_another_size_gives_the_maps_of_the_model_that_timm_resizes(model):
    image = torch.randn(1, 3, 64, 96)
    network = network_of(model)
    network.set_input_size((64, 96))
    with torch.no_grad():
        for found, expected in zip(build(model)(image), maps_of(network, image, (0, 1)), strict=True):
            torch.testing.assert_close(found, expected)


def test_same_area_in_another_shape_is_another_size():
    backbone = build(BEIT)
    network = network_of(BEIT)
    network.set_input_size((112, 448))
    image = torch.randn(1, 3, 112, 448)
    with torch.no_grad():
        torch.testing.assert_close(backbone(image)[-1], maps_of(network, image, (1,))[0])


def test_margin_aligns_maps_with_the_image():
    """The middle of what a pixel of a map sees is its place in the image, in a network that does not pad."""
    torch.manual_seed(0)
    backbone = TimmBackbone('inception_v3', out_indices=(1, 2, 3)).eval()
    image = torch.randn(2, 3, 320, 320, requires_grad=True)
    assert backbone._way.margin > 0
    for map_, stride in zip(backbone(image), backbone.strides, strict=True):
        middle = map_.shape[-1] // 2
        (gradient,) = torch.autograd.grad(map_[..., middle, middle].sum(), image, retain_graph=True)
        weight = gradient.abs().sum((0, 1, 2))
        centre = (weight * torch.arange(320)).sum() / weight.sum()
        assert abs(centre - (middle + 0.5) * stride) < stride


def test_tiles_are_put_together_in_their_order():
    backbone = build('mixer_s16_224')
    tiles = torch.randn(6, 3, 224, 224)
    image = torch.cat([torch.cat(list(tiles[:3]), dim=-1), torch.cat(list(tiles[3:]), dim=-1)], dim=-2)[None]
    with torch.no_grad():
        whole, single = backbone(image)[-1], backbone(tiles)[-1]
    assert whole.shape == (1, 512, 28, 42)
    torch.testing.assert_close(whole[0, :, 14:, 28:], single[5])
    torch.testing.assert_close(whole[0, :, :14, 14:28], single[1])


def test_fitting_changes_neither_names_nor_weights_nor_random_numbers():
    backbone = build(BEIT)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    torch.manual_seed(1)
    backbone(torch.zeros(1, 3, 64, 96))
    after = torch.randn(3)
    torch.manual_seed(1)
    assert torch.equal(after, torch.randn(3))
    assert {name: value.shape for name, value in backbone.state_dict().items()} == {
        k: v.shape for k, v in before.items()
    }
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
    twin, image = copy.deepcopy(backbone), torch.randn(1, 3, 96, 64)
    assert torch.equal(twin(image)[-1], backbone(image)[-1])
    torch.manual_seed(0)
    first = TimmBackbone(BEIT, **SMALL_VIT).net.blocks[0].attn.qkv.weight
    torch.manual_seed(0)
    options = {key: value for key, value in SMALL_VIT.items() if key != 'out_indices'}
    assert torch.equal(first, timm.create_model(BEIT, num_classes=0, **options).blocks[0].attn.qkv.weight)


def test_recomputed_activations_have_the_size_of_their_image():
    gradients = []
    for with_cp in (False, True):
        backbone = build(BEIT, with_cp=with_cp).train()
        torch.manual_seed(2)
        sum(m.square().mean() for m in backbone(torch.randn(1, 3, 64, 96))).backward()
        gradients.append(dict(backbone.named_parameters())['net.blocks.0.attn.relative_position_bias_table'].grad)
    assert gradients[0].abs().sum() > 0
    torch.testing.assert_close(*gradients)


def test_indices_made_while_judging_serve_training():
    image, gradients = torch.randn(1, 3, 64, 96), []
    for judges_first in (False, True):
        torch.manual_seed(0)
        backbone = build(BEIT)
        if judges_first:
            with torch.inference_mode():
                backbone(image)
        backbone.train()(image)[-1].square().mean().backward()
        gradients.append(dict(backbone.named_parameters())['net.blocks.0.attn.relative_position_bias_table'].grad)
    assert gradients[0].abs().sum() > 0
    assert torch.equal(*gradients)


def test_model_whose_strides_are_not_true_is_refused_when_built():
    options = dict(depth=((1, 1, 0),), num_heads=(3, 3), embed_dim=(48, 96))
    with pytest.raises(ValueError, match=r'crossvit_9_240 cannot take images of any size: .*\(14, 14\).*such as deit'):
        TimmBackbone('crossvit_9_240', out_indices=(1,), **options)
    assert TimmBackbone('crossvit_9_240', out_indices=(0,), **options).strides == (12,)


@pytest.mark.parametrize('module', sorted(examples())[3::9])
def test_page_says_how_models_take_any_size(module):
    assert row(module, examples()[module]) in PAGE.read_text().splitlines()


def test_page_has_all_modules():
    rows = [line.split(' | ')[0].strip('| ') for line in PAGE.read_text().splitlines() if line.startswith('| ')]
    assert rows[2:] == sorted(examples())


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(model='resnet18', features_only=True), "takes no 'features_only'; leave it out.*out_indices"),
        (dict(model='resnet18', checkpoint_path='a.pth'), r"write checkpoint='a\.pth'"),
        (dict(model='resnet18', pretrained='a.pth'), r"write checkpoint='a\.pth'"),
        (dict(model='resnet18', checkpoint=True), 'write pretrained=True'),
        (dict(model_name='resnet18'), "write model='resnet18'"),
        (dict(model=50), 'model 50 is no name'),
        (
            dict(model='resnet18', init_cfg=dict(type='Pretrained', checkpoint='a.pth', prefix='backbone.')),
            r"write checkpoint='a\.pth', checkpoint_prefix='backbone\.'",
        ),
        (
            dict(model='resnet18', init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet18')),
            'write pretrained=True',
        ),
        (dict(model='resnet18', in_channels=3), 'write in_chans=3'),
        (dict(model='resnet18', depth=50), "takes no 'depth'.*_delete_=True"),
        (dict(model='volo_d1_224', embed_dims=(8, 8, 8, 8)), "sets 'embed_dims' itself; leave it out"),
        (dict(model='resnet18', frozen_stage=1), 'did you mean frozen_stages'),
        # What mmdet's ResNet leaves in a config that is merged; a transformer would take the depth.
        (
            dict(model='deit_tiny_patch16_224', depth=50, num_stages=4, norm_cfg=dict(type='BN'), style='pytorch'),
            "takes no 'num_stages'.*_delete_=True",
        ),
    ],
)
def test_argument_that_is_meant(arguments, message):
    with pytest.raises(ValueError, match=message) as raised:
        TimmBackbone(**arguments)
    assert '\n' not in str(raised.value)
