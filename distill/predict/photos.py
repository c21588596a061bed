"""Any image that a person has, as that person sees it: RGB, turned upright, transparency over white, the first frame.

Training and judging decode images by `distill.base.images`, which is the same but for two things. Prediction turns an
image as its EXIF data say, and lays transparent parts over white; the others show the pixels as the file stores them.
mmcv turns images too, so detectors and segmenters are trained on upright images. Both differences are noted with the
prediction, and an image without either gives the same pixels bit for bit.
"""

import os
import warnings
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from distill.base.images import MODES, as_rgb, is_deep, unknown_range

ImageLike = str | os.PathLike | Image.Image | np.ndarray
"""What a user may show to a model."""
ORIENTATION = 0x0112
"""EXIF's tag for how a camera was held."""
TURNS = {
    2: 'mirrored',
    3: 'turned by 180°',
    4: 'flipped',
    5: 'mirrored and turned left',
    6: 'turned right',
    7: 'mirrored and turned right',
    8: 'turned left',
}
"""What is done to an image of each orientation but 1, which is upright."""
BACKGROUND = (255, 255, 255)
WITH_ALPHA = ('RGBA', 'LA', 'PA', 'RGBa', 'La')
HEIF_BRANDS = (b'heic', b'heix', b'hevc', b'heim', b'heis', b'hevm', b'hevs', b'mif1', b'msf1')
ONE_PHOTO = ('MPO',)
"""Formats whose further frames belong to the first one, such as a phone's depth map."""


@dataclass(frozen=True)
class Photo:
    """A decoded image.

    Attributes:
        image: RGB, 8 bits a channel, upright.
        path: The file, or None for an image from memory.
        orientation: EXIF's number, from 1 to 8, which was applied; 1 for an image that was upright.
        notes: What else was done to it, in words.
        as_stored: Whether the pixels are those that any other decoder gives: nothing was done to them.
    """

    image: Image.Image
    path: str | None = None
    orientation: int = 1
    notes: tuple[str, ...] = ()

    @property
    def as_stored(self) -> bool:
        return self.orientation == 1 and not self.notes

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, upright."""
        return self.image.size


def open_photo(source: ImageLike) -> Photo:
    """Decode an image.

    Args:
        source: A path; an image of Pillow; or an array, uint8 [H, W, 3] in RGB, [H, W, 4] in RGBA or [H, W] in gray.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file cannot be decoded, its values have no known range, or the array is no image.
    """
    if isinstance(source, np.ndarray):
        return _upright(_from_array(source), None)
    if isinstance(source, Image.Image):
        return _upright(source, None)
    path = os.fspath(source)
    if not os.path.exists(path):
        raise FileNotFoundError(f"image '{path}' does not exist; correct the path")
    if not os.path.isfile(path):
        raise ValueError(f"image '{path}' is no regular file; give an image file")
    _learn_heif()
    try:
        with warnings.catch_warnings():
            # From half the limit on Pillow warns; the limit itself is an error.
            warnings.simplefilter('ignore')
            with Image.open(path) as image:
                return _upright(image, path)
    except Image.DecompressionBombError:
        raise ValueError(
            f"image '{path}' has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels, the limit of Pillow; make it "
            'smaller, or raise PIL.Image.MAX_IMAGE_PIXELS in a program of your own'
        ) from None
    # A damaged file makes Pillow's decoders raise almost anything.
    except Exception as error:
        if isinstance(error, MemoryError):
            raise
        raise ValueError(f"image '{path}' cannot be decoded ({_reason(path, error)}") from None


@cache
def _learn_heif() -> None:
    """Have Pillow read HEIC too, if the package for it is installed."""
    if find_spec('pillow_heif') is not None:
        import pillow_heif

        pillow_heif.register_heif_opener()


def _reason(path: str, error: Exception) -> str:
    """Why a file cannot be decoded, with the way out behind a closing bracket."""
    if not isinstance(error, UnidentifiedImageError):
        return f'{error or type(error).__name__}); replace or delete it'
    with open(path, 'rb') as file:
        start = file.read(12)
    if start[4:8] == b'ftyp' and start[8:12] in HEIF_BRANDS:
        return 'it is HEIC, which Pillow does not read by itself); pip install pillow-heif, or save it as JPEG'
    return 'it is empty or no image); replace or delete it'


def _from_array(array: np.ndarray) -> Image.Image:
    is_image = array.dtype == np.uint8 and (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4)))
    if not is_image or not array.size:
        raise ValueError(
            f'an array of type {array.dtype} and shape {array.shape} is no image; give uint8 [height, width, 3] in RGB'
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _upright(image: Image.Image, path: str | None) -> Photo:
    """Turn an open image into what a person sees; the image stays as it is."""
    notes = []
    if getattr(image, 'n_frames', 1) > 1 and image.format not in ONE_PHOTO and path is not None:
        notes.append(f'the first of {image.n_frames} frames')  # type: ignore[attr-defined]
    orientation = _orientation(image)
    image.load()
    if orientation != 1:
        # Pillow turns some formats by itself when it loads them; these have no orientation any more.
        image = ImageOps.exif_transpose(image)
    image = _to_rgb(image, notes)
    # What the file says about turning and transparency has been done, and is not done again to the result.
    image.info = {}
    return Photo(image, path, orientation, tuple(notes))


def _orientation(image: Image.Image) -> int:
    try:
        found: Any = image.getexif().get(ORIENTATION, 1)
    # EXIF data are as often damaged as not; an image is shown all the same.
    except Exception:
        return 1
    return found if found in TURNS else 1


def _to_rgb(image: Image.Image, notes: list[str]) -> Image.Image:
    if is_deep(image):
        notes.append('16 bits a channel scaled to 8')
        return as_rgb(image)
    if image.mode in WITH_ALPHA or 'transparency' in image.info:
        layered = image.convert('LA').convert('RGBA') if image.mode == 'La' else image.convert('RGBA')
        lowest: Any = layered.getchannel('A').getextrema()[0]
        if lowest < 255:
            notes.append('transparent parts over white')
            background = Image.new('RGBA', layered.size, (*BACKGROUND, 255))
            return Image.alpha_composite(background, layered).convert('RGB')
        return layered.convert('RGB')
    if image.mode == 'CMYK':
        notes.append('CMYK shown in RGB')
    if image.mode not in MODES:
        raise ValueError(unknown_range(image.mode))
    # A copy, so that the caller's own image and the open file are left alone.
    return image.copy() if image.mode == 'RGB' else image.convert('RGB')
