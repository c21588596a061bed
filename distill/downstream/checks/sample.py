"""Check one sample at a time: an image against its annotations, a label map against the classes."""

import time

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

from distill.downstream.checks.files import size_text

LOADED_BEFORE = 32
"""Samples of each set that are loaded before training starts at the least."""
LOADING_S = 5.0
"""Seconds for which more of them are loaded."""


@TRANSFORMS.register_module()
class CheckSample(BaseTransform):
    """Stop at a sample whose image, annotations and label map do not fit; comes after the steps that load them.

    Args:
        num_classes: Labels must be smaller. None leaves it to `CheckDataHook`, which fills in the number of the
            segmenter's classes; without that hook labels are not checked.
        ignore_index: The label that is allowed besides; None as above.
    """

    def __init__(self, num_classes: int | None = None, ignore_index: int | None = None):
        self.num_classes = num_classes
        self.ignore_index = ignore_index

    def transform(self, results: dict) -> dict:
        """Check one sample.

        Raises:
            ValueError: The image or the label map is of another size than it should be, or a label is out of range.
        """
        size = tuple(results['ori_shape'][:2])
        expected = (results.get('height', size[0]), results.get('width', size[1]))
        if size != expected:
            raise ValueError(
                f"image '{results['img_path']}' has {size_text(size)} but its annotations are for "
                f'{size_text(expected)}; annotate it again or put the right image there'
            )
        labels = results.get('gt_seg_map')
        if labels is not None:
            self._check_labels(labels, size, results['seg_map_path'], results['img_path'])
        return results

    def _check_labels(self, labels: np.ndarray, size: tuple[int, int], path: str, image: str) -> None:
        if labels.shape != size:
            raise ValueError(
                f"label map '{path}' has {size_text(labels.shape)} and its image '{image}' {size_text(size)}; "
                'they must be of one size'
            )
        if self.num_classes is None:
            return
        ignored = 255 if self.ignore_index is None else self.ignore_index
        wrong = labels[(labels >= self.num_classes) & (labels != ignored)]
        if wrong.size:
            raise ValueError(
                f"label map '{path}' has label {wrong.max()} ({wrong.size} pixels) but the model has "
                f'{self.num_classes} classes, 0 to {self.num_classes - 1} after loading, and {ignored} for '
                'none; set num_classes, reduce_zero_label or the labels right'
            )

    def __repr__(self) -> str:
        return f'{type(self).__name__}(num_classes={self.num_classes}, ignore_index={self.ignore_index})'


def check_samples(dataset) -> None:
    """Load samples in random order, for some seconds, as far as `CheckSample`, which checks them.

    Args:
        dataset: A data set with a pipeline; without a `CheckSample` in it nothing is loaded.
    """
    steps = dataset.pipeline.transforms
    end = next((place for place, step in enumerate(steps, 1) if isinstance(step, CheckSample)), 0)
    if not end:
        return
    start = time.monotonic()
    for count, index in enumerate(np.random.default_rng(0).permutation(len(dataset)).tolist()):
        if count >= LOADED_BEFORE and time.monotonic() - start > LOADING_S:
            break
        results = dataset.get_data_info(index)
        for step in steps[:end]:
            results = step(results)
