"""The re-parameterised form of a depthwise convolution."""

import torch
from torch import nn

from backbones.layers.reparam import fold_norm, identity_kernel, sum_parallel


def depthwise_conv(
    in_chs: int,
    out_chs: int,
    kernel_size: int,
    stride: int,
    dilation: int,
    bias: bool = True,
    device: str | None = None,
) -> nn.Conv2d:
    """A depthwise convolution that keeps the size of its input, but for the stride."""
    padding = dilation * (kernel_size - 1) // 2
    return nn.Conv2d(in_chs, out_chs, kernel_size, stride, padding, dilation, in_chs, bias, device=device)


class RepDepthwise(nn.Module):
    """A depthwise convolution in training form: a large kernel, a small one and the identity, each with a norm.

    In eval mode their sum is one convolution with the large kernel, which `fuse` makes. The identity is there wherever
    the channels stay the same; it strides by leaving positions out.

    Source: Ding et al., "Scaling Up Your Kernels to 31x31", CVPR 2022 (https://arxiv.org/abs/2203.06717), guideline 3;
    the identity with its norm is RepVGG's (https://arxiv.org/abs/2101.03697).

    Args:
        in_chs: Input channels.
        out_chs: Output channels, a multiple of them.
        kernel_size: Side of the large kernel, odd.
        small_kernel_size: Side of the small kernel, odd.
        stride: Stride of all branches.
        dilation: Dilation of both kernels.
    """

    def __init__(self, in_chs: int, out_chs: int, kernel_size: int, small_kernel_size: int, stride: int, dilation: int):
        super().__init__()
        self.stride = stride
        self.large = depthwise_conv(in_chs, out_chs, kernel_size, stride, dilation, bias=False)
        self.large_norm = nn.BatchNorm2d(out_chs)
        self.small = depthwise_conv(in_chs, out_chs, small_kernel_size, stride, dilation, bias=False)
        self.small_norm = nn.BatchNorm2d(out_chs)
        self.identity_norm = nn.BatchNorm2d(out_chs) if in_chs == out_chs else None
        if self.identity_norm is not None:
            # A new model then starts like the plain one; otherwise each block would amplify its input.
            nn.init.zeros_(self.identity_norm.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features [B, C, H, W] to [B, C', H/stride, W/stride]."""
        y = self.large_norm(self.large(x)) + self.small_norm(self.small(x))
        if self.identity_norm is not None:
            y = y + self.identity_norm(x[:, :, :: self.stride, :: self.stride])
        return y

    @torch.no_grad()
    def fuse(self) -> nn.Conv2d:
        """The one depthwise convolution that the branches add up to in eval mode.

        ``timm.utils.reparameterize_model`` looks for this method and puts its result in place of the module; the model
        then has the state dict of its plain form (see `backbones.deploy`).
        """
        branches = [
            fold_norm(self.large.weight, None, self.large_norm),
            fold_norm(self.small.weight, None, self.small_norm),
        ]
        if self.identity_norm is not None:
            branches.append(fold_norm(identity_kernel(self.large.weight), None, self.identity_norm))
        weight, bias = sum_parallel(branches)
        large = self.large
        geometry = (large.in_channels, large.out_channels, large.kernel_size[0], self.stride, large.dilation[0])
        # Made without storage, the convolution draws no random numbers.
        conv = depthwise_conv(*geometry, device='meta')
        conv.weight, conv.bias = nn.Parameter(weight), nn.Parameter(bias)
        return conv
