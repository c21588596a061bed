"""RoIAlign by average and by maximum on torchvision's kernels, and RoIPool in tensor code.

Conventions of mmcv 2.1, ``ops/csrc/common/cuda/{roi_align,roi_pool}_cuda_kernel.cuh``. mmcv's RoIPool is not
torchvision's, which rounds the RoI to pixels before dividing it into bins.
"""

from collections.abc import Iterator
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.mmcv_ops.common import BUDGET, full, kernels

AVERAGE = 1
"""``pool_mode`` of the average."""


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """RoIAlign (He et al., ICCV 2017), into ``output`` [R, C, aligned_height, aligned_width].

    Args:
        input: Feature map [B, C, H, W].
        rois: Image index and corners in pixels of the image [R, 5].
        output: Receives the pooled values; 0 where a bin has no sample.
        argmax_y: Receives y of the largest sample of each bin, -1 where there is none; for the maximum only.
        argmax_x: Receives x likewise.
        aligned_height: Bins in y.
        aligned_width: Bins in x.
        spatial_scale: Pixels of the feature map per pixel of the image.
        sampling_ratio: Samples per bin and axis; 0 takes one per pixel of the feature map.
        pool_mode: 1 average, 0 maximum.
        aligned: Pixel centres are at half coordinates.
    """
    input, rois = full(input), full(rois)
    bins = (aligned_height, aligned_width)
    if pool_mode == AVERAGE:
        output.copy_(kernels.roi_align(input, rois, spatial_scale, *bins, sampling_ratio, aligned))
        return
    start = rois[:, 1:3] * spatial_scale - (0.5 if aligned else 0)
    extent = (rois[:, 3:] - rois[:, 1:3]) * spatial_scale
    start, extent = start.flip(1), (extent if aligned else extent.clamp(min=1)).flip(1)  # y, x
    size = extent / extent.new_tensor(bins)
    counts = torch.full_like(size, sampling_ratio) if sampling_ratio > 0 else size.ceil()

    for target, empty in ((output, 0), (argmax_y, -1), (argmax_x, -1)):
        target.fill_(empty)
    for rows, columns, some in groups(counts.long(), cost=input.size(1) * bins[0] * bins[1]):
        # The samples of a bin are the bins of a RoIAlign with that many times more bins and one sample in each.
        fine = (bins[0] * rows, bins[1] * columns)
        samples = kernels.roi_align(input, rois[some], spatial_scale, *fine, 1, aligned)
        best, place = F.max_pool2d(samples, (rows, columns), return_indices=True)
        first, step = (x[some, :, None, None, None].unbind(1) for x in (start, size / counts))
        output[some] = best.to(output)
        argmax_y[some] = (first[0] + (place // fine[1] + 0.5) * step[0]).to(output)
        argmax_x[some] = (first[1] + (place % fine[1] + 0.5) * step[1]).to(output)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Gradient of :func:`roi_align_forward`, from ``grad_output`` into ``grad_input`` [B, C, H, W]."""
    grad_output, rois, shape = full(grad_output), full(rois), grad_input.shape
    bins = (aligned_height, aligned_width)
    if pool_mode == AVERAGE and sampling_ratio > 0 and grad_output.device.type == 'cpu':
        _add_to_pixels(grad_output, rois, grad_input, spatial_scale, sampling_ratio, aligned)
        return
    if pool_mode == AVERAGE:
        geometry = (spatial_scale, *bins, *shape, sampling_ratio, aligned)
        grad_input.copy_(kernels._roi_align_backward(grad_output, rois, *geometry))
        return
    grad_output = grad_output * (argmax_y != -1)
    maps = torch.zeros(shape, dtype=grad_output.dtype, device=grad_output.device)
    corners = product(neighbours(full(argmax_y), shape[2]), neighbours(full(argmax_x), shape[3]))
    for (y, weight_y), (x, weight_x) in corners:
        scatter(maps, rois[:, 0].long(), y * shape[3] + x, grad_output * weight_y * weight_x)
    grad_input.copy_(maps)


def _add_to_pixels(
    grad_output: Tensor, rois: Tensor, grad_input: Tensor, spatial_scale: float, sampling_ratio: int, aligned: bool
) -> None:
    """Gradient of the average on a CPU, all channels of a pixel at once: five times as fast as torchvision's kernel.

    Args:
        grad_output: Gradient of the pooled values [R, C, h, w].
        rois: Image index and corners in pixels of the image [R, 5].
        grad_input: Receives the gradient of the feature map [B, C, H, W].
        spatial_scale: Pixels of the feature map per pixel of the image.
        sampling_ratio: Samples per bin and axis.
        aligned: Pixel centres are at half coordinates.
    """
    batch, chs, *size = grad_input.shape
    bins = grad_output.shape[2:]
    start = rois[:, 1:3] * spatial_scale - (0.5 if aligned else 0)
    extent = (rois[:, 3:] - rois[:, 1:3]) * spatial_scale
    extent = extent if aligned else extent.clamp(min=1)
    axes = []
    for axis in (1, 0):  # y, then x.
        count = bins[1 - axis] * sampling_ratio
        middles = (torch.arange(count, dtype=rois.dtype, device=rois.device) + 0.5) / count
        pairs = neighbours(start[:, axis, None] + extent[:, axis, None] * middles, size[1 - axis])
        # What touches a bin, one after the other: each sample's two neighbours.
        axes.append(
            [
                (places[:, sample::sampling_ratio], weights[:, sample::sampling_ratio] / sampling_ratio)
                for places, weights in pairs
                for sample in range(sampling_ratio)
            ]
        )

    maps = torch.zeros(batch * size[0] * size[1], chs, dtype=grad_output.dtype, device=grad_output.device)
    first = rois[:, 0].long()[:, None, None] * (size[0] * size[1])
    pixels = grad_output.permute(0, 2, 3, 1).contiguous()  # [R, h, w, C]: channels are added together.
    for (rows, row_weights), (columns, column_weights) in product(*axes):
        places = first + rows[:, :, None] * size[1] + columns[:, None]
        weights = (row_weights[:, :, None] * column_weights[:, None]).to(pixels)
        maps.index_add_(0, places.flatten(), (pixels * weights[..., None]).view(-1, chs))
    grad_input.copy_(maps.view(batch, *size, chs).permute(0, 3, 1, 2))


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """RoIPool (Girshick, ICCV 2015), the largest pixel of a bin, into ``output`` [R, C, pooled_height, pooled_width].

    Args:
        input: Feature map [B, C, H, W].
        rois: Image index and corners in pixels of the image, the far ones included [R, 5].
        output: Receives the pooled values; 0 where a bin has no pixel.
        argmax: Receives y * W + x of each largest pixel, -1 where there is none.
        pooled_height: Bins in y.
        pooled_width: Bins in x.
        spatial_scale: Pixels of the feature map per pixel of the image.
    """
    rois = full(rois)
    channels, height, width = input.shape[1:]
    corners = (rois[:, 1:] + rois.new_tensor([0, 0, 1, 1])) * spatial_scale
    first_x, count_x = _touched(corners[:, 0::2], pooled_width, width)
    first_y, count_y = _touched(corners[:, 1::2], pooled_height, height)

    output.fill_(0)
    argmax.fill_(-1)
    pixels = input.permute(0, 2, 3, 1).reshape(-1, channels)  # [B * H * W, C]: channels are read together
    start = rois[:, 0].long() * (height * width)
    counts = torch.stack((count_y.amax(1), count_x.amax(1)), 1)
    for rows, columns, some in groups(counts, cost=pooled_height * pooled_width * channels):
        y = _run(first_y[some], count_y[some], rows)
        x = _run(first_x[some], count_x[some], columns)
        place = y[:, :, None, :, None] * width + x[:, None, :, None]  # [r, bins, bins, rows, columns]
        place = place.flatten(3)
        values = pixels[start[some, None, None, None] + place]  # [r, bins, bins, rows * columns, C]
        best, which = values.max(3)
        found = (count_y[some, :, None] * count_x[some, None] > 0)[..., None]
        output[some] = torch.where(found, best, 0).permute(0, 3, 1, 2)
        argmax[some] = torch.where(found, place.gather(3, which), -1).permute(0, 3, 1, 2).to(argmax)


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Gradient of :func:`roi_pool_forward`, from ``grad_output`` into ``grad_input`` [B, C, H, W]."""
    grad_output = full(grad_output)
    maps = torch.zeros(grad_input.shape, dtype=grad_output.dtype, device=grad_output.device)
    scatter(maps, rois[:, 0].long(), argmax.long().clamp(min=0), grad_output * (argmax >= 0))
    grad_input.copy_(maps)


def groups(counts: Tensor, cost: int) -> Iterator[tuple[int, int, Tensor]]:
    """Group the RoIs that are sampled together.

    Args:
        counts: Samples per bin in y and x [R, 2].
        cost: Values in one RoI for one sample per bin.

    Yields:
        The two counts and the indices of RoIs with these counts, as many as :data:`BUDGET` allows. RoIs without a
        sample are left out.
    """
    kinds, kind = counts.unique(dim=0, return_inverse=True)
    for k, (rows, columns) in enumerate(kinds.tolist()):
        if rows > 0 and columns > 0:
            for some in (kind == k).nonzero()[:, 0].split(max(1, BUDGET // (rows * columns * cost))):
                yield rows, columns, some


def _touched(ends: Tensor, bins: int, size: int) -> tuple[Tensor, Tensor]:
    """First pixel and number of pixels that each bin touches along one axis [R, bins], from the RoIs' ends [R, 2]."""
    start, end = ends[:, :1], ends[:, 1:]
    edges = torch.arange(bins + 1, device=ends.device) * ((end - start) / bins) + start
    first, last = edges[:, :-1].floor().clamp(0, size), edges[:, 1:].ceil().clamp(0, size)
    return first.long(), ((last - first).clamp(min=0) * (end > start)).long()


def _run(first: Tensor, count: Tensor, length: int) -> Tensor:
    """Pixels from the first on [R, bins, length]; a shorter run repeats its last pixel, which changes no maximum."""
    steps = torch.arange(length, device=first.device).expand(*first.shape, length)
    # An empty bin may start past the end of the map: pixel 0 is read instead, and its value is not used.
    return torch.where(count > 0, first, 0)[..., None] + torch.minimum(steps, (count - 1).clamp(min=0)[..., None])


def neighbours(t: Tensor, size: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The two pixels around each coordinate along one axis and their weights, 0 more than a pixel off the map."""
    inside = (t >= -1) & (t <= size)
    t = t.clamp(0, size - 1)
    low = t.floor()
    part = t - low
    return (low.long(), (1 - part) * inside), ((low + 1).clamp(max=size - 1).long(), part * inside)


def scatter(maps: Tensor, image: Tensor, place: Tensor, values: Tensor) -> None:
    """Add values [R, C, ...] to the pixel y * W + x of their RoI's image, in maps [B, C, H, W]."""
    channels, height, width = maps.shape[1:]
    plane = image[:, None] * channels + torch.arange(channels, device=maps.device)
    index = plane[..., None, None] * (height * width) + place
    maps.view(-1).index_add_(0, index.flatten(), values.flatten())
