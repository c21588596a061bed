"""CARAFE, which upsamples by predicted kernels, and PSAMask, which lays out predicted attention.

Conventions of mmcv 2.1, ``ops/csrc/common/cuda/{carafe_naive,psamask}_cuda_kernel.cuh``.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.mmcv_ops.common import BUDGET, full

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
    # A matrix product a pixel of the features: channels last, and the pixels of the output that it makes side by side.
    grads = _by_pixel(full(grad_output), group_size, scale_factor)  # [B, groups, H, W, scale², C / groups]
    masks = _by_pixel(full(masks), group_size, scale_factor)  # [B, groups, H, W, scale², kernel_size²]
    maps = _by_group(full(features), group_size).permute(0, 1, 3, 4, 2).contiguous()  # [B, groups, H, W, C / groups]
    height, width = maps.shape[2:4]
    reach = kernel_size // 2
    padded = F.pad(torch.zeros_like(maps), [0, 0, *[reach] * 4])
    by_tap = torch.empty_like(masks)
    for tap, (rows, columns), pixels in _taps(maps.movedim(-1, 2), kernel_size):
        by_tap[..., tap] = (grads @ pixels.movedim(2, -1)[..., None])[..., 0]
        padded[:, :, rows, columns] += (masks[..., None, :, tap] @ grads)[..., 0, :]
    by_pixel = padded[:, :, reach : reach + height, reach : reach + width]
    grad_input.copy_(by_pixel.movedim(-1, 2).reshape(grad_input.shape))
    by_tap = by_tap.unflatten(4, (scale_factor, scale_factor))  # [B, groups, H, W, scale, scale, kernel_size²]
    grad_masks.copy_(by_tap.permute(0, 1, 6, 2, 4, 3, 5).reshape(grad_masks.shape))


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
    rows, columns = (torch.arange(size, device=input.device) for size in (h_feature, w_feature))
    attention = input.unflatten(1, (h_mask, w_mask))
    laid = output.view(num_, h_feature, w_feature, h_feature, w_feature)
    laid = laid if psa_type == COLLECT else laid.permute(0, 3, 4, 1, 2)
    # Axes: image, row and column of the place, row and column of the pixel; some rows of places at a time.
    to_x, reach_x = _relative(columns, columns, half_w_mask, w_mask)
    for some in _parts(h_feature, num_ * w_feature * h_feature * w_feature):
        to_y, reach_y = _relative(rows[some], rows, half_h_mask, h_mask)
        found = attention[:, to_y[:, None, :, None], to_x[:, None], rows[:, None], columns]
        laid[:, some] = found.mul_(reach_y[:, None, :, None] & reach_x[:, None])


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
    rows, columns = (torch.arange(size, device=grad_output.device) for size in (h_feature, w_feature))
    grads = grad_output.reshape(num_, h_feature, w_feature, h_feature, w_feature)
    grads = grads if psa_type == COLLECT else grads.permute(0, 3, 4, 1, 2)
    taken = grad_input.view(num_, h_mask, w_mask, h_feature, w_feature)
    # The place that each of the surroundings is for each pixel; some rows of surroundings at a time.
    at_y, at_x = (torch.arange(size, device=grad_output.device) for size in (h_mask, w_mask))
    to_x, reach_x = _relative(at_x, -columns, -half_w_mask, w_feature)
    for some in _parts(h_mask, num_ * w_mask * h_feature * w_feature):
        to_y, reach_y = _relative(at_y[some], -rows, -half_h_mask, h_feature)
        found = grads[:, to_y[:, None, :, None], to_x[:, None], rows[:, None], columns]
        taken[:, some] = found.mul_(reach_y[:, None, :, None] & reach_x[:, None])


def _parts(length: int, cost: int) -> Iterator[slice]:
    """Slices of an axis whose entries take ``cost`` values each, as long as :data:`BUDGET` allows."""
    step = max(1, BUDGET // max(1, cost))
    return (slice(start, start + step) for start in range(0, length, step))


def _relative(a: Tensor, b: Tensor, shift: int, size: int) -> tuple[Tensor, Tensor]:
    """a - b + shift of each pair [len(a), len(b)], cut to 0 … size - 1, and whether it was in there."""
    which = a[:, None] - b + shift
    return which.clamp(0, size - 1), (which >= 0) & (which < size)


def _by_group(maps: Tensor, groups: int, scale: int | None = None) -> Tensor:
    """Maps as [B, groups, C / groups, H, W], those of the output as [B, groups, C / groups, H, scale, W, scale]."""
    maps = maps.unflatten(1, (groups, -1))
    return maps if scale is None else maps.unflatten(4, (-1, scale)).unflatten(3, (-1, scale))


def _by_pixel(maps: Tensor, groups: int, scale: int) -> Tensor:
    """Maps of the output [B, C, H · scale, W · scale] as [B, groups, H, W, scale², C / groups]."""
    return _by_group(maps, groups, scale).permute(0, 1, 3, 5, 4, 6, 2).flatten(4, 5)


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
