"""Which corruptions there are on tensors, and how they are applied to a batch.

Each image has the random numbers that it has on the CPU. The levels are the same to the last bit where the definition
is arithmetic of whole numbers or of doubles (brightness, contrast, saturate, pixelate, JPEG, frost, glass blur and the
noises); sums in single precision decide otherwise about a whole level now and then, of one value in 100,000.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from distill.base.devices import to_device
from distill.base.records import Cell
from distill.corruptions import blurs as of_blurs
from distill.corruptions import digital as of_digital
from distill.corruptions import glass as of_glass
from distill.corruptions import noise as of_noise
from distill.corruptions import weather as of_weather
from distill.corruptions.table import corrupt, definition_of, generator
from distill.corruptions.tensors import blurs, colour, digital, jpeg, noise, weather

ALIGNMENT = 16
"""Bytes: numbers of up to so many begin at a multiple of their size."""
Draw = Callable[..., tuple[np.ndarray, ...]]


@dataclass(frozen=True)
class OnTensors:
    """A corruption on tensors.

    Attributes:
        apply: Called with images, uint8 [B, 3, H, W], the constants of a severity and the draws.
        draw: Draws for one image: called with a generator, its height and width in pixels, and the constants; None of
            a corruption that draws nothing.
    """

    apply: Callable[..., Tensor]
    draw: Draw | None = None


ON_TENSORS: dict[Callable, OnTensors] = {
    of_noise.gaussian_noise: OnTensors(noise.gaussian_noise, noise.draw_16_bits),
    of_noise.shot_noise: OnTensors(noise.shot_noise, noise.draw_32_bits),
    of_noise.impulse_noise: OnTensors(noise.impulse_noise, noise.draw_16_bits),
    of_noise.speckle_noise: OnTensors(noise.speckle_noise, noise.draw_16_bits),
    of_blurs.defocus_blur: OnTensors(blurs.defocus_blur),
    of_glass.glass_blur: OnTensors(blurs.glass_blur, of_glass.glass_draws),
    of_blurs.motion_blur: OnTensors(blurs.motion_blur, blurs.motion_draws),
    of_blurs.zoom_blur: OnTensors(blurs.zoom_blur),
    of_blurs.gaussian_blur: OnTensors(blurs.gaussian_blur),
    of_weather.snow: OnTensors(weather.snow, of_weather.snow_draws),
    of_weather.frost: OnTensors(weather.frost, of_weather.frost_draws),
    of_weather.frost_port: OnTensors(weather.frost, of_weather.frost_port_draws),
    of_weather.fog: OnTensors(weather.fog, of_weather.fog_draws),
    of_digital.brightness: OnTensors(colour.brightness),
    of_digital.contrast: OnTensors(colour.contrast),
    of_digital.saturate: OnTensors(colour.saturate),
    of_digital.elastic_transform: OnTensors(digital.elastic_transform, of_digital.elastic_draws),
    of_digital.elastic_transform_port: OnTensors(digital.elastic_transform_port, of_digital.elastic_port_draws),
    of_digital.pixelate: OnTensors(digital.pixelate),
    of_digital.jpeg_compression: OnTensors(jpeg.jpeg_compression),
}
"""By the corruption of one image. `spatter` has no counterpart: its drops are found by OpenCV's edges and distances."""


class Drawn(NamedTuple):
    """Random numbers of a batch for several cells, in one piece: one copy takes them to a device.

    Attributes:
        data: All numbers, as bytes.
        places: For each cell its arrays: the first byte, the shape and the type of each.
    """

    data: Tensor
    places: tuple[tuple[tuple[int, tuple[int, ...], torch.dtype], ...], ...]

    def to(self, device: torch.device | str) -> 'Drawn':
        """The same numbers on a device."""
        return Drawn(to_device(self.data, device), self.places)

    def arrays(self, cell: int) -> list[Tensor]:
        """The tensors [B, …] of a cell, by its number; unsigned numbers of 16 and 32 bits have a sign."""
        return [
            self.data[start : start + math.prod(shape) * dtype.itemsize].view(dtype).view(shape)
            for start, shape, dtype in self.places[cell]
        ]


def sees_images(kind: str, definition: str) -> bool:
    """Whether `draw` looks at images, and not at their shape alone: of a kind without a counterpart on tensors."""
    return definition_of(kind, 1, definition)[0] not in ON_TENSORS


def draw(images: np.ndarray, cells: Sequence[Cell], seeds: Sequence, definition: str) -> Drawn:
    """Draw what corruptions need, on the CPU; one without a counterpart on tensors is applied here.

    Args:
        images: uint8 [B, H, W, 3].
        cells: Kinds and severities.
        seeds: Of each image, as in `distill.corruptions.corrupt`.
        definition: As there.
    """
    parts: list[np.ndarray] = []
    places, end = [], 0
    for cell in cells:
        function, constants = definition_of(cell.kind, cell.severity, definition)
        if function not in ON_TENSORS:
            made = corrupt(images, cell.kind, cell.severity, seeds, definition)
            arrays = [np.ascontiguousarray(made.transpose(0, 3, 1, 2))]
        elif (draw_one := ON_TENSORS[function].draw) is None:
            arrays = []
        else:
            generators = (generator(seed, cell.kind, cell.severity) for seed in seeds)
            each = (draw_one(rng, *images.shape[1:3], constants) for rng in generators)
            arrays = [_signed(np.stack(same)) for same in zip(*each, strict=True)]
        of_cell = []
        for array in arrays:
            of_cell.append((end, array.shape, torch.from_numpy(array[:0]).dtype))
            padding = -array.nbytes % ALIGNMENT
            parts += [array.reshape(-1).view(np.uint8), np.zeros(padding, np.uint8)]
            end += array.nbytes + padding
        places.append(tuple(of_cell))
    data = np.concatenate(parts) if parts else np.zeros(0, np.uint8)
    return Drawn(torch.from_numpy(data), tuple(places))


def _signed(array: np.ndarray) -> np.ndarray:
    wide = array.dtype.kind == 'u' and array.dtype.itemsize > 1
    return array.view(f'i{array.dtype.itemsize}') if wide else array


def corrupt_drawn(images: Tensor, cells: Sequence[Cell], drawn: Drawn, definition: str) -> Tensor:
    """Corrupt images in several cells, on their device.

    Args:
        images: uint8 [B, 3, H, W].
        cells: As given to `draw`.
        drawn: What it has drawn, on the same device.
        definition: As given to it.

    Returns:
        uint8 [B, cells, 3, H, W].
    """
    shown = images.new_empty(len(images), len(cells), *images.shape[1:])
    with _single_precision():
        for place, cell in enumerate(cells):
            function, constants = definition_of(cell.kind, cell.severity, definition)
            given = drawn.arrays(place)
            made = ON_TENSORS[function].apply(images, constants, *given) if function in ON_TENSORS else given[0]
            shown[:, place] = made
    return shown


@contextmanager
def _single_precision() -> Iterator[None]:
    """Products of matrices and convolutions in single precision on a card, whatever was set: no TF32."""
    if hasattr(torch.backends.cudnn, 'conv'):  # From torch 2.9 on; to mix it with the older way is an error of torch.
        flags, name, wanted = (torch.backends.cuda.matmul, torch.backends.cudnn.conv), 'fp32_precision', 'ieee'
    else:
        flags, name, wanted = (torch.backends.cuda.matmul, torch.backends.cudnn), 'allow_tf32', False
    before = [getattr(flag, name) for flag in flags]
    for flag in flags:
        setattr(flag, name, wanted)
    try:
        yield
    finally:
        for flag, value in zip(flags, before, strict=True):
            setattr(flag, name, value)
