"""Every family as an OpenMMLab backbone: under a neck and a head, with its options, from any checkpoint."""

import argparse
import math
import os

import numpy as np
import pytest
import timm
import torch
from torch import nn

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

from mmengine.logging import HistoryBuffer
from mmengine.registry import init_default_scope

from backbones.checkpoint import read_weights
from backbones.openmmlab import TimmBackbone
from backbones.openmmlab.deformable import DeformableConv
from backbones.openmmlab.map_sized import MapSizedBias
from backbones.robust_resnet.stems import resample_stem

ROBUST = dict(dims=(8, 16, 24, 32), depths=(1, 1, 2, 1), kernel_size=3)
RESNET = dict(layers=(1, 1, 1, 1), channels=(8, 16, 32, 64))
VIT = dict(embed_dim=48, depth=4, num_heads=3, out_indices=(0, 1, 2, 3))
COATNET = dict(stem_width=16, dims=(32, 32, 64, 64), depths=(1, 1, 2, 1))
FAMILIES = {
    'robust_resnet_dw_small': dict(patch_size=8, **ROBUST),
    'robust_resnet_up_inverted_dw_small_rep': dict(dims=(8, 16, 32, 64), depths=(1, 1, 2, 1)),
    'robust_resnet_down_inverted_dw_small': ROBUST,
    'resnet_inverted_dw_small': ROBUST,
    'resnet50': RESNET,
    'resnext50_32x4d': dict(cardinality=4, base_width=32, **RESNET),
    'wide_resnet50_2': RESNET,
    'seresnet50': RESNET,
    'skresnet18': dict(layers=(1, 1, 1, 1)),
    'cbam_resnet50': dict(stem_width=8, **RESNET),
    'resnest50_fast_2s1x64d': dict(stem_width=8, **RESNET),
    'densenet121': dict(growth_rate=4, block_config=(1, 2, 2, 1)),
    'convnext_tiny': dict(dims=(8, 16, 32, 64), depths=(1, 1, 2, 1)),
    'convnext_roadmap_moved_up': dict(dims=(8, 16, 32, 64), depths=(1, 1, 2, 1)),
    'convmixer_1024_20_ks9_p14': {},
    'coatnet_0': COATNET,
    'swin_tiny_patch4_window7_224': dict(embed_dim=16, depths=(1, 2, 1, 1), num_heads=(1, 1, 2, 2)),
    'deit_small_patch16_224': VIT,
    'deit_small_distilled_patch16_224': VIT,
    'deit_small_conv_stem_224': VIT,
    'vit_small_patch16_224': VIT,
    'wide_resnet28_10': dict(widen_factor=1, depth=10, stem_stride=2, out_indices=(0, 1, 2)),
    'shake_shake26_2x32d': dict(width=8, depth=8, out_indices=(0, 1, 2)),
    'condensenet74_g8': dict(depths=(2, 2, 2), growths=(8, 8, 16), out_indices=(-3, -2, -1)),
    'shufflenet_v1_g3_x1_0': dict(width=0.2, depths=(1, 2, 1), out_indices=(-3, -2, -1)),
}


def build(scope: str, config: dict) -> nn.Module:
    init_default_scope(scope)
    return __import__(f'{scope}.registry', fromlist=['MODELS']).MODELS.build(config)


def check_gradients(*modules: nn.Module) -> None:
    for module in modules:
        without = [name for name, p in module.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
        assert without == []


@pytest.mark.parametrize('name', FAMILIES)
def test_family_runs_under_mmdets_pyramid(name):
    torch.manual_seed(0)
    backbone = build('mmdet', dict(type='TimmBackbone', model=name, **FAMILIES[name])).train()
    levels = len(backbone.channels)
    neck = build('mmdet', dict(type='FPN', in_channels=list(backbone.channels), out_channels=8, num_outs=levels + 1))
    maps = backbone(torch.randn(2, 3, 64, 64))
    assert [tuple(m.shape[1:]) for m in maps] == [
        (c, math.ceil(64 / s), math.ceil(64 / s)) for c, s in zip(backbone.channels, backbone.strides, strict=True)
    ]
    outs = neck(maps)
    assert [tuple(out.shape) for out in outs[:levels]] == [(2, 8, *m.shape[2:]) for m in maps]
    sum(out.square().mean() for out in outs).backward()
    check_gradients(backbone, neck)


@pytest.mark.parametrize('name', FAMILIES)
def test_family_runs_under_mmsegs_head(name):
    torch.manual_seed(0)
    backbone = build('mmseg', dict(type='TimmBackbone', model=name, **FAMILIES[name])).train()
    head = dict(
        type='UPerHead',
        in_channels=list(backbone.channels),
        in_index=list(range(len(backbone.channels))),
        pool_scales=(1, 2),
        channels=8,
        num_classes=3,
        norm_cfg=dict(type='BN'),
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss'),
    )
    head = build('mmseg', head)
    logits = head(backbone(torch.randn(2, 3, 64, 64)))
    side = math.ceil(64 / backbone.strides[0])
    assert logits.shape == (2, 3, side, side)
    logits.square().mean().backward()
    check_gradients(backbone, *(child for name, child in head.named_children() if name != 'loss_decode'))


def test_coatnet_at_its_own_size_and_at_others(tmp_path):
    torch.manual_seed(0)
    network = timm.create_model('coatnet_0', num_classes=3, img_size=64, **COATNET).eval()
    torch.save(network.state_dict(), tmp_path / 'coatnet.pth')
    backbone = TimmBackbone('coatnet_0', checkpoint=tmp_path / 'coatnet.pth', img_size=64, **COATNET).eval()
    biases = [module for module in backbone.modules() if isinstance(module, MapSizedBias)]
    assert len(biases) == 3
    image = torch.randn(1, 3, 64, 64)
    expected = network.forward_intermediates(image, indices=[1, 2, 3, 4], intermediates_only=True)
    for found, map_ in zip(backbone(image), expected, strict=True):
        torch.testing.assert_close(found, map_)
    # A map of another size: each pair's bias is the table's entry at that share of the largest distance.
    backbone(torch.randn(1, 3, 128, 160))
    bias = biases[0]
    assert bias.size == (8, 10)
    with torch.no_grad():
        table = bias.relative_position_bias_table
        ramp = torch.linspace(-1, 1, 7).repeat_interleave(7)  # rises with the distance in y
        table.copy_(ramp[:, None].expand_as(table))
        by_pair = bias.get_bias()[0, 0].view(8, 10, 8, 10)
    assert by_pair.shape == (8, 10, 8, 10)
    torch.testing.assert_close(by_pair, by_pair[:, :1, :, :1].expand_as(by_pair))
    assert (by_pair[:, 0, 0, 0].diff() > 0).all()


@pytest.mark.parametrize('name', ['resnet50', 'resnest50_fast_2s1x64d'])
def test_deformable_stages_start_as_halved_convolutions(name):
    torch.manual_seed(0)
    arguments = FAMILIES[name]
    plain = TimmBackbone(name, **arguments)
    torch.manual_seed(0)
    backbone = TimmBackbone(name, dcn_stages=(1, 3), **arguments)
    found = {key: module for key, module in backbone.named_modules() if isinstance(module, DeformableConv)}
    assert {key.split('.')[1] for key in found} == {'layer2', 'layer4'}
    assert len(found) == 2
    for key, module in found.items():
        torch.testing.assert_close(module.weight, plain.get_submodule(key).weight)
        x = torch.randn(1, module.in_channels, 9, 9)
        torch.testing.assert_close(module(x), plain.get_submodule(key)(x) / 2, rtol=1e-4, atol=1e-5)
    sum(m.square().mean() for m in backbone.train()(torch.randn(2, 3, 64, 64))).backward()
    check_gradients(backbone)


def test_deformable_convolution_samples_where_its_offset_says():
    conv = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    nn.init.zeros_(conv.weight)
    conv.weight.data[0, 0, 1, 1] = 1  # copies its input
    deformable = DeformableConv(conv)
    with torch.no_grad():
        # Positions count row by row, each with a shift in y and one in x; the weights come after the shifts.
        deformable.offset.bias[2 * 4] = 1.0
        deformable.offset.bias[2 * 4 + 1] = 2.0
        deformable.offset.bias[18 + 4] = 100.0
    x = torch.arange(36.0).view(1, 1, 6, 6)
    y = deformable(x)
    torch.testing.assert_close(y[..., :5, :4], x[..., 1:, 2:])
    assert y[..., 5, :].abs().max() == 0


def test_deformable_stages_that_are_not_there():
    with pytest.raises(ValueError, match=r'stage 4 has no 3×3 convolution; those with some are \[0, 1, 2, 3\]'):
        TimmBackbone('resnet50', dcn_stages=(4,), **RESNET)
    with pytest.raises(ValueError, match='no stage of this model has'):
        TimmBackbone('deit_small_patch16_224', dcn_stages=(0,), **VIT)


@pytest.mark.parametrize(
    ('wrap', 'prefix'),
    [
        (lambda weights: {f'student.{k}': v for k, v in weights.items()}, None),
        (lambda weights: {f'backbone.net.{k}': v for k, v in weights.items()} | {'neck.x': torch.ones(1)}, None),
        (lambda weights: {f'module.backbone.{k}': v for k, v in weights.items()} | {'head.x': torch.ones(1)}, None),
        (lambda weights: {f'encoder.{k}': v for k, v in weights.items()} | {'head.x': torch.ones(1)}, 'encoder.'),
        (lambda weights: {f'module.{k}': v for k, v in weights.items()}, None),
    ],
)
def test_checkpoints_of_mmengine(wrap, prefix, tmp_path):
    network = timm.create_model('resnet50', num_classes=3, **RESNET)
    checkpoint = {'meta': {'epoch': 1}, 'state_dict': wrap(network.state_dict()), 'optimizer': {}}
    torch.save(checkpoint, tmp_path / 'epoch_1.pth')
    backbone = TimmBackbone('resnet50', checkpoint=tmp_path / 'epoch_1.pth', checkpoint_prefix=prefix, **RESNET)
    expected = network.state_dict()
    assert all(value.equal(expected[key]) for key, value in backbone.net.state_dict().items())
    with pytest.raises(ValueError, match=r"no name that begins with 'enc\.'"):
        read_weights(tmp_path / 'epoch_1.pth', 'enc.')


def test_logs_and_arguments_beside_the_weights_are_passed_over(tmp_path):
    network = timm.create_model('resnet50', num_classes=3, **RESNET)
    averaged = {k: v + 1 for k, v in network.state_dict().items()}
    loss = HistoryBuffer([1.0], [1])
    log = dict(log_scalars={'loss': loss}, best=np.float64(0.5), args=argparse.Namespace(lr=0.1))
    for weights in (dict(state_dict=averaged), dict(state_dict=network.state_dict(), state_dict_ema=averaged)):
        torch.save(dict(weights, message_hub=log), tmp_path / 'epoch_1.pth')
        loaded = TimmBackbone('resnet50', checkpoint=tmp_path / 'epoch_1.pth', **RESNET).net.state_dict()
        assert all(value.equal(averaged[key]) for key, value in loaded.items())
    for attack in (Attack(os.system, 'exit 3'), Attack(exec, 'import os')):
        torch.save(dict(state_dict=averaged, log=attack), tmp_path / 'bad.pth')
        with pytest.raises(ValueError, match=r'holds Python objects .* could run code'):
            read_weights(tmp_path / 'bad.pth')
    assert loss.mean() == 1


class Attack:
    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def test_a_trained_stem_is_resampled_to_the_patch_size_on_request(tmp_path):
    name, path = 'robust_resnet_dw_small', tmp_path / 'trained.pth'
    trained = timm.create_model(name, num_classes=3, **ROBUST)
    torch.save(trained.state_dict(), path)
    with pytest.raises(ValueError, match='has patches of 16 pixels and the model 8: set patch_size=16, or resample'):
        TimmBackbone(name, checkpoint=path, patch_size=8, **ROBUST)
    finer = TimmBackbone(name, checkpoint=path, resample_stem=True, patch_size=8, **ROBUST)
    assert finer.strides == (8, 8, 16, 32)
    expected = resample_stem(trained.state_dict(), 8)
    assert all(value.equal(expected[key]) for key, value in finer.net.state_dict().items())
    torch.save(timm.create_model('resnet50', num_classes=3, **RESNET).state_dict(), path)
    with pytest.raises(ValueError, match='resample_stem=True is not available with ResNet'):
        TimmBackbone('resnet50', checkpoint=path, resample_stem=True, **RESNET)


@pytest.mark.parametrize(
    ('name', 'stem', 'last', 'layers'),
    [
        ('robust_resnet_dw_small', 'net.stem.', 'net.stages.3.', 5),
        ('resnet50', 'net.conv1.weight', 'net.layer4.0.conv3.weight', 4),
        ('swin_tiny_patch4_window7_224', 'net.patch_embed.', 'net.layers.3.', 5),
        ('deit_small_patch16_224', 'net.pos_embed', 'net.blocks.3.', 4),
    ],
)
def test_layers_count_from_the_stem_to_the_head(name, stem, last, layers):
    backbone = TimmBackbone(name, **FAMILIES[name])
    depth = {key: backbone.get_layer_depth(f'backbone.{key}', 'backbone.') for key, _ in backbone.named_parameters()}
    total = {n for _, n in depth.values()}
    assert len(total) == 1
    total = total.pop()
    assert total == layers + 2
    assert {i for key, (i, _) in depth.items() if key.startswith(stem)} == {0}
    assert max(i for key, (i, _) in depth.items() if key.startswith(last)) == total - 2
    with pytest.raises(ValueError, match='no parameter of this backbone'):
        backbone.get_layer_depth('neck.convs.0.weight', 'backbone.')
