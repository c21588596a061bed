"""CondenseNet: a densely connected network that learns which inputs its grouped convolutions need.

Source: Huang et al., "CondenseNet: An Efficient DenseNet using Learned Group Convolutions", CVPR 2018
(https://arxiv.org/abs/1711.09224) and its public code (https://github.com/ShichenLiu/CondenseNet).

A network has two forms. The training form has dense 1×1 convolutions under a mask: call `set_progress` each iteration
and add `lasso_loss` to the loss. In the first half of training, each group of filters gives up 1/C of its inputs C - 1
times. `to_group_conv` then makes the inference form of standard grouped convolutions, whose outputs are equal and whose
parameters and MACs are the published ones.

Differs from the public code: the inputs of the classifier are pruned at half of the training, as the paper says, and
not at conversion, so that conversion changes no output; progress is an argument, not a global variable.
"""

import copy
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from timm.models import generate_default_cfgs, register_model
from torch import nn

from backbones.relatives.shufflenet_v1 import channel_shuffle
from backbones.staged import Stage, StagedNet, build_staged, cifar_cfg, imagenet_cfg

__all__ = ['CondenseNet']

CLASSIFIER_CONDENSE_FACTOR = 2


class LearnedGroupConv(nn.Module):
    """Norm, activation and a 1×1 convolution whose groups of filters learn to drop inputs.

    Filter o is in group o mod G. Convert with `to_group_conv` once ``condense_factor`` - 1 stages have run.

    Args:
        in_chs: Input channels, a multiple of ``condense_factor``.
        out_chs: Output channels, a multiple of ``groups``.
        groups: Number G of filter groups.
        condense_factor: Each group keeps 1 / ``condense_factor`` of the inputs in the end.

    Raises:
        ValueError: The channels do not divide.
    """

    mask: torch.Tensor
    stage: torch.Tensor

    def __init__(self, in_chs: int, out_chs: int, groups: int, condense_factor: int):
        super().__init__()
        if in_chs % condense_factor or out_chs % groups:
            raise ValueError(
                f'{in_chs} input and {out_chs} output channels do not divide by condense_factor {condense_factor} '
                f'and groups {groups}; choose growth rates that do'
            )
        self.groups = groups
        self.condense_factor = condense_factor
        self.norm = nn.BatchNorm2d(in_chs)
        self.act = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(in_chs, out_chs, 1, bias=False)
        self.register_buffer('mask', torch.ones_like(self.conv.weight))
        self.register_buffer('stage', torch.zeros((), dtype=torch.long))

    def grouped_weight(self) -> torch.Tensor:
        """Masked weights by group [G, out_chs / G, in_chs]."""
        weight = (self.conv.weight * self.mask).flatten(1)
        return weight.unflatten(0, (-1, self.groups)).transpose(0, 1)

    def lasso_loss(self) -> torch.Tensor:
        """Group lasso Σ_g Σ_j sqrt(Σ_i w_gij²) over groups g, inputs j and a group's filters i.

        Returns:
            A scalar; pruned inputs count for nothing, and so does a layer that has condensed.
        """
        if self.stage >= self.condense_factor - 1:
            return self.conv.weight.new_zeros(())
        # The root has no gradient at zero, the norm of pruned inputs.
        norms = self.grouped_weight().square().sum(dim=1)
        return torch.where(norms > 0, norms, 1).sqrt().where(norms > 0, 0).sum()

    @torch.no_grad()
    def condense(self) -> None:
        """Run one condensing stage: each group drops its 1/C of the inputs with the smallest L1 norms."""
        num_dropped = self.conv.in_channels // self.condense_factor
        kept = self.mask.flatten(1)[: self.groups]
        norms = self.grouped_weight().abs().sum(dim=1).masked_fill(kept == 0, math.inf)
        dropped = norms.argsort(dim=1)[:, :num_dropped]
        kept = kept.scatter(1, dropped, 0.0)
        # Row o of the mask is that of group o mod G.
        self.mask.copy_(kept.repeat(self.conv.out_channels // self.groups, 1)[..., None, None])
        self.stage += 1

    def set_progress(self, progress: float) -> None:
        """Run the condensing stages due at this share of the training."""
        last = self.condense_factor - 1
        # In floating point, multiples of thirds and the like fall short of whole numbers; 1e-6 makes up for that.
        due = min(last, int(2 * progress * last + 1e-6))
        for _ in range(due - int(self.stage)):
            self.condense()

    def to_group_conv(self) -> 'IndexedGroupConv':
        """Make the inference form.

        Raises:
            ValueError: Condensing has not finished.
        """
        last = self.condense_factor - 1
        if self.stage < last:
            raise ValueError(f'{int(self.stage)} of {last} condensing stages have run; call set_progress(0.5) first')
        kept = self.mask.flatten(1)[: self.groups]
        # The kept inputs of each group, in order: a stable sort puts them first.
        index = kept.argsort(dim=1, descending=True, stable=True)[:, : self.conv.in_channels // self.condense_factor]
        weight = self.grouped_weight().gather(2, index[:, None].expand(-1, self.conv.out_channels // self.groups, -1))
        return IndexedGroupConv(self.norm, weight.detach().flatten(0, 1)[..., None, None], index.flatten(), self.groups)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features [B, in_chs, H, W] to [B, out_chs, H, W]."""
        return F.conv2d(self.act(self.norm(x)), self.conv.weight * self.mask)


class IndexedGroupConv(nn.Module):
    """The inference form of a learned group convolution: select inputs, norm, activation, grouped 1×1, shuffle.

    Args:
        norm: Norm of the training form.
        weight: Weights by group [out_chs, in_chs / C, 1, 1].
        index: Input channel of each channel of the grouped convolution [G · in_chs / C].
        groups: Groups of the convolution.
    """

    index: torch.Tensor

    def __init__(self, norm: nn.BatchNorm2d, weight: torch.Tensor, index: torch.Tensor, groups: int):
        super().__init__()
        self.groups = groups
        self.register_buffer('index', index)
        self.norm = nn.BatchNorm2d(len(index), norm.eps, norm.momentum, device=weight.device, dtype=weight.dtype)
        for name in ('weight', 'bias', 'running_mean', 'running_var'):
            getattr(self.norm, name).data.copy_(getattr(norm, name).data[index])
        self.act = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(
            len(index), len(weight), 1, groups=groups, bias=False, device=weight.device, dtype=weight.dtype
        )
        self.conv.weight.data.copy_(weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features [B, C, H, W] to [B, out_chs, H, W]."""
        x = self.conv(self.act(self.norm(x.index_select(1, self.index))))
        return channel_shuffle(x, self.groups)


class CondensingLinear(nn.Linear):
    """A linear layer that drops the half of its inputs with the smallest L1 norms."""

    mask: torch.Tensor

    def __init__(self, in_features: int, out_features: int):
        super().__init__(in_features, out_features)
        self.register_buffer('mask', torch.ones(in_features))

    @torch.no_grad()
    def condense(self) -> None:
        """Drop the inputs; a second call changes nothing."""
        if self.mask.all():
            dropped = self.weight.abs().sum(dim=0).argsort()[: self.in_features // CLASSIFIER_CONDENSE_FACTOR]
            self.mask[dropped] = 0.0

    def to_indexed(self) -> 'IndexedLinear':
        """Make the inference form."""
        return IndexedLinear(self, self.mask.nonzero().flatten())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [B, in_features] to [B, out_features]."""
        return F.linear(x, self.weight * self.mask, self.bias)


class IndexedLinear(nn.Linear):
    """A linear layer of selected inputs.

    Args:
        linear: The layer of all inputs.
        index: Inputs to select.
    """

    index: torch.Tensor

    def __init__(self, linear: nn.Linear, index: torch.Tensor):
        super().__init__(len(index), linear.out_features, device=linear.weight.device, dtype=linear.weight.dtype)
        self.register_buffer('index', index)
        self.weight.data.copy_(linear.weight.data[:, index])
        self.bias.data.copy_(linear.bias.data)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [B, all features] to [B, out_features]."""
        return super().forward(x.index_select(1, self.index))


class CondenseLayer(nn.Module):
    """A learned group convolution and a 3×3 group convolution, whose output is concatenated to the input.

    Args:
        in_chs: Input channels.
        growth: Output channels of the path.
        groups: Groups of both convolutions.
        condense_factor: See ``LearnedGroupConv``.
        bottleneck: Width between the convolutions over ``growth``.
    """

    def __init__(self, in_chs: int, growth: int, groups: int, condense_factor: int, bottleneck: int = 4):
        super().__init__()
        self.conv1: nn.Module = LearnedGroupConv(in_chs, bottleneck * growth, groups, condense_factor)
        self.norm2 = nn.BatchNorm2d(bottleneck * growth)
        self.act2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(bottleneck * growth, growth, 3, 1, 1, groups=groups, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features [B, C, H, W] to [B, C + growth, H, W]."""
        y = self.conv2(self.act2(self.norm2(self.conv1(x))))
        return torch.cat([x, y], dim=1)


class CondenseNet(StagedNet):
    """A 3×3 stem, densely connected stages between average pools, a last norm, pooling and a classifier.

    Args:
        depths: Layers of each stage.
        growths: Growth rate of each stage.
        groups: Groups of all convolutions but the stem.
        condense_factor: See ``LearnedGroupConv``.
        stem_stride: Stride of the stem.
        in_chans: Input channels.
        num_classes: Classes; 0 leaves the classifier out.
        global_pool: timm's name of the pooling.
        drop_rate: Dropout before the classifier.

    Raises:
        ValueError: ``depths`` and ``growths`` differ in length, or channels do not divide.
    """

    def __init__(
        self,
        depths: Sequence[int],
        growths: Sequence[int],
        groups: int = 4,
        condense_factor: int = 4,
        stem_stride: int = 2,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = 'avg',
        drop_rate: float = 0.0,
    ):
        if len(depths) != len(growths):
            raise ValueError(f'{len(depths)} depths and {len(growths)} growths; choose one of each for every stage')
        chs = 2 * growths[0]
        stem = nn.Sequential(nn.Conv2d(in_chans, chs, 3, stem_stride, 1, bias=False))
        stages, feature_info = [], []
        for i, (depth, growth) in enumerate(zip(depths, growths, strict=True)):
            layers: list[nn.Module] = [nn.AvgPool2d(2)] if i > 0 else []
            for _ in range(depth):
                layers.append(CondenseLayer(chs, growth, groups, condense_factor))
                chs += growth
            stages.append(Stage(*layers))
            feature_info.append(dict(num_chs=chs, reduction=stem_stride * 2**i, module=f'stages.{i}'))
        norm = nn.Sequential(nn.BatchNorm2d(chs), nn.ReLU(inplace=True))
        super().__init__(stem, stages, feature_info, norm, num_classes, global_pool, drop_rate)
        self._condense_classifier()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))

    def _condense_classifier(self) -> None:
        if self.num_classes > 0:
            self.head.fc = CondensingLinear(self.num_features, self.num_classes)
            nn.init.zeros_(self.head.fc.bias)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier, with none of its inputs pruned, and the pooling if one is named."""
        super().reset_classifier(num_classes, global_pool)
        self._condense_classifier()

    @torch.jit.ignore
    def set_progress(self, progress: float) -> None:
        """Prune the inputs that are due at this share of the training.

        Args:
            progress: Share of the training that has passed, 0 to 1; at 0.5 all pruning is done.

        Raises:
            ValueError: ``progress`` is outside of 0 to 1.
        """
        if not 0 <= progress <= 1:
            raise ValueError(f'progress {progress} is not a share of the training; choose from 0 to 1')
        for module in self.modules():
            if isinstance(module, LearnedGroupConv):
                module.set_progress(progress)
        if progress >= 0.5 and isinstance(self.head.fc, CondensingLinear):
            self.head.fc.condense()

    @torch.jit.ignore
    def lasso_loss(self) -> torch.Tensor:
        """Sum of the group lasso terms, a scalar; the publication adds it to the loss with weight 1e-5."""
        terms = (module.lasso_loss() for module in self.modules() if isinstance(module, LearnedGroupConv))
        return sum(terms, next(self.parameters()).new_zeros(()))

    @torch.jit.ignore
    def to_group_conv(self) -> 'CondenseNet':
        """Make the inference form: a new network with the same outputs in evaluation mode.

        Raises:
            ValueError: Condensing has not finished.
        """
        model = copy.deepcopy(self)
        for layer in model.modules():
            if isinstance(layer, CondenseLayer) and isinstance(layer.conv1, LearnedGroupConv):
                layer.conv1 = layer.conv1.to_group_conv()
        if isinstance(model.head.fc, CondensingLinear):
            model.head.fc = model.head.fc.to_indexed()
        return model.train(self.training)


def _cfg(**kwargs) -> dict:
    return dict(kwargs, paper_ids='arXiv:1711.09224', origin_url='https://github.com/ShichenLiu/CondenseNet')


default_cfgs = generate_default_cfgs(
    {
        'condensenet74_g4': imagenet_cfg(**_cfg()),
        'condensenet74_g8': imagenet_cfg(**_cfg()),
        'condensenet86_cifar': cifar_cfg(**_cfg()),
    }
)


def _create_condensenet(variant: str, pretrained: bool, **kwargs) -> CondenseNet:
    return build_staged(CondenseNet, variant, pretrained, num_stages=len(kwargs['depths']), **kwargs)


@register_model
def condensenet74_g4(pretrained: bool = False, **kwargs) -> CondenseNet:
    """CondenseNet-74 (G = C = 4): in its inference form 4.8 M parameters, 0.529 GMACs, 73.8 % on ImageNet."""
    args = dict(depths=(4, 6, 8, 10, 8), growths=(8, 16, 32, 64, 128), groups=4, condense_factor=4)
    return _create_condensenet('condensenet74_g4', pretrained, **dict(args, **kwargs))


@register_model
def condensenet74_g8(pretrained: bool = False, **kwargs) -> CondenseNet:
    """CondenseNet-74 (G = C = 8): in its inference form 2.9 M parameters, 0.274 GMACs, 71.0 % on ImageNet."""
    args = dict(depths=(4, 6, 8, 10, 8), growths=(8, 16, 32, 64, 128), groups=8, condense_factor=8)
    return _create_condensenet('condensenet74_g8', pretrained, **dict(args, **kwargs))


@register_model
def condensenet86_cifar(pretrained: bool = False, **kwargs) -> CondenseNet:
    """CondenseNet-86: in its inference form 0.52 M parameters, 0.0658 GMACs at 32×32, 94.94 % on CIFAR-10."""
    args = dict(depths=(14, 14, 14), growths=(8, 16, 32), groups=4, condense_factor=4, stem_stride=1)
    return _create_condensenet('condensenet86_cifar', pretrained, **dict(args, **kwargs))
