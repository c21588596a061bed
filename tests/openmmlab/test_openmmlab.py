"""The OpenMMLab side: TimmBackbone, StagePyramid and the stride check."""

import math
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

from mmengine.registry import MODELS, init_default_scope

from backbones.checkpoint import save_model
from backbones.meta import without_storage
from backbones.openmmlab import StagePyramid, TimmBackbone, check_strides
from backbones.record import ModelRecord

TINY = dict(dims=(8, 16, 24, 32), depths=(1, 1, 2, 1), kernel_size=3)
VIT = dict(embed_dim=32, depth=4, num_heads=2, out_indices=(0, 1, 2, 3))
SWIN = dict(embed_dim=16, depths=(1, 2, 1, 1), num_heads=(1, 1, 2, 2))
FAMILIES = {
    'robust_resnet_dw_small': (dict(patch_size=16, **TINY), (32, 64, 96, 128), (16, 16, 16, 32)),
    'robust_resnet_down_inverted_dw_small': (dict(patch_size=16, **TINY), (8, 16, 24, 32), (16, 16, 32, 32)),
    'resnet18': (dict(channels=(8, 16, 24, 32)), (8, 16, 24, 32), (4, 8, 16, 32)),
    'vit_tiny_patch16_224': (VIT, (32,) * 4, (16,) * 4),
    'deit_tiny_distilled_patch16_224': (VIT, (32,) * 4, (16,) * 4),
    'swin_tiny_patch4_window7_224': (SWIN, (16, 32, 64, 128), (4, 8, 16, 32)),
}


# ---------------------------------------------------------------------------------------------------------------
# TimmBackbone


@pytest.mark.parametrize('scope', ['mmdet', 'mmseg'])
@pytest.mark.parametrize('model', FAMILIES)
def test_backbone_returns_maps_of_any_input_size(scope, model):
    arguments, channels, strides = FAMILIES[model]
    init_default_scope(scope)
    registry = __import__(f'{scope}.registry', fromlist=['MODELS']).MODELS
    backbone = registry.build(dict(type='TimmBackbone', model=model, strides=strides, **arguments)).train()
    assert type(backbone) is TimmBackbone
    assert (backbone.channels, backbone.strides) == (channels, strides)
    maps = backbone(torch.randn(2, 3, 70, 45))
    sizes = [(c, math.ceil(70 / s), math.ceil(45 / s)) for c, s in zip(channels, strides, strict=True)]
    assert [tuple(m.shape[1:]) for m in maps] == sizes
    sum(m.square().mean() for m in maps).backward()
    assert not [name for name, p in backbone.named_parameters() if p.grad is None]


def test_backbone_equals_the_timm_model():
    backbone = TimmBackbone('resnet18', channels=(8, 16, 24, 32)).eval()
    network = timm.create_model('resnet18', channels=(8, 16, 24, 32), features_only=True, out_indices=(1, 2, 3, 4))
    network.load_state_dict(backbone.net.state_dict(), strict=False)
    x = torch.randn(1, 3, 64, 96)
    for found, expected in zip(backbone(x), network.eval()(x), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('model', ['robust_resnet_dw_small', 'vit_tiny_patch16_224'])
def test_last_rows_are_seen(model):
    backbone = TimmBackbone(model, **FAMILIES[model][0]).eval()
    image = torch.zeros(1, 3, 41, 35)
    marked = image.clone()
    marked[:, :, -3:, -2:] = 5
    for clean, changed in zip(backbone(image), backbone(marked), strict=True):
        assert (clean[..., -1, -1] != changed[..., -1, -1]).any()


@pytest.mark.parametrize('model', ['robust_resnet_dw_small', 'resnet18', 'deit_tiny_distilled_patch16_224'])
def test_checkpoint_is_loaded_and_survives_init_weights(model, tmp_path):
    arguments = dict(FAMILIES[model][0])
    out_indices = arguments.pop('out_indices', (-4, -3, -2, -1))
    network = timm.create_model(model, num_classes=7, **arguments)
    torch.save(network.state_dict(), tmp_path / 'plain.pth')
    save_model(
        tmp_path / 'described.pth',
        network,
        ModelRecord(model, {**arguments, 'num_classes': 7}),
    )
    plain = TimmBackbone(model, out_indices, checkpoint=str(tmp_path / 'plain.pth'), **arguments)
    described = TimmBackbone(out_indices=out_indices, checkpoint=str(tmp_path / 'described.pth'))
    expected = network.state_dict()
    for backbone in (plain, described):
        nn.ModuleDict({'backbone': backbone})
        backbone.init_weights()
        state = backbone.net.state_dict()
        assert len(state) > 10
        assert all(torch.equal(value, expected[key]) for key, value in state.items())


def test_checkpoint_that_does_not_fit(tmp_path):
    arguments = dict(channels=(8, 16, 24, 32))
    network = timm.create_model('resnet18', num_classes=3, **arguments)
    weights = network.state_dict()
    path = str(tmp_path / 'a.pth')

    torch.save({k: v for k, v in weights.items() if k != 'layer2.0.conv1.weight'}, path)
    with pytest.raises(ValueError, match=r'resnet18: 1 missing \(layer2.0.conv1.weight\)'):
        TimmBackbone('resnet18', checkpoint=path, **arguments)
    torch.save({**weights, 'layer9.weight': torch.ones(1)}, path)
    with pytest.raises(ValueError, match=r'1 unexpected \(layer9.weight\)'):
        TimmBackbone('resnet18', checkpoint=path, **arguments)
    torch.save({'model': weights, 'extra': nn.ReLU()}, path)
    with pytest.raises(ValueError, match='holds Python objects'):
        TimmBackbone('resnet18', checkpoint=path, **arguments)
    save_model(path, network, ModelRecord.from_json({'model': 'resnet18', 'model_kwargs': arguments}))
    with pytest.raises(ValueError, match='holds resnet18 and not resnet34; change either'):
        TimmBackbone('resnet34', checkpoint=path)
    with pytest.raises(FileNotFoundError, match=r'none\.pth'):
        TimmBackbone('resnet18', checkpoint=str(tmp_path / 'none.pth'))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(model='robust_resnet_dw_smal'), 'robust_resnet_dw_small'),
        (dict(), 'no model'),
        (dict(model='resnet18', out_indices=(0, 5)), r'\[5\].*0 to 4'),
        (dict(model='resnet18', out_indices=(3, 1)), r'\[3, 1\].*in the order of the network'),
        (dict(model='resnet18', out_indices=(1, -4)), r'\[1, 1\].*rising from 0 to 4'),
        (dict(model='resnet18', out_indices=()), 'at least one'),
        (dict(model='resnet18', out_indices=3), r'out_indices 3 is no list of stages'),
        (dict(model='resnet18', frozen_stages=5), r'frozen_stages 5 is not available; choose from -1 \(none\) to 4'),
        (dict(model='resnet18', frozen_stages=-2), 'frozen_stages -2'),
        (dict(model='resnet18', dcn_stages=(False, True, True, True)), 'write their numbers'),
        (dict(model='resnest50d', dcn_stages=(-1,)), r'dcn_stages \[-1\] count from 0 after the stem'),
        (dict(model='resnet18', output_stride=4), 'output_stride 4 is not available with resnet18; choose from 8, 16'),
        (dict(model='robust_resnet_dw_small', output_stride=4), 'with patch_size 16; choose from 16, 32'),
        (dict(model='deit_tiny_patch16_224', output_stride=8), "deit_tiny_patch16_224 takes no 'output_stride'"),
        (dict(model='densenet121', drop_path_rate=0.1), "densenet121 takes no 'drop_path_rate'; leave it out"),
        (dict(model='resnet18', drop_path_rate=2), 'drop_path_rate 2 is no probability'),
        (dict(model='hrnet_w18_small', with_cp=True), 'with_cp is not available with hrnet_w18_small'),
        (dict(model='resnet18', strides=(8, 8, 16, 32)), r'\(8, 8, 16, 32\).*\(4, 8, 16, 32\)'),
        (dict(model='resnet18', checkpoint='a.pth', pretrained=True), 'exclude'),
    ],
)
def test_wrong_arguments(arguments, message):
    with without_storage(), pytest.raises(ValueError, match=message):
        TimmBackbone(**arguments)


def test_options_reach_the_model():
    backbone = TimmBackbone(
        'robust_resnet_dw_small', patch_size=4, output_stride=16, drop_path_rate=0.3, with_cp=True, **TINY
    )
    assert backbone.strides == (4, 8, 16, 16)
    rates = [m.drop_prob for m in backbone.modules() if type(m).__name__ == 'DropPath']
    assert max(rates) == pytest.approx(0.3)
    assert all(m.grad_checkpointing for m in backbone.modules() if hasattr(m, 'grad_checkpointing'))
    only = TimmBackbone('resnet18', out_indices=(1, 2), channels=(8, 16, 24, 32))
    assert not [name for name, _ in only.named_parameters() if 'layer3' in name]


def test_frozen_stages_stay_as_they_are():
    backbone = TimmBackbone('resnet18', frozen_stages=2, channels=(8, 16, 24, 32)).train()
    frozen = {name.split('.')[1] for name, p in backbone.named_parameters() if not p.requires_grad}
    assert frozen == {'conv1', 'bn1', 'layer1', 'layer2'}
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    sum(m.mean() for m in backbone(torch.randn(2, 3, 64, 64))).backward()
    changed = {name.split('.')[1] for name, value in backbone.state_dict().items() if not value.equal(before[name])}
    assert changed == {'layer3', 'layer4'}  # running statistics
    norms = [m for m in TimmBackbone('resnet18', norm_eval=True).train().modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 20
    assert not any(m.training for m in norms)


# ---------------------------------------------------------------------------------------------------------------
# Strides


@pytest.mark.parametrize('strides', [(16, 16, 16, 32), (16, 16, 32, 32), (8, 8, 16, 32), (16, 16, 16, 16)])
def test_pyramid_from_any_strides(strides):
    pyramid = MODELS.build(dict(type='StagePyramid', in_channels=(4, 8, 12, 16), in_strides=strides, out_channels=6))
    maps = [torch.randn(1, c, 64 // s, 96 // s) for c, s in zip((4, 8, 12, 16), strides, strict=True)]
    assert [tuple(m.shape) for m in pyramid(maps)] == [(1, 6, 64 // s, 96 // s) for s in (4, 8, 16, 32)]
    # The projection comes first: the layers after it have the width of the pyramid.
    assert [level[0].weight.shape[:2] for level in pyramid.levels] == [(6, 4), (6, 8), (6, 12), (6, 16)]


def test_pyramid_of_impossible_strides():
    with pytest.raises(ValueError, match='stride 12 cannot become 4'):
        StagePyramid((4,), (12,), out_strides=(4,))
    with pytest.raises(ValueError, match='one length'):
        StagePyramid((4, 4), (16, 16), out_strides=(4, 8, 16))


def detector() -> dict:
    """A Cascade R-CNN with patches of 16 pixels."""
    from mmengine.config import Config

    name = 'cascade-rcnn_robust-resnet-dw_fpn_tiny_shapes-coco.py'
    config = Config.fromfile(Path(__file__).parents[2] / 'downstream_configs/cascade_rcnn' / name)
    init_default_scope('mmdet')
    model = config.model
    model.backbone.update(patch_size=16, strides=None)
    model.neck[0].in_strides = [16, 16, 16, 32]
    return model


def set_in(config: dict, path: str, value) -> None:
    *parents, last = (int(part) if part.isdigit() else part for part in path.split('.'))
    for part in parents:
        config = config[part]
    config[last] = value


@pytest.mark.parametrize(
    ('path', 'value', 'message'),
    [
        ('neck.0.in_strides', [4, 8, 16, 32], r"in_strides are \(4, 8, 16, 32\).*backbone's are \(16, 16, 16, 32\)"),
        ('neck.0.in_channels', [64, 128, 256, 256], r'in_channels are .*64, 128, 256, 512'),
        ('neck.1.in_channels', [32, 32, 32, 32], 'FPN'),
        ('backbone.strides', [4, 8, 16, 32], r'maps of robust_resnet_dw_small have strides \(16, 16, 16, 32\)'),
        ('backbone.patch_size', 8, r"backbone's are \(8, 8, 16, 32\)"),
        (
            'rpn_head.anchor_generator.strides',
            [8, 16, 32, 64],
            r'anchor strides are \(8, 16, 32, 64\).*\(4, 8, 16, 32\)',
        ),
        ('roi_head.bbox_roi_extractor.featmap_strides', [8, 16, 32, 64], 'bbox_roi_extractor.featmap_strides'),
    ],
)
def test_wrong_strides_stop_the_build(path, value, message):
    from mmdet.registry import MODELS

    model = detector()
    with without_storage():
        check_strides(MODELS.build(model))
        model = detector()
        set_in(model, path, value)
        with pytest.raises(ValueError, match=message):
            MODELS.build(model)


def test_wrong_strides_stop_any_detector():
    from mmdet.registry import MODELS

    init_default_scope('mmdet')
    backbone, channels, _ = FAMILIES['robust_resnet_dw_small']
    model = dict(
        type='RetinaNet',
        backbone=dict(type='TimmBackbone', model='robust_resnet_dw_small', **backbone),
        neck=dict(type='FPN', in_channels=[*channels], out_channels=8, num_outs=5, add_extra_convs='on_output'),
        bbox_head=dict(
            type='RetinaHead',
            num_classes=2,
            in_channels=8,
            anchor_generator=dict(type='AnchorGenerator', scales=[4], ratios=[1], strides=[4, 8, 16, 32, 64]),
        ),
    )
    with pytest.raises(ValueError, match=r'\(4, 8, 16, 32, 64\).*\(16, 16, 16, 32, 64\)'):
        MODELS.build(model)
    model['bbox_head']['anchor_generator']['strides'] = [16, 16, 16, 32, 64]
    MODELS.build(model)
