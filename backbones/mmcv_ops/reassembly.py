"""CARAFE, which upsamples by predicted kernels, and PSAMask, which lays out predicted attention.

Conventions of mmcv 2.1, ``ops/csrc/common/cuda/{carafe_naive,psamask}_cuda_kernel.cuh``.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.mmcv_ops.common import full

COLLECT = 0  # psa_type


def carafe_naive_forward(
    features: Tensor, masks: Tensor, output: Tensor, kernel_size: int, group_size: int, scale_factor: int
) -> None:
    """Content-aware reassembly (Wang et al., ICCV 2019), into ``output`` [B, C, H · scale, W · scale].

    Args:
        features: [B, C, H, W].
        masks: Weights of the kernel_size² pixels around, for each group of channels and each pixel of the output
            [B, group_size · kernel_size², H · scale, W · scale].
        output: Receives the weighted sums; pixels off the map count as 0.
        kernel_size: Odd.
        group_size: Number of groups that share the weights of a kernel.
        scale_factor: Pixels of the output a pixel of the features, along each axis.
    """
    masks = _by_tap(full(masks), kernel_size, group_size, scale_factor)
    total = torch.zeros_like(_by_group(full(output), group_size, scale_factor))
    for tap, _, pixels in _taps(_by_group(full(features), group_size), kernel_size):
        total.addcmul_(pixels[..., None, :, None], masks[:, :, tap, None])
    output.copy_(total.reshape(output.shape))


def carafe_naive_backward(
    grad_output: Tensor,
    features: Tensor,
    masks: Tensor,
    grad_input: Tensor,
    grad_masks: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Gradients of `carafe_naive_forward` by features and masks."""
    grads = _by_group(full(grad_output), group_size, scale_factor)
    masks = _by_tap(full(masks), kernel_size, group_size, scale_factor)
    maps = _by_group(full(features), group_size)
    reach = kernel_size // 2
    padded = F.pad(torch.zeros_like(maps), [reach] * 4)
    by_tap = torch.empty_like(masks)
    for tap, (rows, columns), pixels in _taps(maps, kernel_size):
        by_tap[:, :, tap] = (grads * pixels[..., None, :, None]).sum(dim=2)
        padded[..., rows, columns] += (grads * masks[:, :, tap, None]).sum(dim=(4, 6))
    height, width = maps.shape[3:]
    grad_input.copy_(padded[..., reach : reach + height, reach : reach + width].reshape(grad_input.shape))
    grad_masks.copy_(by_tap.reshape(grad_masks.shape))


def carafe_forward(
    features: Tensor,
    masks: Tensor,
    rfeatures: Tensor,
    routput: Tensor,
    rmasks: Tensor,
    output: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """As `carafe_naive_forward`; ``rfeatures`` receives the features, which is all that the backward pass gets."""
    rfeatures.copy_(features)
    carafe_naive_forward(features, masks, output, kernel_size, group_size, scale_factor)


def carafe_backward(
    grad_output: Tensor,
    rfeatures: Tensor,
    masks: Tensor,
    rgrad_output: Tensor,
    rgrad_input_hs: Tensor,
    rgrad_input: Tensor,
    rgrad_masks: Tensor,
    grad_input: Tensor,
    grad_masks: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """As `carafe_naive_backward`; the arguments that begin with ``rgrad`` are scratch space, unused."""
    sizes = (kernel_size, group_size, scale_factor)
    carafe_naive_backward(grad_output, rfeatures, masks, grad_input, grad_masks, *sizes)


def psamask_forward(
    input: Tensor,
    output: Tensor,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> None:
    """Attention relative to each pixel, laid out over the whole map (Zhao et al., "PSANet", ECCV 2018).

    Args:
        input: Attention of each pixel to the h_mask × w_mask places around it [B, h_mask · w_mask, H, W].
        output: Receives [B, H · W, H, W]: for ``psa_type`` 0 (collect) channel y · W + x is the attention of every
            pixel to (y, x), for 1 (distribute) the attention of pixel (y, x) to every place; 0 out of reach.
        psa_type: 0 or 1.
        num_: B.
        h_feature: H.
        w_feature: W.
        h_mask: Height of the surroundings.
        w_mask: Width of the surroundings.
        half_h_mask: Places above a pixel among them.
        half_w_mask: Places on its left among them.
    """
    to, reach = _relative(h_feature, h_mask, half_h_mask, input), _relative(w_feature, w_mask, half_w_mask, input)
    rows, columns = (torch.arange(size, device=input.device) for size in (h_feature, w_feature))
    attention = input.unflatten(1, (h_mask, w_mask))
    # Axes: image, row and column of the place, row and column of the pixel.
    laid = attention[:, to[0][:, None, :, None], reach[0][None, :, None, :], rows[:, None], columns]
    laid = laid * (to[1][:, None, :, None] & reach[1][None, :, None, :])
    laid = laid if psa_type == COLLECT else laid.permute(0, 3, 4, 1, 2)
    output.copy_(laid.reshape(output.shape))


def psamask_backward(
    grad_output: Tensor,
    grad_input: Tensor,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> None:
    """Gradient of `psamask_forward`, from ``grad_output`` into ``grad_input`` [B, h_mask · w_mask, H, W]."""
    size = (h_feature, w_feature)
    grads = grad_output.reshape(num_, *size, *size)
    grads = grads if psa_type == COLLECT else grads.permute(0, 3, 4, 1, 2)
    rows, columns = (torch.arange(length, device=grads.device) for length in size)
    # The place that each of the surroundings is for each pixel.
    y = torch.arange(h_mask, device=grads.device)[:, None] + rows - half_h_mask  # [h_mask, H]
    x = torch.arange(w_mask, device=grads.device)[:, None] + columns - half_w_mask
    inside = ((y >= 0) & (y < h_feature))[:, None, :, None] & ((x >= 0) & (x < w_feature))[None, :, None, :]
    y, x = y.clamp(0, h_feature - 1)[:, None, :, None], x.clamp(0, w_feature - 1)[None, :, None, :]
    grad_input.copy_((grads[:, y, x, rows[:, None], columns] * inside).flatten(1, 2))


def _relative(size: int, mask: int, half: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Which of a pixel's surroundings a place is along one axis [places, pixels], and whether it is one of them."""
    places = torch.arange(size, device=like.device)
    which = places[:, None] - places + half
    return which.clamp(0, mask - 1), (which >= 0) & (which < mask)


def _by_group(maps: Tensor, groups: int, scale: int | None = None) -> Tensor:
    """Maps as [B, groups, C / groups, H, W], those of the output as [B, groups, C / groups, H, scale, W, scale]."""
    maps = maps.unflatten(1, (groups, -1))
    return maps if scale is None else maps.unflatten(4, (-1, scale)).unflatten(3, (-1, scale))


def _by_tap(masks: Tensor, kernel_size: int, groups: int, scale: int) -> Tensor:
    """Masks as [B, groups, kernel_size², H, scale, W, scale]."""
    return _by_group(masks, groups, scale).unflatten(2, (kernel_size**2,))


def _taps(maps: Tensor, kernel_size: int) -> Iterator[tuple[int, tuple[slice, slice], Tensor]]:
    """Each place of a kernel: its number, where the maps lie under it once they are padded, and the pixels there."""
    height, width = maps.shape[-2:]
    padded = F.pad(maps, [kernel_size // 2] * 4)
    for tap in range(kernel_size**2):
        row, column = divmod(tap, kernel_size)
        window = slice(row, row + height), slice(column, column + width)
        yield tap, window, padded[..., window[0], window[1]]
