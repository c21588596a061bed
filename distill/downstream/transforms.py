"""Corruption as a step of an mmdet or mmseg pipeline."""

import hashlib
from pathlib import Path

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

from distill.base.records import Cell
from distill.corruptions import corrupt

__all__ = ['Corrupt', 'image_number']


@TRANSFORMS.register_module()
class Corrupt(BaseTransform):
    """Corrupt an image as ImageNet-C does; comes after loading and before resizing.

    The random numbers follow from (seed, image, kind, severity) alone, where an image is named by COCO's id or else by
    its file: neither the order nor the number of workers changes them. mmdet 3.3 has a transform of the same name, so
    a config with mmdet's scope asks for ``type='mmengine.Corrupt'``.

    Args:
        kind: Of `distill.base.records.KINDS` or `EXTRA_KINDS`; any text with severity 0.
        severity: 1 to 5; 0 leaves images as they are.
        seed: Seed of the corruptions.

    Raises:
        ValueError: Kind or severity is unknown.
    """

    def __init__(self, kind: str, severity: int, seed: int = 0):
        self.seed = seed
        self.cell = None if severity == 0 else Cell(kind, severity)

    def transform(self, results: dict) -> dict:
        """Corrupt ``img``, BGR uint8 [H, W, 3] as mmcv loads it.

        Raises:
            ValueError: The image is of another type or smaller than 32 pixels.
        """
        if self.cell is None:
            return results
        rgb = results['img'][None, ..., ::-1]
        try:
            corrupted = corrupt(rgb, self.cell.kind, self.cell.severity, [(self.seed, image_number(results))])
        except ValueError as error:
            raise ValueError(f"image '{results.get('img_path')}' cannot be corrupted: {error}") from None
        results['img'] = np.ascontiguousarray(corrupted[0, ..., ::-1])
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(cell={self.cell}, seed={self.seed})'


def image_number(results: dict) -> int:
    """Number an image alike on every machine: by its id if that is a number, else by a hash of its file's name."""
    image_id = results.get('img_id')
    if isinstance(image_id, int | np.integer) and image_id >= 0:
        return int(image_id)
    name = Path(results['img_path']).name if image_id is None else str(image_id)
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], 'big')
