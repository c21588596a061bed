"""A member of each family: logits and gradients on the card against those on the CPU and in double precision.

The reference is double precision on the card itself. Single precision must be as near to it on the card as on the CPU,
and so must the CPU's own result: the two devices then compute the same function. For bf16 the yardstick is what the
function makes of weights and images that are rounded to bf16 once: training in bf16 rounds between all layers, a few
times as much.

A comparison of gradients tells something only where these follow from the inputs more firmly than rounding moves them.
A batch norm of two values gives ±1 whatever they are: what is left of its gradient is rounding, the more the nearer the
two are. Attention over pooled maps has such norms, which therefore use drawn statistics in place of the batch's.
"""

import copy
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

import timm
import torch
from torch import Tensor, nn

import backbones  # noqa: F401  registers the models
from backbones.layers.depthwise import DepthwiseConv2d, speed_up_depthwise
from distill.gpu_check.rows import Check, Mismatch, Setting, distance, require

ROBUST = dict(dims=(8, 16, 24, 32), depths=(1, 1, 2, 1), kernel_size=5)
RESNET = dict(layers=(1, 1, 1, 1), channels=(8, 16, 32, 64))
VIT = dict(img_size=64, embed_dim=48, depth=2, num_heads=3)
MEMBERS: dict[str, dict[str, Any]] = {
    'robust_resnet_dw_small': ROBUST,
    'robust_resnet_inverted_dw_small': ROBUST,
    'robust_resnet_up_inverted_dw_small': dict(dims=(8, 16, 32, 64), depths=(1, 1, 2, 1)),
    'robust_resnet_down_inverted_dw_small': ROBUST,
    'robust_resnet_dw_small_rep': dict(dims=(8, 16, 24, 32), depths=(1, 1, 2, 1)),
    'resnet_dw_small': ROBUST,
    'deit_small_patch16_224': VIT,
    'resnest50_fast_2s1x64d': dict(stem_width=8, **RESNET),
    'convnext_roadmap_separate_downsample': dict(dims=(8, 16, 32, 64), depths=(1, 1, 2, 1)),
    'coatnet_0': dict(img_size=64, stem_width=16, dims=(32, 32, 64, 64), depths=(1, 1, 2, 1)),
    'condensenet74_g8': dict(depths=(2, 2, 2), growths=(8, 8, 16)),
    'condensenet86_cifar': dict(depths=(2, 2, 2)),
    'shake_shake26_2x32d': dict(width=8, depth=8),
    'shufflenet_v1_g3_x1_0': dict(width=0.2, depths=(1, 2, 1)),
    'cbam_resnet50': dict(stem_width=8, **RESNET),
    'wide_resnet28_10': dict(widen_factor=1, depth=10),
    'deit_small_conv_stem_224': VIT,
    'deit_small_distilled_patch16_224': VIT,
}
"""Models that this project registers: by timm's name, what makes the model small, on the CPU. On a card it is as large
as its entrypoint says."""
TIMMS: dict[str, dict[str, Any]] = {
    'resnest50': dict(stem_width=8, **RESNET),
    'resnet50': RESNET,
    'resnext50_32x4d': dict(cardinality=4, base_width=32, **RESNET),
    'wide_resnet50_2': RESNET,
    'legacy_seresnet50': dict(layers=(1, 1, 1, 1)),
    'seresnet50': RESNET,
    'skresnet18': dict(layers=(1, 1, 1, 1)),
    'densenet121': dict(growth_rate=4, block_config=(1, 2, 2, 1)),
    'swin_tiny_patch4_window7_224': dict(
        img_size=64, window_size=4, embed_dim=16, depths=(1, 2, 1, 1), num_heads=(1, 1, 2, 2)
    ),
    'convmixer_1024_20_ks9_p14': {},
}
"""The same of models that are timm's."""
BLOCKS = {'convmixer_1024_20_ks9_p14': 6}
"""Blocks that are left of a model: twenty with norms in training multiply what rounding to bf16 does to a gradient
until nothing else is left."""
BATCH = 2
FEWEST_VALUES = 32
"""Values of a channel in the batch from which on a norm is in training."""
WHAT = ('logits', 'gradient')
FLOORS = {'fp32': {'logits': 1e-4, 'gradient': 1e-2}, 'bf16': {'logits': 0.1, 'gradient': 0.3}}
"""What an error may always be. A ReLU whose input is nearly 0 is on in one rounding and off in another: gradients
jump."""
TIMES = {'fp32': 4.0, 'bf16': 8.0}
"""How often its yardstick an error may be."""
MOST = 0.9
"""What an error may never be: that of no gradient at all is 1."""
NO_WORSE = 1.1
"""How often the error of torch's own layer that of ours may be, where torch's is beyond the limit."""
SAME_FUNCTION = 2e-2
"""The most that single precision may be off on the CPU."""


def checks(setting: Setting) -> list[Check]:
    """A check for each member of `MEMBERS`, and one for batches that the kernels for wide convolutions take."""
    members = [Check(name, partial(compare, name, kwargs, setting)) for name, kwargs in MEMBERS.items()]
    return [Check('wide depthwise layer', partial(wide_layer, setting)), *members]


def wide_layer(setting: Setting) -> dict[str, Any]:
    """Output and gradients of a layer as models call it, in both memory formats, against double precision."""
    torch.backends.cudnn.allow_tf32 = False
    torch.manual_seed(0)
    batch, chs, side = (2, 4, 14) if setting.small else (64, 384, 14)
    layer = nn.Conv2d(chs, chs, 11, padding=5, groups=chs)
    images, grad = torch.randn(2, batch, chs, side, side)
    device = torch.device(setting.device)

    def passes(layer: nn.Module, dtype: torch.dtype, layout: torch.memory_format, amp: bool) -> list[Tensor]:
        layer = copy.deepcopy(layer).to(device, dtype)
        x = images.detach().to(device, dtype, memory_format=layout, copy=True).requires_grad_()
        with torch.autocast(device.type, torch.bfloat16) if amp else nullcontext():
            output = layer(x)
        output.backward(grad.to(output))
        return [output, *(each.grad for each in (x, *layer.parameters()) if each.grad is not None)]

    exact = passes(layer, torch.float64, torch.contiguous_format, False)
    fast = speed_up_depthwise(nn.Sequential(copy.deepcopy(layer)))[0]
    values, limits = {}, {}
    for name, layout in (('planes', torch.contiguous_format), ('channels_last', torch.channels_last)):
        for kind, amp, limit in (('fp32', False, 1e-5), ('bf16', True, 1e-2)):
            errors = [
                max(distance(*pair) for pair in zip(passes(one, torch.float32, layout, amp), exact, strict=True))
                for one in (fast, layer)
            ]
            # Processors without instructions for bf16 add up in it: torch's own layer is then further off.
            values[f'{kind} {name}'], limits[f'{kind} {name}'] = errors[0], max(limit, NO_WORSE * errors[1])
    return require(values, limits)


def compare(name: str, kwargs: Mapping[str, Any], setting: Setting) -> dict[str, Any]:
    """Compare logits and gradients of a model in all forms of a training.

    Args:
        name: timm's name.
        kwargs: What makes the model small.
        setting: Where checks run.

    Returns:
        Relative errors ``form logits`` and ``form gradient`` (of all parameters together), and their limits.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    network, images = build(name, kwargs if setting.small else {}, setting)
    device = torch.device(setting.device)
    exact = run(network, images, device, torch.float64)
    rounded = run(_rounded(network), images.bfloat16().float(), device, torch.float64)
    forms: dict[str, Callable[[], tuple[Tensor, Tensor]]] = {
        'cpu': lambda: run(network, images, torch.device('cpu')),
        'fp32': lambda: run(network, images, device),
        'fp32 channels_last': lambda: run(network, images, device, layout=torch.channels_last),
        'bf16': lambda: run(network, images, device, amp=True),
        'bf16 channels_last': lambda: run(network, images, device, amp=True, layout=torch.channels_last),
    }
    fast = speed_up_depthwise(copy.deepcopy(network))
    if any(isinstance(module, DepthwiseConv2d) for module in fast.modules()):
        forms |= {
            'fp32 as trained': lambda: run(fast, images, device, layout=torch.channels_last),
            'bf16 as trained': lambda: run(fast, images, device, amp=True, layout=torch.channels_last),
        }
    of_rounding = dict(zip(WHAT, map(distance, rounded, exact), strict=True))
    values: dict[str, float] = {}
    found = {}
    for form, compute in forms.items():
        found[form] = compute()
        for what, one, expected in zip(WHAT, found[form], exact, strict=True):
            values[f'{form} {what}'] = distance(one, expected)
    rounding = {f'rounding of the inputs, {what}': of_rounding[what] for what in WHAT}
    try:
        return require(values, _limits(values, of_rounding)) | rounding
    except Mismatch as mismatch:
        worst = {form: farthest(network, gradient, exact[1]) for form, (_, gradient) in found.items()}
        raise Mismatch(str(mismatch), mismatch.values | rounding | {'farthest weights': worst}) from None


def farthest(network: nn.Module, found: Tensor, expected: Tensor, count: int = 4) -> dict[str, float]:
    """The weights whose gradients are farthest off, by their share of ‖expected‖, and the last one that is off at all.

    Args:
        network: The model.
        found: A gradient by all weights that have one, as `run` gives it.
        expected: What it should be.
        count: How many.
    """
    names = [(name, weight.numel()) for name, weight in network.named_parameters() if weight.requires_grad]
    if sum(size for _, size in names) != len(expected):  # Some weight has no gradient.
        return {}
    parts = zip(names, *(x.split([size for _, size in names]) for x in (found, expected)), strict=True)
    off = {name: float((a - b).norm() / expected.norm()) for (name, _), a, b in parts}
    chosen = sorted(off, key=off.__getitem__, reverse=True)[:count]
    last = [name for name, share in off.items() if share > 1e-5][-1:]
    return {name: off[name] for name in [*chosen, *last]}


def _limits(values: Mapping[str, float], of_rounding: Mapping[str, float]) -> dict[str, float]:
    limits = {}
    for name in values:
        form, what = name.rsplit(' ', 1)
        kind = form.split(' ', 1)[0]
        yardstick = {'fp32': values[f'cpu {what}'], 'bf16': of_rounding[what]}
        if kind == 'cpu':
            limits[name] = SAME_FUNCTION
        else:
            limits[name] = min(MOST, max(FLOORS[kind][what], TIMES[kind] * yardstick[kind]))
    return limits


def build(name: str, kwargs: Mapping[str, Any], setting: Setting) -> tuple[nn.Module, Tensor]:
    """A model with random weights, on the CPU, and normalised images of its size [B, 3, H, W].

    Constant weights, such as scales of zero that silence a branch, are drawn too. Norms are in training, but for those
    that see less than `FEWEST_VALUES` a channel; all else that differs in training is off, so that nothing is random.
    """
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=100, **kwargs).eval()
    if name in BLOCKS:
        network.blocks = network.blocks[: BLOCKS[name]]
    for value in network.state_dict().values():
        if value.is_floating_point() and value.numel() and (value == value.flatten()[0]).all():
            value.uniform_(0.5, 1.5)
    size = network.pretrained_cfg['input_size'][-1]
    images = torch.randn(BATCH, 3, *[min(size, 64) if setting.small else size] * 2)
    train_norms(network, images)
    return network, images


def train_norms(network: nn.Module, images: Tensor) -> None:
    """Put the batch norms into training that see enough of a batch; the others use the statistics that they have."""
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    few = []

    def note(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].numel() // inputs[0].shape[1] < FEWEST_VALUES:
            few.append(norm)

    handles = [norm.register_forward_pre_hook(note) for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 0.0  # Statistics stay as they are.
    with torch.no_grad():
        network(images)
    for norm, momentum, handle in zip(norms, momenta, handles, strict=True):
        norm.momentum = momentum
        handle.remove()
    for norm in few:
        norm.eval()


def _rounded(network: nn.Module) -> nn.Module:
    network = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(parameter.bfloat16())
    return network


def run(
    network: nn.Module,
    images: Tensor,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    amp: bool = False,
    layout: torch.memory_format = torch.contiguous_format,
) -> tuple[Tensor, Tensor]:
    """Logits [B, K], and the gradients of a weighted sum of them by all parameters, as one vector; on the CPU."""
    network = copy.deepcopy(network).to(device, dtype).to(memory_format=layout)
    images = images.to(device, dtype, memory_format=layout)
    with torch.autocast(device.type, torch.bfloat16) if amp else nullcontext():
        logits = network(images)
    weights = torch.linspace(-1, 1, logits.numel(), dtype=torch.float64).sin().view_as(logits).to(device)
    (logits.double() * weights).sum().backward()
    gradients = [p.grad.flatten().double().cpu() for p in network.parameters() if p.grad is not None]
    return logits.detach().double().cpu(), torch.cat(gradients)
