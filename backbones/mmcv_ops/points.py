"""Operators that look at a map between its pixels: rotated RoIAlign, deformable RoI pooling, border alignment.

Each works out where its points lie, samples the map there by bilinear interpolation, and takes the mean or the maximum
of them. Conventions of mmcv 2.1, ``{roi_align_rotated,deform_roi_pool,border_align}_cuda_kernel.cuh`` in
``ops/csrc/common/cuda``.
"""

from collections.abc import Iterable, Iterator
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.mmcv_ops.common import BUDGET, full
from backbones.mmcv_ops.roi import groups, neighbours, scatter


def roi_align_rotated_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
    clockwise: bool,
) -> None:
    """RoIAlign of rotated boxes, into ``output`` [R, C, pooled_height, pooled_width].

    Args:
        input: Feature map [B, C, H, W].
        rois: Image index, centre x and y, width, height in pixels of the image, and angle in radians [R, 6].
        output: Receives the means of the samples of each bin.
        pooled_height: Bins in y.
        pooled_width: Bins in x.
        spatial_scale: Feature map pixels a pixel of the image.
        sampling_ratio: Samples a bin and axis; 0 takes one a feature map pixel.
        aligned: Whether pixel centres sit at half coordinates.
        clockwise: Whether the angle turns clockwise.
    """
    input, rois = full(input), full(rois)
    output.fill_(0)
    settings = (pooled_height, pooled_width, spatial_scale, sampling_ratio, aligned, clockwise)
    for some, y, x in _rotated_points(rois, input.shape[1], *settings):
        output[some] = sample(input, rois[some, 0].long(), y, x).to(output)


def roi_align_rotated_backward(
    grad_output: Tensor,
    rois: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
    clockwise: bool,
) -> None:
    """Gradient of `roi_align_rotated_forward`, from ``grad_output`` into ``grad_input`` [B, C, H, W]."""
    grad_output, rois = full(grad_output), full(rois)
    maps = torch.zeros_like(grad_input, dtype=grad_output.dtype)
    settings = (pooled_height, pooled_width, spatial_scale, sampling_ratio, aligned, clockwise)
    points = _rotated_points(rois, maps.shape[1], *settings)
    spread(maps, ((rois[some, 0].long(), y, x, grad_output[some]) for some, y, x in points))
    grad_input.copy_(maps)


def deform_roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    output: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> None:
    """Deformable RoI pooling (Dai et al., ICCV 2017), into ``output`` [R, C, pooled_height, pooled_width].

    Args:
        input: Feature map [B, C, H, W].
        rois: Image index and corners in pixels of the image [R, 5].
        offset: Shift of each bin in x and y, in RoI widths and heights [R, 2, pooled_height, pooled_width]; or empty.
        output: Receives the means of the samples of each bin.
        pooled_height: Bins in y.
        pooled_width: Bins in x.
        spatial_scale: Feature map pixels a pixel of the image.
        sampling_ratio: Samples a bin and axis; 0 takes one a feature map pixel.
        gamma: Factor of the shifts.
    """
    input, rois, offset = full(input), full(rois), full(offset)
    output.fill_(0)
    settings = (pooled_height, pooled_width, spatial_scale, sampling_ratio, gamma)
    for some, y, x, _ in _deformed_points(rois, offset, input.shape[1], *settings):
        output[some] = sample(input, rois[some, 0].long(), y, x).to(output)


def deform_roi_pool_backward(
    grad_output: Tensor,
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> None:
    """Gradients of `deform_roi_pool_forward` by the map and, if there are any, by the shifts."""
    grad_output, input, rois, offset = map(full, (grad_output, input, rois, offset))
    maps = torch.zeros_like(grad_input, dtype=grad_output.dtype)
    settings = (pooled_height, pooled_width, spatial_scale, sampling_ratio, gamma)
    points = list(_deformed_points(rois, offset, input.shape[1], *settings))
    spread(maps, ((rois[some, 0].long(), y, x, grad_output[some]) for some, y, x, _ in points))
    grad_input.copy_(maps)
    for some, y, x, extent in points if offset.numel() else ():
        by_y, by_x = _slopes(input, rois[some, 0].long(), y, x)
        slopes = torch.stack([by_x, by_y], dim=1)  # [r, 2, C, bins, bins, samples]
        each = grad_output[some][:, None, ..., None] / y.shape[-1]
        steps = gamma * extent.flip(1)[:, :, None, None]
        grad_offset[some] = (steps * (slopes * each).sum(dim=(2, 5))).to(grad_offset)


def border_align_forward(input: Tensor, boxes: Tensor, output: Tensor, argmax_idx: Tensor, pool_size: int) -> None:
    """The largest sample along each border of each box (Qiu et al., ECCV 2020), into ``output`` [B, C, K, 4].

    Args:
        input: Feature maps of the top, left, bottom and right borders, one after the other [B, 4 C, H, W].
        boxes: Corners x1, y1, x2, y2 in pixels of the map [B, K, 4].
        output: Receives the largest samples of the top, left, bottom and right border.
        argmax_idx: Receives the number of each largest sample, counted from the border's first corner.
        pool_size: Steps along a border; there is one more sample.
    """
    input = full(input)
    for border, some, y, x in _borders(full(boxes), pool_size, input.shape[1] // 4):
        image = some // boxes.shape[1]
        values, places = sample(input.chunk(4, dim=1)[border], image, y[..., None], x[..., None]).max(dim=-1)  # [r, C]
        output[image, :, some % boxes.shape[1], border] = values.to(output)
        argmax_idx[image, :, some % boxes.shape[1], border] = places.to(argmax_idx)


def border_align_backward(
    grad_output: Tensor, boxes: Tensor, argmax_idx: Tensor, grad_input: Tensor, pool_size: int
) -> None:
    """Gradient of `border_align_forward`, from ``grad_output`` into ``grad_input`` [B, 4 C, H, W]."""
    grad_output = full(grad_output)
    batch, channels, height, width = grad_input.shape
    maps = grad_output.new_zeros(4, batch, channels // 4, height, width)
    for border, some, y, x in _borders(full(boxes), pool_size, channels // 4):
        image, place = some // boxes.shape[1], some % boxes.shape[1]
        chosen = argmax_idx[image, :, place, border].long()  # [r, C]
        grads = grad_output[image, :, place, border]
        corners = product(neighbours(y.gather(1, chosen), height), neighbours(x.gather(1, chosen), width))
        for (row, by_row), (column, by_column) in corners:
            pixels, values = row * width + column, grads * by_row * by_column
            scatter(maps[border], image, pixels[..., None, None], values[..., None, None])
    grad_input.copy_(maps.transpose(0, 1).flatten(1, 2))


def sample(maps: Tensor, image: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Means of bilinear samples; a sample more than a pixel off the map counts as 0.

    Args:
        maps: [B, C, H, W].
        image: Index of each region's image [R].
        y: Coordinates of the samples of each mean [R, …, samples].
        x: Likewise.

    Returns:
        [R, C, …].
    """
    pixels = maps.permute(0, 2, 3, 1).flatten(0, 2)  # [B * H * W, C]: channels are read together
    places, weights = _corners(maps, image, y, x)
    # torch's bag of embeddings never holds the rows that it adds.
    bags = places.flatten(0, -2), pixels
    means = F.embedding_bag(*bags, per_sample_weights=weights.flatten(0, -2), mode='sum')
    return means.unflatten(0, places.shape[:-1]).movedim(-1, 1)


def spread(maps: Tensor, samples: Iterable[tuple[Tensor, Tensor, Tensor, Tensor]]) -> None:
    """Add the gradient of `sample` by ``maps`` to them.

    Args:
        maps: [B, C, H, W].
        samples: The images and coordinates of some regions, as `sample` takes them, and the gradients of its result
            [R, C, …]; any number of times. As many as :data:`BUDGET` allows are added at once.
    """
    held, size = [], 0
    for image, y, x, grads in samples:
        places, weights = _corners(maps, image, y, x)
        held.append((places, weights, grads.movedim(1, -1).flatten(0, -2)))
        size += places.numel()
        if size > BUDGET:
            maps += _scattered(maps, held)
            held, size = [], 0
    if held:
        maps += _scattered(maps, held)


def _scattered(maps: Tensor, terms: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Gradient by maps [B, C, H, W] of weighted sums: their places and weights [R, …, terms], gradients [sums, C]."""
    batch, channels, height, width = maps.shape
    lengths = torch.cat([places.new_full((len(grads),), places.shape[-1]) for places, _, grads in terms])
    rows, by_row = (torch.cat([x.flatten() for x in parts]) for parts in list(zip(*terms, strict=True))[:2])
    with torch.enable_grad():
        pixels = maps.new_zeros(batch * height * width, channels).requires_grad_()
        sums = F.embedding_bag(rows, pixels, lengths.cumsum(0) - lengths, per_sample_weights=by_row, mode='sum')
    (by_pixels,) = torch.autograd.grad(sums, pixels, torch.cat([grads for _, _, grads in terms]))
    return by_pixels.view(batch, height, width, channels).permute(0, 3, 1, 2)


def _corners(maps: Tensor, image: Tensor, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The four pixels around each sample, as rows of the pixels [B * H * W, C], and their weights in the mean.

    Both have the shape [R, …, 4 * samples].
    """
    height, width = maps.shape[2:]
    first = (image * (height * width)).view(-1, *[1] * (y.ndim - 1))
    corners = [
        (first + row * width + column, by_row * by_column / y.shape[-1])
        for row, by_row in neighbours(y, height)
        for column, by_column in neighbours(x, width)
    ]
    places, weights = zip(*corners, strict=True)
    return torch.cat(places, dim=-1), torch.cat(weights, dim=-1)


def _slopes(maps: Tensor, image: Tensor, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Derivatives [R, C, …] of `sample` by y and x, as mmcv takes them: by the coordinates as they are, not clamped."""
    height, width = maps.shape[2:]
    inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
    first = (image * (height * width)).view(-1, *[1] * (y.ndim - 1))
    pixels = maps.permute(0, 2, 3, 1).flatten(0, 2)
    (top, _), (bottom, _) = neighbours(y, height)
    (left, _), (right, _) = neighbours(x, width)

    def at(row: Tensor, column: Tensor) -> Tensor:
        return pixels[first + row * width + column]

    below, above = ((y - top) * inside)[..., None], ((bottom - y) * inside)[..., None]
    after, before = ((x - left) * inside)[..., None], ((right - x) * inside)[..., None]
    by_x = below * (at(bottom, right) - at(bottom, left)) + above * (at(top, right) - at(top, left))
    by_y = after * (at(bottom, right) - at(top, right)) + before * (at(bottom, left) - at(top, left))
    return by_y.movedim(-1, 1), by_x.movedim(-1, 1)


def _grid(bins: int, size: Tensor, count: int) -> Tensor:
    """Places of a region's samples along one axis from its start [r, bins, count], by the sizes of its bins [r]."""
    first, inside = (torch.arange(number, device=size.device, dtype=size.dtype) for number in (bins, count))
    steps = first[:, None] + (inside + 0.5) / count
    return size[:, None, None] * steps


def _rotated_points(
    rois: Tensor,
    channels: int,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
    clockwise: bool,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Indices [r] of regions, and coordinates of their samples [r, pooled_height, pooled_width, samples]."""
    centre = rois[:, 1:3].flip(1) * spatial_scale - (0.5 if aligned else 0)  # y, x
    extent = rois[:, 3:5].flip(1) * spatial_scale
    extent = extent if aligned else extent.clamp(min=1)
    angle = -rois[:, 5] if clockwise else rois[:, 5]
    bins = extent.new_tensor([pooled_height, pooled_width])
    counts = torch.full_like(extent, sampling_ratio) if sampling_ratio > 0 else (extent / bins).ceil()
    for rows, columns, some in groups(counts.long(), cost=channels * pooled_height * pooled_width):
        size = extent[some] / bins
        y = _grid(pooled_height, size[:, 0], rows) - extent[some, 0, None, None] / 2
        x = _grid(pooled_width, size[:, 1], columns) - extent[some, 1, None, None] / 2
        y, x = y[:, :, None, :, None], x[:, None, :, None, :]
        cos, sin = (f(angle[some])[:, None, None, None, None] for f in (torch.cos, torch.sin))
        middle_y, middle_x = centre[some, :, None, None, None].unbind(1)
        yield some, (y * cos - x * sin).flatten(3) + middle_y, (y * sin + x * cos).flatten(3) + middle_x


def _deformed_points(
    rois: Tensor,
    offset: Tensor,
    channels: int,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """As `_rotated_points`, and the height and width of the regions [r, 2]."""
    start = rois[:, 1:3].flip(1) * spatial_scale - 0.5  # y, x
    extent = (rois[:, 3:5] - rois[:, 1:3]).flip(1) * spatial_scale
    bins = extent.new_tensor([pooled_height, pooled_width])
    counts = torch.full_like(extent, sampling_ratio) if sampling_ratio > 0 else (extent / bins).ceil()
    for rows, columns, some in groups(counts.long(), cost=channels * pooled_height * pooled_width):
        size = extent[some] / bins
        y = (_grid(pooled_height, size[:, 0], rows) + start[some, 0, None, None])[:, :, None, :, None]
        x = (_grid(pooled_width, size[:, 1], columns) + start[some, 1, None, None])[:, None, :, None, :]
        if offset.numel():
            shift = gamma * extent[some].flip(1)[:, :, None, None] * offset[some]  # x, y
            y, x = y + shift[:, 1, :, :, None, None], x + shift[:, 0, :, :, None, None]
        y, x = torch.broadcast_tensors(y, x)
        yield some, y.flatten(3), x.flatten(3), extent[some]


def _borders(boxes: Tensor, pool_size: int, channels: int) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
    """Of each border its number, boxes [r] of [B * K], and coordinates [r, pool_size + 1] of their samples."""
    first, last = boxes.flatten(0, 1).split(2, dim=1)
    width, height = (last - first).unbind(1)
    steps = torch.arange(pool_size + 1, device=boxes.device, dtype=boxes.dtype) / pool_size
    still = torch.zeros_like(width)
    sides = ((first, width, still), (first, still, height), (last, -width, still), (last, still, -height))
    parts = torch.arange(len(first), device=boxes.device).split(max(1, BUDGET // (channels * (pool_size + 1))))
    for border, (corner, along_x, along_y) in enumerate(sides):
        for some in parts:
            x = corner[some, :1] + along_x[some, None] * steps
            y = corner[some, 1:] + along_y[some, None] * steps
            yield border, some, y, x
