"""Read images from disk, with an error for damaged files."""

from mmcv.transforms import LoadImageFromFile
from mmengine.registry import TRANSFORMS
from PIL import Image

__all__ = ['LoadWholeImage']


@TRANSFORMS.register_module()
class LoadWholeImage(LoadImageFromFile):
    """mmcv's `LoadImageFromFile` with an error for truncated and damaged files.

    OpenCV, mmcv's default, fills the missing part of a truncated image with grey, without a warning, and returns None
    for an image that it cannot read. Here Pillow decodes.

    Args:
        **options: Arguments of `mmcv.transforms.LoadImageFromFile`.
    """

    def __init__(self, **options):
        super().__init__(**{'imdecode_backend': 'pillow', **options})

    def transform(self, results: dict) -> dict:
        """Add the image ``img`` [H, W, 3] and its size.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is no image, or an incomplete one.
        """
        try:
            return super().transform(results)
        except FileNotFoundError:
            raise FileNotFoundError(
                f"image '{results['img_path']}' does not exist; add it, or leave it out of the annotations"
            ) from None
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(
                f"image '{results['img_path']}' cannot be decoded ({error}); replace or delete it"
            ) from None
