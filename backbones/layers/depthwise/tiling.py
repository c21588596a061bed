"""How a depthwise convolution becomes one matrix product a channel.

The plane of a channel is cut into tiles of target pixels that all see their sources in the same way. With a row for
each (sample, tile), a column for each source pixel that a tile can see (its window), and the kernel spread out into a
band matrix T [window pixels, tile pixels], the convolution of a channel is ``rows @ T``. The input gradient is the
same with the roles of the two planes exchanged, and the weight gradient sums the diagonals of ``rowsᵀ @ gradient``.
Most of T is zero, and yet tensor cores get through all of it sooner than the other cores through the rest.
"""

from dataclasses import dataclass
from functools import cache
from math import ceil

Pair = tuple[int, int]
WIDE_PLANE = 32
"""Side of a plane from which on a tile does not cover it."""


@dataclass(frozen=True)
class Geometry:
    """Geometry of a convolution, each vertical and horizontal.

    Attributes:
        input: Height and width of its input in pixels.
        kernel: Height and width of the kernel.
        stride: Stride in pixels.
        padding: Padding in pixels.
        dilation: Distance of two taps in pixels.
    """

    input: Pair
    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair

    @property
    def output(self) -> Pair:
        """Height and width of the output in pixels."""
        axes = zip(self.input, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        height, width = ((side + 2 * p - d * (k - 1) - 1) // s + 1 for side, k, s, p, d in axes)
        return height, width


@dataclass(frozen=True)
class Axis:
    """One axis of a tiling.

    Attributes:
        tiles: Tiles along this axis.
        tile: Target pixels of a tile.
        window: Source pixels that a tile can see.
        origin: The first of them, counted from ``advance`` times the tile's index.
        advance: Source pixels from the window of a tile to that of the next.
    """

    tiles: int
    tile: int
    window: int
    origin: int
    advance: int


@dataclass(frozen=True)
class Tiling:
    """Tiles of a plane and their windows, see the module's docstring."""

    y: Axis
    x: Axis

    @property
    def tiles(self) -> int:
        """Tiles of a plane."""
        return self.y.tiles * self.x.tiles

    @property
    def pixels(self) -> int:
        """Target pixels of a tile."""
        return self.y.tile * self.x.tile

    @property
    def window(self) -> int:
        """Source pixels that a tile can see."""
        return self.y.window * self.x.window


@cache
def tile_plane(geometry: Geometry, samples: int, transposed: bool) -> Tiling:
    """Cut the target plane so that a matrix product has enough rows and few zeros.

    Args:
        geometry: Geometry of the convolution.
        samples: Size of the batch.
        transposed: Targets are pixels of the input and sources those of the output, as in the input gradient.
    """
    height, width = geometry.input if transposed else geometry.output
    strides = geometry.stride if transposed else (1, 1)
    tile_x = width if width <= WIDE_PLANE else _round_up(16, strides[1])
    whole = tile_x == width and height <= WIDE_PLANE and samples >= 64
    tile_y = height if whole else min(_round_up(max(1, 128 // tile_x), strides[0]), height)
    return Tiling(*(_axis(geometry, axis, tile, transposed) for axis, tile in enumerate((tile_y, tile_x))))


def _axis(geometry: Geometry, axis: int, tile: int, transposed: bool) -> Axis:
    kernel, stride, padding, dilation = (
        each[axis] for each in (geometry.kernel, geometry.stride, geometry.padding, geometry.dilation)
    )
    source, target = geometry.input[axis], geometry.output[axis]
    reach = dilation * (kernel - 1)
    if transposed:
        source, target = target, source
        first, last, advance = ceil((padding - reach) / stride), (tile - 1 + padding) // stride, tile // stride
    else:
        first, last, advance = -padding, stride * (tile - 1) + reach - padding, stride * tile
    tiles = ceil(target / tile)
    if tiles == 1:  # What lies outside the plane is never seen.
        first, last = max(first, 0), min(last, source - 1)
    return Axis(tiles, tile, last - first + 1, first, advance)


def _round_up(number: int, multiple: int) -> int:
    return ceil(number / multiple) * multiple
