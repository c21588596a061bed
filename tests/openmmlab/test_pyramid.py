"""The simple feature pyramid: levels from the last map, and strides that must fit; batch norms that processes share."""

import pytest
import torch
from torch import nn

pytest.importorskip('mmdet')

from mmengine.registry import MODELS, init_default_scope

from backbones.openmmlab import SimpleFeaturePyramid, TimmBackbone

DEIT = dict(type='TimmBackbone', model='deit_tiny_patch16_224', embed_dim=32, depth=2, num_heads=2, out_indices=(1,))


@pytest.mark.parametrize(
    ('in_stride', 'out_strides'), [(16, (4, 8, 16, 32)), (16, (4, 8, 16, 32, 64)), (8, (4, 8, 16))]
)
def test_levels_of_the_last_map(in_stride, out_strides):
    config = dict(in_channels=32, in_stride=in_stride, out_channels=6, out_strides=out_strides)
    pyramid = MODELS.build(dict(type='SimpleFeaturePyramid', **config))
    maps = [torch.randn(2, 8, 4, 4), torch.randn(2, 32, 128 // in_stride, 192 // in_stride, requires_grad=True)]
    levels = pyramid(maps)
    assert [tuple(level.shape) for level in levels] == [(2, 6, 128 // s, 192 // s) for s in out_strides]
    # Whatever its level, a pixel is normalised over its channels.
    for level in levels:
        torch.testing.assert_close(level.mean(1), torch.zeros_like(level[:, 0]), atol=1e-5, rtol=0)
    sum(level.square().sum() for level in levels).backward()
    assert (maps[1].grad != 0).any()


def test_levels_are_made_as_vitdet_makes_them():
    pyramid = SimpleFeaturePyramid(in_channels=384, in_stride=16)
    doubled = [m for m in pyramid.levels[0] if isinstance(m, nn.ConvTranspose2d)]
    assert [(m.in_channels, m.out_channels, m.stride) for m in doubled] == [(384, 192, (2, 2)), (192, 96, (2, 2))]
    assert [type(m).__name__ for m in pyramid.levels[0]][1:3] == ['LayerNorm2d', 'GELU']
    sizes = [[tuple(m.weight.shape) for m in level if type(m) is nn.Conv2d] for level in pyramid.levels]
    assert sizes == [[(256, c, 1, 1), (256, 256, 3, 3)] for c in (96, 192, 384, 384)]
    assert [sum(isinstance(m, nn.MaxPool2d) for m in level) for level in pyramid.levels] == [0, 0, 0, 1]


def test_impossible_stride():
    with pytest.raises(ValueError, match='stride 14 cannot become 4'):
        SimpleFeaturePyramid(in_channels=8, in_stride=14)


@pytest.mark.parametrize(
    ('part', 'setting', 'value', 'message'),
    [
        ('neck', 'in_stride', 8, r"in_stride are 32 and 8 but the last map's are 32 and 16"),
        ('neck', 'in_channels', 64, r"in_stride are 64 and 16 but the last map's are 32 and 16"),
        ('neck', 'out_strides', [8, 16, 32, 64], r'anchor strides are \(4, 8, 16, 32\) but .* \(8, 16, 32, 64\)'),
        ('backbone', 'patch_size', 8, r"in_stride are 32 and 16 but the last map's are 32 and 8"),
    ],
)
def test_wrong_strides_stop_the_build(part, setting, value, message):
    from mmdet.registry import MODELS

    init_default_scope('mmdet')
    model = dict(
        type='RetinaNet',
        backbone=DEIT,
        neck=dict(type='SimpleFeaturePyramid', in_channels=32, in_stride=16, out_channels=8),
        bbox_head=dict(
            type='RetinaHead',
            num_classes=2,
            in_channels=8,
            anchor_generator=dict(type='AnchorGenerator', scales=[4], ratios=[1], strides=[4, 8, 16, 32]),
        ),
    )
    MODELS.build(model)
    model[part] = dict(model[part], **{setting: value})
    with pytest.raises(ValueError, match=message):
        MODELS.build(model)


@pytest.mark.parametrize('name', ['resnest14d', 'coatnet_0_rw_224'])
def test_shared_batch_norms_compute_the_same(name):
    torch.manual_seed(0)
    usual = TimmBackbone(name).eval()
    shared = TimmBackbone(name, sync_bn=True).eval()
    shared.load_state_dict(usual.state_dict())
    norms = [sum(isinstance(m, nn.SyncBatchNorm) for m in shared.modules())]
    norms.append(sum(isinstance(m, nn.BatchNorm2d) for m in usual.modules()))
    assert norms[0] == norms[1] > 0
    x = torch.randn(1, 3, 64, 64)
    for a, b in zip(usual(x), shared(x), strict=True):
        assert a.equal(b)
