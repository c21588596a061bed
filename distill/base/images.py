"""Images: decoding, class folders on disk, and the normalisation that a model's input goes through."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

MODES = ('RGB', 'L', 'CMYK', 'P', 'RGBA', 'LA', '1', 'YCbCr', 'PA')
"""Pillow's modes with 8 bits a channel that RGB can show: gray levels three times, CMYK by Pillow's formula."""

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
    white. A warning says so once a process.

    Args:
        image: An image as Pillow opens it.

    Raises:
        ValueError: The values have no known range: 32 bits, floats, or a colour space that Pillow does not convert.
    """
    if image.mode in MODES:
        return image.convert('RGB')
    if is_deep(image):
        warnings.warn('images with 16 bits a channel are scaled to 8 bits', stacklevel=1)
        return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)).convert('RGB')
    raise ValueError(f'it is stored as {image.mode}, whose range is unknown: save it with 8 or 16 bits a channel')


def decode(file: IO[bytes], name: Callable[[], str | Path]) -> Image.Image:
    """Decode an image file to RGB, and close it.

    Args:
        file: Open file.
        name: Gives the file's name; called only if the file cannot be decoded.

    Raises:
        ValueError: The file is truncated, damaged, no image, or one whose values have no known range.
    """
    return decode_with_mode(file, name)[0]


def decode_with_mode(file: IO[bytes], name: Callable[[], str | Path]) -> tuple[Image.Image, str]:
    """Decode an image file to RGB as `decode` does; returns the image and the mode that the file stores it in."""
    try:
        with file:
            image = Image.open(file)
            return to_rgb(image), image.mode
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"image '{name()}' cannot be decoded ({error}); replace or delete it") from None


def find_split(root: str, split: str) -> Path:
    """Find the folder or tar file of a split, under the names that timm also tries.

    Raises:
        FileNotFoundError: The root, or a split of any of these names in it, does not exist.
    """
    if Path(root).is_file() and Path(root).suffix == '.tar':
        return Path(root)
    if not Path(root).is_dir():
        raise FileNotFoundError(f"data root '{root}' does not exist; make or unpack the data, or pass --data-root")
    synonyms = {'val': ['val', 'validation', 'test'], 'validation': ['validation', 'val', 'test']}
    for name in synonyms.get(split, [split]):
        if (Path(root) / name).is_dir():
            return Path(root) / name
        if (Path(root) / f'{name}.tar').is_file():
            return Path(root) / f'{name}.tar'
    found = ', '.join(sorted(p.name for p in Path(root).iterdir() if p.is_dir())[:8]) or 'no folder'
    raise FileNotFoundError(f"data root '{root}' has no folder '{split}' nor '{split}.tar'; found {found}")


def check_class_folders(folder: Path) -> list[str]:
    """List the class folders of an image set and make sure that each has an image.

    timm's reader leaves out empty folders, which would renumber the classes after them.

    Returns:
        Names of the folders, sorted.

    Raises:
        ValueError: There is no class folder, or one is empty.
    """
    classes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith('.'))
    if not classes:
        raise ValueError(f"'{folder}' has no class folders; expected {folder}/<class>/<image>")
    empty = [p.name for p in classes if not any(f.is_file() for f in p.rglob('*'))]
    if empty:
        raise ValueError(f"class folder '{folder / empty[0]}' has no image ({len(empty)} such); fill or delete it")
    return [p.name for p in classes]


def read_image(path: Path) -> tuple[Image.Image, str]:
    """Read an image in RGB, and the mode that the file stores it in.

    Returns:
        The image, and its mode as Pillow calls it.

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
