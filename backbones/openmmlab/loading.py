"""Reading images from disk, with an error for those that are damaged."""

from mmcv.transforms import LoadImageFromFile
from mmengine.registry import TRANSFORMS
from PIL import Image

__all__ = ['LoadWholeImage']


@TRANSFORMS.register_module()
class LoadWholeImage(LoadImageFromFile):
    """mmcv's `LoadImageFromFile`, which a truncated or damaged file stops.

    OpenCV, mmcv's default, fills what is missing of a truncated image with grey and says nothing, and makes None of
    one that it cannot read. Pillow decodes here.

    Args:
        **options: Arguments of `mmcv.transforms.LoadImageFromFile`.
    """

    def __init__(self, **options):
        super().__init__(**{'imdecode_backend': 'pillow', **options})

    def transform(self, results: dict) -> dict:
        """Add the image ``img`` [H, W, 3] and its size.

        Raises:
            ValueError: The file is no whole image.
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
