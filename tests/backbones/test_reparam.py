"""Fusions by hand, and trained models equal to their plain forms."""

import pytest
import timm
import torch
from timm.utils import reparameterize_model
from torch import nn

from backbones.deploy import deploy, plain_arguments
from backbones.layers.reparam import enlarge_kernel, fold_norm, identity_kernel, scale_output, sum_parallel
from backbones.robust_resnet.rep_depthwise import RepDepthwise

BLOCKS = ('dw', 'inverted_dw', 'up_inverted_dw', 'down_inverted_dw')
TINY = dict(dims=(8, 16, 32, 64), depths=(1, 2, 2, 1), num_classes=5)
VARIANTS = {
    'default': {},
    'layer scale': dict(layer_scale_init_value=0.5),
    'all norms, layer scale': dict(stem='resnet', norms=(1, 2, 3), acts=(1, 2, 3), layer_scale_init_value=0.5),
    'convolutional stem': dict(stem='conv', kernel_size=7, small_kernel_size=3),
    'dilated': dict(patch_size=8, output_stride=8),
    'à trous': dict(stem_stride=8, output_stride=8),
}


def randomise_norms(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.2, 0.8)
            nn.init.normal_(module.bias, std=0.2)


def trained(name: str, **kwargs) -> nn.Module:
    """A model whose norms have statistics and weights of their own."""
    torch.manual_seed(0)
    model = timm.create_model(name, **TINY, **kwargs)
    randomise_norms(model)
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(4, 3, 32, 32))
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.normal_(module.bias, std=0.1)
    return model.eval()


def assert_equal_outputs(a: nn.Module, b: nn.Module) -> None:
    image = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        first, second = a(image), b(image)
    assert first.std() > 1e-2
    torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-5)


def test_a_norm_by_hand():
    norm = nn.BatchNorm2d(1, eps=0.0).eval()
    norm.load_state_dict(
        dict(
            weight=torch.tensor([6.0]),
            bias=torch.tensor([1.0]),
            running_mean=torch.tensor([5.0]),
            running_var=torch.tensor([4.0]),
            num_batches_tracked=torch.tensor(1),
        )
    )
    # 6 · (2x + 3 - 5) / 2 + 1 = 6x - 5
    weight, bias = fold_norm(torch.full((1, 1, 1, 1), 2.0), torch.tensor([3.0]), norm)
    assert (weight.item(), bias.item()) == (6, -5)
    weight, bias = fold_norm(torch.full((1, 1, 1, 1), 2.0), None, norm)
    assert (weight.item(), bias.item()) == (6, -14)


def test_scales_and_sums_by_hand():
    weight, bias = scale_output(torch.ones(2, 1, 1, 1), torch.tensor([1.0, 2.0]), torch.tensor([3.0, -1.0]))
    assert weight.flatten().tolist() == [3, -1]
    assert bias.tolist() == [3, -2]
    small = torch.tensor([[[[2.0]]]])
    assert enlarge_kernel(small, 3).flatten().tolist() == [0, 0, 0, 0, 2, 0, 0, 0, 0]
    assert identity_kernel(torch.empty(2, 1, 3, 3)).flatten().tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0] * 2
    weight, bias = sum_parallel([(torch.ones(1, 1, 3, 3), torch.tensor([1.0])), (small, torch.tensor([0.5]))])
    assert weight.flatten().tolist() == [1, 1, 1, 1, 3, 1, 1, 1, 1]
    assert bias.tolist() == [1.5]


@pytest.mark.parametrize('out_chs', [6, 12], ids=['identity', 'no identity'])
@pytest.mark.parametrize(('stride', 'dilation'), [(1, 1), (2, 1), (1, 2), (2, 3)])
def test_a_fused_convolution_is_the_sum_of_the_branches(stride, dilation, out_chs):
    torch.manual_seed(0)
    module = RepDepthwise(6, out_chs, kernel_size=7, small_kernel_size=3, stride=stride, dilation=dilation).double()
    assert (module.identity_norm is not None) == (out_chs == 6)
    randomise_norms(module)
    for _ in range(3):
        module(torch.randn(4, 6, 15, 18, dtype=torch.double))
    x = torch.randn(2, 6, 15, 18, dtype=torch.double)
    before, state = module.eval()(x), torch.get_rng_state()
    conv = module.fuse()
    assert torch.equal(torch.get_rng_state(), state)
    assert type(conv) is nn.Conv2d
    torch.testing.assert_close(conv(x), before, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(module(x), before, atol=0, rtol=0)


@pytest.mark.parametrize('variant', VARIANTS)
@pytest.mark.parametrize('block', BLOCKS)
def test_the_plain_model_computes_the_same(block, variant):
    kwargs = VARIANTS[variant]
    model = trained(f'robust_resnet_{block}_small_rep', **kwargs)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    plain = deploy(model, **TINY, **kwargs)
    assert_equal_outputs(model, plain)
    name, plain_kwargs = plain_arguments(f'robust_resnet_{block}_small_rep', {**TINY, **kwargs})
    assert name == f'robust_resnet_{block}_small'
    timm.create_model(name, **plain_kwargs).load_state_dict(plain.state_dict())

    fused = reparameterize_model(model)
    assert_equal_outputs(model, fused)
    assert not any(isinstance(module, RepDepthwise) for module in fused.modules())
    # timm's function fuses branches and leaves the layer scale; deploy computes the same kernels.
    weights = {key: value for key, value in fused.state_dict().items() if not key.endswith('.gamma')}
    assert weights.keys() == plain.state_dict().keys()
    for key, value in weights.items():
        if '.conv_dw.' in key and 'layer_scale_init_value' not in kwargs:
            assert value.equal(plain.state_dict()[key])
    if 'layer_scale_init_value' not in kwargs:
        plain.load_state_dict(fused.state_dict())
        assert_equal_outputs(model, plain)

    folded = deploy(model, fold_norms=True, **TINY, **kwargs)
    assert_equal_outputs(model, folded)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_any_model_can_be_trained_with_parallel_kernels():
    model = trained('robust_resnet_up_inverted_dw_base', small_kernel_size=3)
    plain = deploy(model, **TINY, small_kernel_size=3)
    assert_equal_outputs(model, plain)
    timm.create_model('robust_resnet_up_inverted_dw_base', **TINY).load_state_dict(plain.state_dict())
    # A model that timm has fused already has nothing left to fuse.
    fused = deploy(reparameterize_model(model), **TINY, small_kernel_size=3).state_dict()
    assert all(value.equal(fused[key]) for key, value in plain.state_dict().items())


def test_plain_models_and_baselines_can_be_folded_too():
    for name in ('robust_resnet_dw_small', 'resnet_down_inverted_dw_small'):
        model = trained(name)
        folded = deploy(model, fold_norms=True, **TINY)
        assert_equal_outputs(model, folded)
        assert len(folded.state_dict()) < len(model.state_dict()) / 1.5
        # A second time there is nothing left to do.
        assert deploy(folded, fold_norms=True, **TINY).state_dict().keys() == folded.state_dict().keys()


def test_training_steps_move_every_branch_and_the_plain_model_follows():
    model = trained('robust_resnet_dw_small_rep').train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    before = {k: v.clone() for k, v in model.named_parameters() if 'conv_dw' in k}
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randn(4, 3, 64, 64)).square().mean().backward()
        optimizer.step()
    assert all(not torch.equal(v, before[k]) for k, v in model.named_parameters() if k in before)
    assert any('identity_norm' in k for k in before)
    assert_equal_outputs(model.eval(), deploy(model, **TINY))


def test_mistakes_are_explained():
    with pytest.raises(ValueError, match='VisionTransformer has no plain form; give a RobustResNet'):
        deploy(timm.create_model('vit_tiny_patch16_224', depth=1))
    with pytest.raises(ValueError, match='the trained model does not fit robust_resnet_dw_small with these arguments'):
        deploy(timm.create_model('robust_resnet_dw_small_rep', **TINY), depths=TINY['depths'])
    layer_norm = dict(norm_layer=timm.layers.LayerNorm2d)
    with pytest.raises(ValueError, match='is a LayerNorm2d; only a batch norm can be folded'):
        deploy(timm.create_model('robust_resnet_dw_small', **TINY, **layer_norm), fold_norms=True, **TINY)
