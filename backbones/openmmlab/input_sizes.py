"""How a timm model takes images of any size, found out by running it.

timm's models say little about the sizes that they take, and some have maps of other strides than they declare. The ways
to take any size are tried, from exact to approximate, on the ``meta`` device, where shapes alone are computed.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.openmmlab.fitted import FittedNetwork

__all__ = ['Fitted', 'Native', 'NeedsValues', 'Tiled', 'find_way']

Size = tuple[int, int]
Maps = Sequence[Tensor]
Run = Callable[[nn.Module, Tensor], Maps]
PROBES = ((3, 5), (9, 7))
"""Sizes of images, in units of the divisor, that no window divides; two, to find networks that scale every image to one
size."""


class Native:
    """The network itself takes any size that a divisor divides, as most of timm's do.

    Zeros are added to the normalised image right and below, and each map is cut to ceil(size / stride): a patchify stem
    would drop rows and columns that do not fill a patch. The divisor is the largest stride, or the model's own size
    where its windows divide the maps of that size only (MaxViT, HaloNet).

    Args:
        strides: Stride of each map.
        divisor: Divides both sides of the images that the network sees.

    Attributes:
        margin: Further pixels of zeros on all four sides, for networks whose convolutions do not pad (Inception,
            NASNet, PiT, Xception): of each map, the middle is taken.
        own: The model's own size, if the divisor does not divide it; such images are taken as they are.
    """

    name = 'natively'

    def __init__(self, strides: Sequence[int], divisor: int):
        self.strides, self.divisor = tuple(strides), divisor
        self.margin = 0
        self.own: Size | None = None

    def attach(self, network: nn.Module) -> None:
        """Prepare the network that `maps` will run."""

    def run(self, network: nn.Module, x: Tensor, forward: Run) -> Maps:
        """The maps of images of a size that `whole` returns, plus margins."""
        return forward(network, x)

    def whole(self, height: int, width: int) -> Size:
        """The size of an image with zeros right and below."""
        if self.own is not None and (height, width) == self.own:
            return height, width
        return height + -height % self.divisor, width + -width % self.divisor

    def maps(self, network: nn.Module, x: Tensor, forward: Run) -> tuple[Tensor, ...]:
        """The maps [B, C, ceil(H / stride), ceil(W / stride)] of images [B, 3, H, W]."""
        height, width = x.shape[-2:]
        whole = self.whole(height, width)
        margin = self.margin
        x = F.pad(x, (margin, margin + whole[1] - width, margin, margin + whole[0] - height))
        maps = []
        for map_, stride in zip(self.run(network, x, forward), self.strides, strict=True):
            if margin:
                top, left = ((k - _ceil(n, stride)) // 2 for k, n in zip(map_.shape[-2:], whole, strict=True))
                map_ = map_[..., top:, left:]
            maps.append(map_[..., : _ceil(height, stride), : _ceil(width, stride)])
        return tuple(maps)

    def check(self, network: nn.Module, forward: Run, channels: int, sizes: Sequence[Size]) -> None:
        """Run the network, which may be one without storage, on an image of each size (height, width).

        Raises:
            SmallMaps: A map has fewer rows and columns than its stride says.
            ValueError: A map has more of them.
        """
        device = next(network.parameters()).device
        for size in sizes:
            height, width = self.whole(*size)
            x = torch.zeros(1, channels, height + 2 * self.margin, width + 2 * self.margin, device=device)
            for map_, stride in zip(self.run(network, x, forward), self.strides, strict=True):
                expected = _ceil(height, stride), _ceil(width, stride)
                found = tuple(map_.shape[-2:])
                if found == expected:
                    continue
                spare = [(k - e) * stride for k, e in zip(found, expected, strict=True)]
                if self.margin and all(0 <= s <= 2 * self.margin for s in spare):
                    continue
                message = f'an image of {height}×{width} pixels gives {found}, not {expected}, at stride {stride}'
                raise (SmallMaps if max(spare) <= 0 else ValueError)(message)


class SmallMaps(ValueError):
    """Maps have fewer rows or columns than size / stride."""


class Fitted(Native):
    """The network is fitted to each size by a `FittedNetwork`, as timm does when it builds or loads a model.

    Args:
        strides: Stride of each map.
        divisor: Divides both sides of the images that the network sees.
        fitted: Fits the network.
        square: The network sees square images only (ConViT, NesT).
    """

    name = 'fitted'

    def __init__(self, strides: Sequence[int], divisor: int, fitted: FittedNetwork, square: bool = False):
        super().__init__(strides, divisor)
        self.fitted, self.square = fitted, square

    def attach(self, network: nn.Module) -> None:
        """Prepare the network that `maps` will run."""
        self.fitted.attach(network)

    def check(self, network: nn.Module, forward: Run, channels: int, sizes: Sequence[Size]) -> None:
        """Run the network at the size that it was compared at, and at the first of other sizes."""
        super().check(network, forward, channels, [self.fitted.other, sizes[0]])

    def run(self, network: nn.Module, x: Tensor, forward: Run) -> Maps:
        """The maps of images of a size that `whole` returns, plus margins."""
        self.fitted.fit(network, (int(x.shape[-2]), int(x.shape[-1])))
        return forward(network, x)

    def whole(self, height: int, width: int) -> Size:
        """The size of an image with zeros right and below."""
        height, width = super().whole(height, width)
        return (max(height, width),) * 2 if self.square else (height, width)


class Tiled(Native):
    """The network sees tiles of its own size, each for itself, and their maps are put together.

    For MLP-Mixers and others whose weights hold one number for each pair of positions, and could not be resampled.
    """

    name = 'tiled'

    def check(self, network: nn.Module, forward: Run, channels: int, sizes: Sequence[Size]) -> None:
        """Run the network on a tile, then on images of several.

        Raises:
            ValueError: A map of a tile has not the size that its stride says.
        """
        tile = torch.zeros(1, channels, self.divisor, self.divisor, device=next(network.parameters()).device)
        for map_, stride in zip(forward(network, tile), self.strides, strict=True):
            if tuple(n * stride for n in map_.shape[-2:]) != (self.divisor,) * 2:
                raise ValueError(
                    f'an image of {self.divisor}×{self.divisor} pixels gives a map of {tuple(map_.shape[-2:])}, which '
                    f'is not stride {stride}'
                )
        super().check(network, forward, channels, sizes)

    def run(self, network: nn.Module, x: Tensor, forward: Run) -> Maps:
        """The maps of images of a size that `whole` returns, plus margins."""
        side, (rows, columns) = self.divisor, (n // self.divisor for n in x.shape[-2:])
        tiles = x.unflatten(3, (columns, side)).unflatten(2, (rows, side)).permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
        return [
            m.unflatten(0, (-1, rows, columns)).permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)
            for m in forward(network, tiles)
        ]


@torch.no_grad()
def find_way(
    model: str,
    build: Callable[[], nn.Module],
    build_sized: Callable[[Size], nn.Module] | None,
    strides: Sequence[int],
    divisor: int,
    own: Size,
    channels: int,
    forward: Run,
) -> Native:
    """Find the first way by which a model takes any size and whose maps have the declared strides.

    Args:
        model: timm's name.
        build: Builds the model, best on the ``meta`` device.
        build_sized: The same of another image size, if the model has an ``img_size``.
        strides: Declared stride of each map.
        divisor: The least common multiple of all strides of the model.
        own: The size that the model is built for.
        channels: Channels of the images.
        forward: Runs the model and returns the chosen maps.

    Raises:
        ValueError: There is no way, with the reason.
        NeedsValues: ``build`` must build the model with storage.
    """
    problem, plain = '', build()
    for make in _ways(build_sized, strides, divisor, own):
        try:
            way = make()
            network = build() if isinstance(way, Fitted) else plain
            way.attach(network)
            _find_margin(way, divisor, functools.partial(way.check, network, forward, channels))
            if not way.margin and any(n % way.divisor for n in own):
                way.own = _own_size(way, network, own, channels, forward)
            return way
        except Exception as error:  # whatever a model raises for a size that it does not take
            problem = str(error).partition('\n')[0] or type(error).__name__
            if 'meta tensor' in problem:
                raise NeedsValues(model) from None
    raise ValueError(
        f'{model} cannot take images of any size: {problem}; choose other out_indices or another model, such as '
        + ('convnext_tiny' if len(set(strides)) > 1 else 'deit_small_patch16_224')
    )


class NeedsValues(Exception):
    """The shapes of a model's maps depend on values, which models on the ``meta`` device have not (Gemma's ViT)."""


def _ways(
    build_sized: Callable[[Size], nn.Module] | None, strides: Sequence[int], divisor: int, own: Size
) -> Iterator[Callable[[], Native]]:
    """The ways, from exact to approximate; each is made when it is its turn."""
    for multiple in (divisor, 2 * divisor, 3 * divisor, 4 * divisor, math.lcm(divisor, *own)):
        yield functools.partial(Native, strides, multiple)
    if build_sized is not None:
        yield functools.partial(_fitted, build_sized, own, (2, 5), False, strides, divisor)
        yield functools.partial(_fitted, build_sized, own, (2, 2), True, strides, divisor)
    if own[0] == own[1]:
        yield functools.partial(Tiled, strides, own[0])


def _fitted(
    build: Callable[[Size], nn.Module], own: Size, more: Size, square: bool, strides: Sequence[int], divisor: int
) -> Fitted:
    """Compare the model with one that is some divisors higher and wider."""
    height, width = (n - n % divisor + extra * divisor for n, extra in zip(own, more, strict=True))
    return Fitted(strides, divisor, FittedNetwork(build, own, (height, width)), square)


def _find_margin(way: Native, divisor: int, check: Callable[[list[Size]], None]) -> None:
    """Set the smallest margin with which no map is smaller than its stride says."""
    probes = [(a * way.divisor, b * way.divisor) for a, b in PROBES]
    for way.margin in (0, divisor // 8, divisor // 4, divisor // 2, divisor):
        try:
            return check(probes)
        except SmallMaps:
            if way.margin == divisor:
                raise


def _own_size(way: Native, network: nn.Module, own: Size, channels: int, forward: Run) -> Size | None:
    """The model's own size, if its maps are right without padding."""
    way.own = own
    try:
        way.check(network, forward, channels, [own])
    except Exception:
        return None
    return own


def _ceil(pixels: int, stride: int) -> int:
    return -(-pixels // stride)
