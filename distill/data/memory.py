"""Small images, held in memory and augmented a batch at a time."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.registry import DATASETS
from torch import Tensor

from distill.data.views import Views

GIB = 2**30
LARGEST_GIB = 4
"""Most memory that a set may take. Every process of a run holds its own."""
TRAINING = {'input_size', 'is_training', 'scale', 'ratio', 'hflip', 'color_jitter', 'interpolation'}
"""Arguments of timm's `create_transform` that mean the same here."""
AT_A_TIME = 512
"""Views that `hold_views` makes together: a call costs as much as ten of them."""
UNIT = 256
"""Parts of a pixel, of a brightness and of a factor: whole numbers of them are computed with."""
GRAY = (77, 150, 29)
"""Shares of red, green and blue in a gray, of 256: those of ITU-R 601-2, as in Pillow."""


@DATASETS.register_module()
class MemoryViews(Views):
    """Views of small images, which are decoded once and augmented together.

    A set of 32-pixel images trains small models about as fast as one process can augment it by Pillow, image by image.
    Here an image is decoded once, brought to ``input_size`` (short side, then the middle) and kept; a batch is cropped,
    flipped and coloured by a few operations on all its images.

    A view follows from (seed, image, view) alone as in `Views`, and from nothing else: neither from the batch nor from
    the machine, since all that touches pixels is arithmetic of whole numbers, which is exact in whatever order. It is
    another view than that of `Views`. Differs from timm's transforms: a crop that would be wider or higher than
    the image is cut to it and not drawn again, interpolation is bilinear, and brightness, contrast and saturation
    change in this order.

    Args:
        root: As in `Views`.
        split: As in `Views`.
        name: As in `Views`.
        transform: Arguments of timm's `create_transform`. In training those of `TRAINING`; ``interpolation`` is that of
            the one resize. ``color_jitter`` is a strength for all three, or one each.
        seed: As in `Views`.
        on_broken: As in `Views`.
        max_broken: As in `Views`.
        corrupt: As in `Views`.
        labels: As in `Views`.
        sources: As in `Views`.

    Attributes:
        pixels: All images, uint8 [N, 3, H, W]; None before the first is asked for.

    Raises:
        FileNotFoundError: The data is not there.
        ValueError: As in `Views`; or the transform has other arguments, or the set is too large for memory.
    """

    in_memory = True

    def __init__(
        self,
        root: str = '',
        split: str = '',
        name: str = '',
        transform: dict | None = None,
        seed: int = 0,
        on_broken: str = 'raise',
        max_broken: int = 100,
        corrupt: dict | None = None,
        labels: bool = True,
        sources: Sequence[Mapping] | None = None,
    ):
        transform = dict(transform or {})
        self.training = bool(transform.get('is_training'))
        if self.training:
            check_training(transform)
            kept = {key: transform[key] for key in ('input_size', 'interpolation') if key in transform}
            once = {'interpolation': 'bicubic', **kept, 'crop_pct': 1.0}
        else:
            once = transform
        self._once = once
        super().__init__(root, split, name, once, seed, on_broken, max_broken, corrupt, labels, sources)
        self.transform_config = transform
        self.area = tuple(transform.get('scale') or (0.08, 1.0))
        self.ratio = tuple(transform.get('ratio') or (3 / 4, 4 / 3))
        self.hflip = transform.get('hflip', 0.5)
        jitter = transform.get('color_jitter', 0.4) or 0.0
        self.jitter = tuple(jitter)[:3] if isinstance(jitter, Sequence) else (jitter,) * 3
        self.pixels: Tensor | None = None
        size = transform.get('input_size', 224)
        height, width = (size, size) if isinstance(size, int) else size[-2:]
        # Width and height of images that are shown as they are; none where a part is cut off.
        self._whole = (width, height) if once.get('crop_pct') == 1.0 else None
        gib = len(self) * 3 * height * width / GIB
        if gib > LARGEST_GIB:
            raise ValueError(
                f"the set '{self.where}' takes {gib:.1f} GiB at {width} px and MemoryViews holds {LARGEST_GIB} GiB at "
                'most; set dataset.type=Views'
            )

    def load(self) -> Tensor:
        """Decode all images, unless that is done here or for `hold_images`; returns `pixels`."""
        if self.pixels is None and self._key in _HELD:
            self.pixels, self._classes = _HELD[self._key]
        elif self.pixels is None:
            images, self._classes = zip(*map(self._decoded, range(len(self))), strict=True)
            self.pixels = torch.stack(images)
        return self.pixels

    @property
    def _key(self) -> tuple:
        """What decoded images depend on, but for the contents of the files."""
        return os.path.abspath(self.where), len(self), repr(sorted(self._once.items()))

    @property
    def _view_key(self) -> tuple:
        """What views depend on besides their numbers and images, but for the contents of the files."""
        return *self._key, self.seed, repr(sorted(self.transform_config.items()))

    def _look(self) -> None:
        if self._key not in _HELD:  # They have all been decoded, which says more than headers.
            super()._look()

    def _decoded(self, index: int) -> tuple[Tensor, int]:
        image, label = self._read(index)
        if image.size == self._whole:  # The transform would change nothing, and takes longer than decoding.
            return torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy()), label
        return torch.as_tensor(self.transform(image)), label

    def __getitem__(self, key: int | tuple[int, int]) -> tuple:
        """One view, as `Views` gives it."""
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[int | tuple[int, int]]) -> list[tuple]:
        """The views of a batch, in which torch's loader asks for them.

        Args:
            keys: The index of each image, or (index, view).

        Returns:
            What `Views` returns for each key.

        Raises:
            ValueError: An image cannot be decoded, or too many could not.
            OSError: An image cannot be read.
        """
        pixels = self.load()
        indices, views = np.array([key if isinstance(key, tuple) else (key, 0) for key in keys], np.int64).T
        draws, seeds = random_numbers(self.seed, views, indices, 8)
        held = _HELD_VIEWS.get(self._view_key) if self.training else None
        if held is not None and views.max() < len(held):
            images = held[torch.from_numpy(views), torch.from_numpy(indices)]
        else:
            images = self._shown(pixels[torch.from_numpy(indices)], draws)
        labels = [self._ordered(self._classes[index]) for index in indices]
        items = zip(images, labels, indices.tolist(), views.tolist(), seeds.tolist(), strict=True)
        return [self._with_copies(item) for item in items]

    def _shown(self, images: Tensor, draws: np.ndarray) -> Tensor:
        """The views of images, uint8 [N, 3, H, W], by the random numbers of each [N, 8]."""
        if not self.training:
            return images
        return recolour(crop_and_flip(images, *self._boxes(draws, images.shape)), self._factors(draws))

    def _boxes(self, draws: np.ndarray, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Top left corners [N, 2] and sizes [N, 2] of crops, in pixels, and whether each is flipped [N]."""
        sides = np.array(shape[-2:], np.float64)
        area = self.area[0] + (self.area[1] - self.area[0]) * draws[:, 0]
        low, high = np.log(self.ratio)
        ratio = np.exp(low + (high - low) * draws[:, 1])
        sizes = np.minimum(np.sqrt(area[:, None] * np.stack([1 / ratio, ratio], 1)), 1.0) * sides
        return (sides - sizes) * draws[:, 2:4], sizes, draws[:, 4] < self.hflip

    def _factors(self, draws: np.ndarray) -> np.ndarray:
        """Factors of brightness, contrast and saturation [N, 3]."""
        return np.maximum(1 + np.array(self.jitter) * (2 * draws[:, 5:8] - 1), 0)


_HELD: dict[tuple, tuple[Tensor, tuple[int, ...]]] = {}
"""Images and labels that `hold_images` has decoded, by `MemoryViews._key`."""
_HELD_VIEWS: dict[tuple, Tensor] = {}
"""Views that `hold_views` has made, uint8 [views, N, 3, H, W], by `MemoryViews._view_key`."""


def hold_images(root: str, splits: Sequence[str], size: int) -> None:
    """Decode images for all data sets that this process and its later forks will make of them.

    For a process that starts many trainings on one set, which would each decode it. The files must not change.

    Args:
        root: As in `MemoryViews`.
        splits: Parts of the set.
        size: Side of a view in pixels.
    """
    for split in splits:
        held = MemoryViews(root, split, transform=dict(input_size=size, interpolation='bicubic', crop_pct=1.0))
        _HELD[held._key] = held.load(), held._classes


def hold_views(count: int, **dataset: Any) -> None:
    """Make the first views of all images once, for all data sets that this process and its later forks will make alike.

    For a process that starts many trainings which see the same views. They take 3 · H · W bytes each.

    Args:
        count: Views of each image.
        **dataset: Arguments of `MemoryViews`, for training.
    """
    source = MemoryViews(**dataset)
    pixels = source.load()
    held = torch.empty((count, *pixels.shape), dtype=torch.uint8)
    for view in range(count):
        for some in np.array_split(np.arange(len(pixels)), -(-len(pixels) // AT_A_TIME)):
            draws, _ = random_numbers(source.seed, np.full(len(some), view), some, 8)
            held[view, some[0] : some[-1] + 1] = source._shown(pixels[some[0] : some[-1] + 1], draws)
    _HELD_VIEWS[source._view_key] = held


def check_training(transform: dict) -> None:
    """Check that `MemoryViews` has what a training transform asks for.

    Raises:
        ValueError: It has not.
    """
    unknown = sorted(transform.keys() - TRAINING)
    if unknown:
        raise ValueError(
            f"MemoryViews has no transform '{unknown[0]}'; choose from {', '.join(sorted(TRAINING))}, "
            'or set dataset.type=Views'
        )


def random_numbers(seed: int, views: np.ndarray, indices: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers that follow from (seed, view, index), of splitmix64 (Steele et al., OOPSLA 2014).

    `distill.base.seeding.seed_everything` makes a generator for each view, which takes longer than the view.

    Args:
        seed: A non-negative number.
        views: Number of the view of each image [N].
        indices: Index of each image [N].
        count: Numbers for each.

    Returns:
        Uniform numbers in [0, 1) [N, count], and a further seed in [0, 2⁶³) for each [N].
    """
    state = _mixed(np.full(len(views), seed, np.uint64))
    for part in (views, indices):
        state = _mixed(state ^ part.astype(np.uint64))
    steps = np.arange(1, count + 2, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    words = _mixed(state[:, None] + steps)
    return (words[:, :count] >> np.uint64(11)) * 2.0**-53, (words[:, count] >> np.uint64(1)).astype(np.int64)


def _mixed(words: np.ndarray) -> np.ndarray:
    """The output function of splitmix64, of the state one step on."""
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def crop_and_flip(images: Tensor, corners: np.ndarray, sizes: np.ndarray, flipped: np.ndarray) -> Tensor:
    """Cut a box out of each image, bring it to the image's size by bilinear interpolation, and flip some.

    Two products of matrices: rows, then columns. Positions are whole numbers of 256ths of a pixel, so that weights are
    too, and no sum exceeds the 2²⁴ up to which float32 is exact.

    Args:
        images: uint8 [N, 3, H, W].
        corners: Top left corner of each box [N, 2], in pixels.
        sizes: Height and width of each box [N, 2], in pixels.
        flipped: Whether left and right change places in each [N].

    Returns:
        Whole numbers in float32 [N, 3, H, W], from 0 to 255.
    """
    rows, columns = (
        _weights(corners[:, axis], sizes[:, axis], images.shape[2 + axis], flipped & (axis == 1)) for axis in (0, 1)
    )
    # [N, 1, H, H] · [N, 3, H, W] · [N, 1, W, W], with 4 bits of the fraction kept in between.
    between = torch.matmul(rows.unsqueeze(1), images.float()).mul_(16 / UNIT).floor_()
    both = torch.matmul(between, columns.mT.unsqueeze(1))
    return both.add_(8 * UNIT).mul_(1 / (16 * UNIT)).floor_()


def _weights(start: np.ndarray, length: np.ndarray, side: int, reverse: np.ndarray) -> Tensor:
    """Weights of the pixels of a line, in 256ths, for each pixel of its crop [N, side, side].

    Args:
        start: Where each crop starts [N], in pixels.
        length: Length of each crop [N], in pixels.
        side: Pixels of the line, and of its crop.
        reverse: Whether each crop is read backwards [N].
    """
    middles = (np.arange(side) + 0.5) / side
    middles = np.where(reverse[:, None], middles[::-1], middles)
    places = np.rint((start[:, None] + length[:, None] * middles - 0.5) * UNIT).clip(0, UNIT * (side - 1))
    pixels = torch.arange(0, UNIT * side, UNIT, dtype=torch.float32)
    distance = torch.from_numpy(places.astype(np.float32)).unsqueeze(2) - pixels
    return distance.abs_().neg_().add_(UNIT).relu_()


def recolour(images: Tensor, factors: np.ndarray) -> Tensor:
    """Change brightness, contrast and saturation of each image, in this order.

    Args:
        images: Whole numbers in float32 [N, 3, H, W], which are overwritten.
        factors: Of brightness, contrast and saturation [N, 3]; 1 changes nothing.

    Returns:
        uint8 [N, 3, H, W].
    """
    brightness, contrast, saturation = torch.from_numpy(np.rint(factors * UNIT).astype(np.float32)).T[
        ..., None, None, None
    ]
    images = images.mul_(brightness).mul_(1 / UNIT).floor_().clamp_(max=255)
    mean = _gray(images).mean(dim=(2, 3), keepdim=True, dtype=torch.float64).floor_().float()
    images = images.sub_(mean).mul_(contrast).mul_(1 / UNIT).floor_().add_(mean).clamp_(0, 255)
    gray = _gray(images)
    return images.sub_(gray).mul_(saturation).mul_(1 / UNIT).floor_().add_(gray).clamp_(0, 255).byte()


def _gray(images: Tensor) -> Tensor:
    """The gray [N, 1, H, W] of colours [N, 3, H, W]."""
    red, green, blue = images.unbind(1)
    return (red * GRAY[0] + green * GRAY[1] + blue * GRAY[2]).mul_(1 / UNIT).floor_().unsqueeze(1)
