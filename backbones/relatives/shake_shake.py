"""Shake-Shake: a residual network of two branches, mixed with random weights that the backward pass draws anew.

Source: Gastaldi, "Shake-Shake regularization", 2017 (https://arxiv.org/abs/1705.07485) and its public code
(https://github.com/xgastaldi/shake-shake). The named models are its "Shake-Shake-Image" networks for CIFAR-10.
"""

import math

import torch
import torch.nn.functional as F
from timm.models import generate_default_cfgs, register_model
from torch import nn

from backbones.staged import Stage, StagedNet, build_staged, cifar_cfg

__all__ = ['ShakeShake']


def mix(a: torch.Tensor, b: torch.Tensor, forward: torch.Tensor, backward: torch.Tensor) -> torch.Tensor:
    """Mix two branches with one weight and their gradients with another.

    Args:
        a: Output of the first branch [B, C, H, W].
        b: Output of the second branch, of the same shape.
        forward: Weight α of ``a`` in the sum, broadcast against it.
        backward: Weight β of ``a``'s share of the gradient.

    Returns:
        α·a + (1 - α)·b, whose gradients are β for ``a`` and 1 - β for ``b``.
    """
    difference = a - b
    return b + backward * difference + ((forward - backward) * difference).detach()


class Shake(nn.Module):
    """Two branches mixed at random in training, with a weight for each image, and evenly otherwise.

    Args:
        shake_forward: Draw the forward weights from U(0, 1) instead of taking 0.5.
        shake_backward: Draw the backward weights from U(0, 1), independently, instead of taking 0.5.
    """

    def __init__(self, shake_forward: bool = True, shake_backward: bool = True):
        super().__init__()
        self.shake_forward = shake_forward
        self.shake_backward = shake_backward

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Mix two branches [B, C, H, W]."""
        if not self.training:
            return 0.5 * (a + b)
        return mix(a, b, self._weights(a, self.shake_forward), self._weights(a, self.shake_backward))

    def _weights(self, x: torch.Tensor, shake: bool) -> torch.Tensor:
        weights = x.new_empty((x.shape[0], 1, 1, 1))
        return weights.uniform_() if shake else weights.fill_(0.5)


class ShiftedShortcut(nn.Module):
    """The shortcut where the shape changes: two strided views of the map, one pixel apart, concatenated.

    Args:
        in_chs: Input channels.
        out_chs: Output channels, even.
        stride: Stride.
    """

    def __init__(self, in_chs: int, out_chs: int, stride: int):
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(in_chs, out_chs // 2, 1, bias=False)
        self.conv2 = nn.Conv2d(in_chs, out_chs // 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(out_chs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features [B, C, H, W] to [B, C', H/stride, W/stride]."""
        x = F.relu(x)
        # One pixel down and right: zeros enter at the top and the left, the last row and column leave.
        shifted = F.pad(x, (1, -1, 1, -1))
        x = x[:, :, :: self.stride, :: self.stride]
        shifted = shifted[:, :, :: self.stride, :: self.stride]
        return self.norm(torch.cat([self.conv1(x), self.conv2(shifted)], dim=1))


class ShakeBlock(nn.Module):
    """Two branches of two pre-activated 3×3 convolutions beside a shortcut.

    Args:
        in_chs: Input channels.
        out_chs: Output channels.
        stride: Stride of the first convolutions and of the shortcut.
        shake_forward: See ``Shake``.
        shake_backward: See ``Shake``.
    """

    def __init__(self, in_chs: int, out_chs: int, stride: int, shake_forward: bool, shake_backward: bool):
        super().__init__()
        self.branch1 = self._branch(in_chs, out_chs, stride)
        self.branch2 = self._branch(in_chs, out_chs, stride)
        self.shake = Shake(shake_forward, shake_backward)
        self.shortcut = nn.Identity() if in_chs == out_chs else ShiftedShortcut(in_chs, out_chs, stride)

    @staticmethod
    def _branch(in_chs: int, out_chs: int, stride: int) -> nn.Sequential:
        return nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(in_chs, out_chs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out_chs),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_chs, out_chs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(out_chs),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features [B, C, H, W] to [B, C', H/stride, W/stride]."""
        return self.shortcut(x) + self.shake(self.branch1(x), self.branch2(x))


class ShakeShake(StagedNet):
    """A 3×3 stem, three stages at strides 1, 2 and 4, average pooling and a linear classifier.

    Args:
        width: Width of the first stage, doubled by each of the next two.
        depth: Layers, 6n + 2.
        in_chans: Input channels.
        num_classes: Classes; 0 leaves the classifier out.
        global_pool: timm's name of the pooling.
        drop_rate: Dropout before the classifier.
        shake_forward: Mix the branches at random in training.
        shake_backward: Mix their gradients at random in training.

    Raises:
        ValueError: ``depth`` is not 6n + 2.
    """

    def __init__(
        self,
        width: int = 32,
        depth: int = 26,
        in_chans: int = 3,
        num_classes: int = 10,
        global_pool: str = 'avg',
        drop_rate: float = 0.0,
        shake_forward: bool = True,
        shake_backward: bool = True,
    ):
        if depth % 6 != 2:
            raise ValueError(f'depth {depth} is not 6n + 2; choose from 8, 14, 20, 26, …')
        chs = 16
        stem = nn.Sequential(nn.Conv2d(in_chans, chs, 3, 1, 1, bias=False), nn.BatchNorm2d(chs))
        stages, feature_info = [], []
        for i in range(3):
            blocks = []
            for j in range(depth // 6):
                stride = 2 if i > 0 and j == 0 else 1
                blocks.append(ShakeBlock(chs, width * 2**i, stride, shake_forward, shake_backward))
                chs = width * 2**i
            stages.append(Stage(*blocks))
            feature_info.append(dict(num_chs=chs, reduction=2**i, module=f'stages.{i}'))
        super().__init__(stem, stages, feature_info, nn.ReLU(), num_classes, global_pool, drop_rate)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        if num_classes > 0:
            nn.init.zeros_(self.head.fc.bias)


def _cfg(**kwargs) -> dict:
    return cifar_cfg(paper_ids='arXiv:1705.07485', origin_url='https://github.com/xgastaldi/shake-shake', **kwargs)


default_cfgs = generate_default_cfgs({f'shake_shake26_2x{width}d': _cfg() for width in (32, 64, 96)})


@register_model
def shake_shake26_2x32d(pretrained: bool = False, **kwargs) -> ShakeShake:
    """Shake-Shake 26 2×32d: 2.9 M parameters, 96.45 % on CIFAR-10."""
    return build_staged(ShakeShake, 'shake_shake26_2x32d', pretrained, **dict(dict(width=32), **kwargs))


@register_model
def shake_shake26_2x64d(pretrained: bool = False, **kwargs) -> ShakeShake:
    """Shake-Shake 26 2×64d: 11.7 M parameters, 97.02 % on CIFAR-10."""
    return build_staged(ShakeShake, 'shake_shake26_2x64d', pretrained, **dict(dict(width=64), **kwargs))


@register_model
def shake_shake26_2x96d(pretrained: bool = False, **kwargs) -> ShakeShake:
    """Shake-Shake 26 2×96d: 26.2 M parameters, 3.78 GMACs at 32×32, 97.14 % on CIFAR-10."""
    return build_staged(ShakeShake, 'shake_shake26_2x96d', pretrained, **dict(dict(width=96), **kwargs))
