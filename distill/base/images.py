"""Images: decoding, and the normalisation that a model's input goes through."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import get_worker_info

from distill.base.processes import rank_and_count

_logger = logging.getLogger(__name__)

MODES = ('RGB', 'L', 'CMYK', 'P', 'RGBA', 'LA', '1', 'YCbCr', 'PA')
"""Pillow's modes with 8 bits a channel that RGB can show: gray levels three times, CMYK by Pillow's formula."""

DEEP_MODE = 'I;16'
"""The name under which an image with 16 bits a channel is counted, whichever of the modes below it has."""
STORED_MODES = (*MODES, DEEP_MODE)
"""All modes of images that are shown, new ones last: their places stand in files of predictions."""

DEEP_MODES = ('I;16', 'I;16L', 'I;16B', 'I;16N')
"""Pillow's modes of 16 bits a channel."""
DEEP_FORMATS = ('PNG', 'PPM')
"""Formats whose 16 bits some versions of Pillow hold in its mode of 32 bits, ``I``."""

MIN_SIDE_PX = 8
"""Images with a shorter side show nothing that could be classified."""


def normalise(images: Tensor, mean: Tensor | Sequence[float], std: Tensor | Sequence[float]) -> Tensor:
    """Normalise images for a model: ``(images / 255 - mean) / std`` in float32.

    The three operations write into one tensor, in this order, and keep the memory format of the images.

    Args:
        images: uint8 [B, C, H, W]; they stay as they are.
        mean: Of values in [0, 1], one for each channel.
        std: Of values in [0, 1], one for each channel.

    Returns:
        Float32 images [B, C, H, W].
    """
    mean, std = (torch.as_tensor(values, device=images.device).view(1, -1, 1, 1) for values in (mean, std))
    return images.to(torch.float32, copy=True).div_(255).sub_(mean).div_(std)


def renormalise(images: Tensor, mean: Tensor, std: Tensor, new_mean: Tensor, new_std: Tensor) -> Tensor:
    """Turn images that were normalised for one model into what another model takes.

    Args:
        images: Normalised images [B, C, H, W].
        mean: That they were normalised with [1, C, 1, 1].
        std: That they were normalised with [1, C, 1, 1].
        new_mean: Of the other model [1, C, 1, 1].
        new_std: Of the other model [1, C, 1, 1].
    """
    return (images * std + mean - new_mean) / new_std


def is_deep(image: Image.Image) -> bool:
    """Whether an image that is open, decoded or not, has 16 bits a channel."""
    return image.mode in DEEP_MODES or (image.mode == 'I' and image.format in DEEP_FORMATS)


def to_rgb(image: Image.Image) -> Image.Image:
    """Turn an image of any of Pillow's modes into RGB with 8 bits a channel.

    16 bits are scaled to 8 by leaving out the lower 8, as OpenCV does; Pillow's own conversion would clip them to
    white. The log says so once, see `say_that_depth_is_scaled`.

    Args:
        image: An image as Pillow opens it.

    Raises:
        ValueError: The values have no known range: 32 bits, floats, or a colour space that Pillow does not convert.
    """
    if is_deep(image):
        say_that_depth_is_scaled()
    return as_rgb(image)


def as_rgb(image: Image.Image) -> Image.Image:
    """What `to_rgb` does, for a caller who says so."""
    if image.mode in MODES:
        return image.convert('RGB')
    if is_deep(image):
        return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)).convert('RGB')
    raise ValueError(unknown_range(image.mode))


def unknown_range(mode: str) -> str:
    """The error about an image of a mode that RGB cannot show."""
    return f'it is stored as {mode}, whose range is unknown: save it with 8 or 16 bits a channel'


_said: set[str] = set()


def say_that_depth_is_scaled(image: str = '', log: Callable[[str], None] = _logger.warning) -> None:
    """Say once that images are scaled from 16 bits: in the first process of a run, and the first worker of a loader.

    Workers that are forked later know that it has been said.

    Args:
        image: Name of such an image, if it is known.
        log: Writes a line.
    """
    if 'scaled' in _said:
        return
    _said.add('scaled')
    worker = get_worker_info()
    if rank_and_count()[0] == 0 and (worker is None or worker.id == 0):
        log(f'images with 16 bits a channel{image and f", such as {image!r},"} are scaled to 8 bits')


def decode(file: IO[bytes], name: Callable[[], str | Path]) -> Image.Image:
    """Decode an image file to RGB, and close it.

    Args:
        file: Open file.
        name: Gives the file's name; called only if the file cannot be decoded.

    Raises:
        ValueError: The file is truncated, damaged, no image, or one whose values have no known range.
    """
    image, mode = decode_with_mode(file, name)
    if mode == DEEP_MODE:
        say_that_depth_is_scaled()
    return image


def decode_with_mode(file: IO[bytes], name: Callable[[], str | Path]) -> tuple[Image.Image, str]:
    """Decode an image file to RGB as `decode` does, for a caller who counts modes and says so.

    Returns:
        The image, and its mode, of `STORED_MODES`.
    """
    with _readable(file, name) as image:
        return as_rgb(image), DEEP_MODE if is_deep(image) else image.mode


def check_header(file: IO[bytes], name: Callable[[], str | Path], log: Callable[[str], None] = _logger.warning) -> None:
    """Look at the header of an image file, and close the file: what cannot be decoded is often seen there.

    Args:
        file: Open file.
        name: Gives the file's name.
        log: Writes a line, if the image is the first of 16 bits.

    Raises:
        ValueError: The file is no image, or one whose values have no known range.
    """
    with _readable(file, name) as image:
        if is_deep(image):
            say_that_depth_is_scaled(str(name()), log)
        elif image.mode not in MODES:
            raise ValueError(unknown_range(image.mode))


@contextlib.contextmanager
def _readable(file: IO[bytes], name: Callable[[], str | Path]) -> Iterator[Image.Image]:
    """Open an image for the block and close its file; an error of either names the file."""
    try:
        with file:
            yield Image.open(file)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = 'it is empty or no image' if isinstance(error, UnidentifiedImageError) else error
        raise ValueError(f"image '{name()}' cannot be decoded ({reason}); replace or delete it") from None


def read_image(path: Path) -> tuple[Image.Image, str]:
    """Read an image in RGB, and the mode that the file stores it in.

    Returns:
        The image, and its mode, of `STORED_MODES`.

    Raises:
        ValueError: The file cannot be decoded, or has too few pixels to show anything.
    """
    image, mode = decode_with_mode(path.open('rb'), lambda: path)
    if min(image.size) < MIN_SIDE_PX:
        raise ValueError(
            f"image '{path}' has {image.width}x{image.height} pixels, and the least is {MIN_SIDE_PX}x{MIN_SIDE_PX}; "
            'replace or delete it'
        )
    return image, mode
