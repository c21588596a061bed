"""Corruption as a step of an mmdet or mmseg pipeline: of tested images, and of those that students train on."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

from distill.base.records import Cell
from distill.corruptions import corrupt
from distill.corruptions.training import TrainingCorruption, build_corruption
from distill.downstream.dense_inputs import CLEAN

__all__ = ['Corrupt', 'CorruptForStudent', 'image_number']


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


@TRANSFORMS.register_module()
class CorruptForStudent(BaseTransform):
    """Corrupt the image that a student trains on; the last step of a training pipeline, after the one that packs.

    The corruption acts on the image as the pipeline has made it, in uint8: resized, cropped, flipped and coloured,
    before the preprocessor normalises and pads it. Boxes and masks hold, since what mixtures do to the geometry is left
    out. The clean image goes along in the data sample, for a teacher (`DenseDistiller`), whose batch is padded as the
    student's. Without a teacher the step is an augmentation, of any model of mmdet or mmseg.

    The random numbers follow from those of the sample: with `SeedSamplesHook`, which this project's runs have, from
    (seed of the run, iteration, image).

    Args:
        keep_clean: Whether the clean image goes along.
        **corruption: Arguments of `distill.corruptions.training.TrainingCorruption` but ``copies`` and ``geometry``.

    Attributes:
        corruption: What corrupts the images.

    Raises:
        ValueError: An argument is unknown or impossible, or a kind is one that students are judged by.
    """

    def __init__(self, keep_clean: bool = True, **corruption):
        self.keep_clean = keep_clean
        built = build_corruption(corruption, 'CorruptForStudent', copies=1, geometry=False)
        self.corruption: TrainingCorruption = built  # type: ignore[assignment]

    def transform(self, results: dict) -> dict:
        """Corrupt ``inputs``, B, G, R, uint8 [3, H, W] as mmdet and mmseg pack them.

        Raises:
            ValueError: The step stands elsewhere, or the image is smaller than 32 pixels.
        """
        clean = results.get('inputs')
        if not isinstance(clean, torch.Tensor) or clean.dtype != torch.uint8 or clean.shape[0] != 3:
            raise ValueError(
                'CorruptForStudent finds no uint8 image of 3 channels; put it after the step Pack… of the pipeline'
            )
        seed = np.random.randint(1 << 31, size=4).tolist()
        rgb = np.ascontiguousarray(clean.numpy()[::-1].transpose(1, 2, 0))
        try:
            corrupted = self.corruption(rgb, seed)
        except ValueError as error:
            path = results['data_samples'].metainfo.get('img_path')
            raise ValueError(f"image '{path}' cannot be corrupted: {error}") from None
        if self.keep_clean:
            results['data_samples'].set_field(clean, CLEAN, field_type='data')
        shown = np.ascontiguousarray(corrupted.transpose(2, 0, 1)[::-1])
        return {**results, 'inputs': torch.from_numpy(shown)}

    def __repr__(self) -> str:
        return f'{type(self).__name__}(corruption={self.corruption}, keep_clean={self.keep_clean})'


def image_number(results: dict) -> int:
    """Number an image alike on every machine: by its id if that is a number, else by a hash of its file's name."""
    image_id = results.get('img_id')
    if isinstance(image_id, int | np.integer) and image_id >= 0:
        return int(image_id)
    name = Path(results['img_path']).name if image_id is None else str(image_id)
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], 'big')
