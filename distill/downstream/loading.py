"""Load images from disk as the rest of this project decodes them: 16 bits are scaled, damaged files are an error."""

import io
from importlib import import_module
from importlib.util import find_spec

import cv2
import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile as MMCVLoadImageFromFile
from mmengine import fileio
from mmengine.registry import TRANSFORMS
from PIL import Image, ImageOps, UnidentifiedImageError

from distill.base.images import MODES, to_rgb
from distill.training.experiment import SCOPES

__all__ = ['LoadImageFromFile', 'LoadWholeImage', 'decode_array']


class LoadImageFromFile(MMCVLoadImageFromFile):
    """mmcv's transform of the same name, with a Pillow backend that is right for all depths.

    mmdet and mmseg find it under this name, which their inferencers look for in a pipeline. With
    ``imdecode_backend='pillow'`` images with 8 bits a channel are mmcv's bit for bit. Those with 16 bits are scaled,
    where mmcv clips them to white; values without a known range (floats, 32 bits) are an error. OpenCV, mmcv's
    default, fills the missing part of a truncated image with grey, without a warning; Pillow stops there. With every
    other backend the images are mmcv's, and only the error for an unreadable file differs: it is a `ValueError`.

    Args:
        hold_mib: Keep decoded images in memory until these are full: for a small set that is seen many times, and whose
            files do not change. Each loader process has its own. Of the Pillow backend.
        **options: Arguments of `mmcv.transforms.LoadImageFromFile`.
    """

    def __init__(self, *arguments, hold_mib: float = 0.0, **options):
        super().__init__(*arguments, **options)
        self._left = int(hold_mib * 2**20)
        self._held: dict[str, np.ndarray] = {}

    def transform(self, results: dict) -> dict | None:
        """Add the image ``img`` [H, W, 3] and its size; None for an unreadable file with ``ignore_empty``.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is no image, an incomplete one, or one whose values have no known range.
        """
        try:
            return self._load(results)
        except FileNotFoundError:
            error: Exception = FileNotFoundError(
                f"image '{results['img_path']}' does not exist; add it, or leave it out of the annotations"
            )
        except AssertionError:  # mmcv's, also with ignore_empty
            raise damaged(results['img_path'], f'{self.imdecode_backend} finds no image in it') from None
        except (UnidentifiedImageError, cv2.error):
            error = damaged(results['img_path'], f'{self.imdecode_backend} finds no image in it')
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as cause:
            error = damaged(results['img_path'], cause)
        if self.ignore_empty:
            return None
        raise error from None

    def _load(self, results: dict) -> dict | None:
        if self.imdecode_backend != 'pillow':
            return super().transform(results)
        path = results['img_path']
        if path in self._held:
            image = self._held[path].copy()
        else:
            image = self._decoded(path)
            if image.nbytes <= self._left:
                self._held[path] = image.copy()
                self._left -= image.nbytes
        results['img'] = image.astype(np.float32) if self.to_float32 else image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def _decoded(self, path: str) -> np.ndarray:
        if self.file_client_args is not None:
            content = fileio.FileClient.infer_client(self.file_client_args, path).get(path)
        else:
            content = fileio.get(path, backend_args=self.backend_args)
        return decode_array(content, self.color_type)


@TRANSFORMS.register_module()
class LoadWholeImage(LoadImageFromFile):
    """Another name of ``LoadImageFromFile`` with ``imdecode_backend='pillow'``, which earlier configs hold.

    Args:
        **options: Arguments of `mmcv.transforms.LoadImageFromFile`.
    """

    def __init__(self, **options):
        super().__init__(**{'imdecode_backend': 'pillow', **options})


def decode_array(content: bytes, color_type: str = 'color') -> np.ndarray:
    """Decode an image as mmcv does with its Pillow backend, apart from modes that mmcv would clip.

    Args:
        content: The file.
        color_type: ``color``, ``grayscale``, one of the two with ``_ignore_orientation``, or ``unchanged``, which
            keeps the depth of the file.

    Returns:
        BGR [H, W, 3], or [H, W] in grayscale; uint8 unless ``unchanged``.

    Raises:
        OSError: The file is truncated or no image.
        ValueError: The values have no known range.
    """
    image = Image.open(io.BytesIO(content))
    if color_type == 'unchanged' or image.mode in MODES:
        return mmcv.imfrombytes(content, flag=color_type, backend='pillow')
    if not color_type.endswith('_ignore_orientation'):
        ImageOps.exif_transpose(image, in_place=True)
    rgb = to_rgb(image)
    return np.array(rgb.convert('L')) if color_type.startswith('grayscale') else np.array(rgb)[:, :, ::-1]


def damaged(path: str, cause: object) -> ValueError:
    """The error about an image that cannot be decoded."""
    return ValueError(f"image '{path}' cannot be decoded ({cause}); replace or delete it")


# OpenMMLab's own way to another transform of a name of mmcv's: mmdet and mmseg have a Resize and a LoadAnnotations so.
for scope in SCOPES:
    if find_spec(scope):
        import_module(f'{scope}.registry').TRANSFORMS.register_module(module=LoadImageFromFile)
