"""Label maps: what a file holds against what loading leaves of it, and which labels a whole set has."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, UnidentifiedImageError

from distill.base.classes import first

NONE = 255
"""The label of pixels that neither a loss nor a metric counts, unless a head names another."""
PACKED = ('L;2', 'L;4')
"""Pillow's names of gray levels with 2 and 4 bits a pixel, which every reader scales to 0 … 255."""
DEEP = ('I', 'F')
"""First letters of Pillow's modes with more than 8 bits a channel."""
BACKGROUND = ('background', '_background_', '__background__', 'bg')
READ_AGAIN = 64
"""Label maps that are decoded a second time for an error, to show what the files hold."""


def check_label_file(path: str) -> None:
    """Check how a label map is stored; mmseg and mmdet keep the low 8 bits of whatever they decode.

    The header tells all, and only maps with more than 8 bits are decoded. A file that is not on this machine's disks,
    or that Pillow does not know, is not looked at.

    Raises:
        ValueError: The format changes labels, or labels do not fit into 8 bits.
    """
    try:
        image = Image.open(path)
    except (OSError, Image.DecompressionBombError):
        return
    with image:
        # A JPEG that was made by a camera or a telephone is an MPO to Pillow.
        if image.format in ('JPEG', 'MPO'):
            raise ValueError(
                f"label map '{path}' is a JPEG, whose compression changes labels; save class indices as PNG"
            )
        stored = image.tile[0][3] if image.tile else ()
        if any(name in PACKED for name in (stored if isinstance(stored, tuple) else (stored,))):
            raise ValueError(
                f"label map '{path}' has less than 8 bits a pixel, and reading scales its gray levels to 0 … 255; "
                'save class indices with 8 bits'
            )
        if image.mode.startswith(DEEP):
            try:
                labels = np.asarray(image)
            except (OSError, SyntaxError) as error:
                raise damaged_labels(path, error) from None
            check_deep_labels(path, labels)


def check_deep_labels(path: str, labels: np.ndarray) -> None:
    """Check that labels with more than 8 bits fit into 8; those whose bits are all set become 255, as none.

    Args:
        path: The file.
        labels: Its values [H, W].

    Raises:
        ValueError: A value is no whole number from 0 to 255, nor one whose bits are all set: 65535, or -1.
    """
    none = (labels == -1) | (labels == 65535) if labels.dtype.kind != 'f' else np.zeros(labels.shape, bool)
    # Not a number is neither below nor above.
    wrong = labels[~none & ~((labels >= 0) & (labels <= 255) & (labels == np.floor(labels)))]
    if wrong.size:
        raise ValueError(
            f"label map '{path}' has values {first(np.unique(wrong).tolist())} ({wrong.size} pixels), and labels are "
            'whole numbers from 0 to 255; save class indices with 8 bits (of an instance map: the classes alone)'
        )
    if none.any():
        warnings.warn('label maps have 65535 or -1 where they have no label; it is read as 255', stacklevel=1)


def damaged_labels(path: str, cause: object) -> ValueError:
    """The error about a label map that cannot be decoded."""
    cause = 'no image in it' if isinstance(cause, UnidentifiedImageError) else cause
    return ValueError(f"label map '{path}' cannot be decoded ({cause}); replace or delete it")


def colour_message(path: str, labels: np.ndarray) -> str:
    """The error about a label map that was decoded to several channels [H, W, C]."""
    try:
        with Image.open(path) as image:
            # Loading may have changed the colours by reduce_zero_label.
            labels = np.asarray(image.convert('RGB'))
    except OSError:
        pass
    colours = np.unique(labels.reshape(-1, labels.shape[-1]), axis=0)
    gray = (colours == colours[:, :1]).all()
    found = 'has the same values in several channels' if gray else f'is coded by {len(colours)} colours'
    return f"label map '{path}' {found}; save class indices 0, 1, 2, … in one channel with 8 bits, or as palette PNG"


@dataclass
class LabelCensus:
    """Labels that loading has left in the maps of a set, over all that were read before training or a test.

    Attributes:
        part: The set's name in messages: ``training``, ``validation`` or ``test``.
        classes: Names of the classes.
        num_classes: Classes of the model; None leaves all of this out.
        ignore_index: The label for none.
        reduce_zero_label: Whether loading turns 0 into none and takes 1 off every other label.
        seen: Whether a label was in any map.
        paths: Label maps that were read.
        complete: Whether those were all of the set.
    """

    part: str = 'training'
    classes: Sequence[str] = ()
    num_classes: int | None = None
    ignore_index: int = NONE
    reduce_zero_label: bool = False
    seen: np.ndarray = field(default_factory=lambda: np.zeros(256, bool))
    paths: list[str] = field(default_factory=list)
    complete: bool = True

    def learn(self, dataset, step) -> None:
        """Take classes and settings from a data set and from the `CheckSample` in its pipeline."""
        self.classes = getattr(dataset, 'metainfo', {}).get('classes') or ()
        self.reduce_zero_label = bool(getattr(dataset, 'reduce_zero_label', False))
        self.num_classes = step.num_classes
        self.ignore_index = NONE if step.ignore_index is None else step.ignore_index

    def add(self, labels: np.ndarray, path: str) -> None:
        """Count the labels of a loaded map [H, W], uint8."""
        self.seen |= np.bincount(labels.ravel(), minlength=256) > 0
        self.paths.append(path)

    @property
    def labels(self) -> list[int]:
        """Labels that were in any map, without the one for none."""
        return [label for label in np.flatnonzero(self.seen).tolist() if label != self.ignore_index]

    @property
    def doubtful(self) -> bool:
        """Whether a model with several classes would find one of them at the most."""
        return bool(self.paths) and (self.num_classes or 0) > 1 and len(self.labels) < 2

    def check(self) -> list[str]:
        """Check that the maps have labels to tell apart.

        Returns:
            Lines for the log.

        Raises:
            ValueError: There is nothing to learn in a training set, or to score in another, or a class of its own is
                read as none.
        """
        if self.doubtful:
            values = values_of(self.paths[:READ_AGAIN])
            message = self._few_labels(values)
            # Several maps of several values, of which one is left: of a test set's one image that may be all there is.
            lost = len(values) > 1 and len(self.paths) > 1
            nothing = self.part == 'training' and (self.complete or len(values) > 1)
            if not self.labels or lost or nothing:
                raise ValueError(message)
            return [message]
        if not self.paths or not self.num_classes:
            return []
        if self.num_classes == 1 and not self.reduce_zero_label and values_of(self.paths[:READ_AGAIN]) == [0, 255]:
            return [
                f"label maps of the {self.part} set hold 0 and 255 (e.g. '{self.paths[0]}'), and the one class "
                f"'{first(self.classes)}' is learnt where they have 0; 255 stands for none"
            ]
        self._check_background()
        missing = [name for label, name in enumerate(self.classes) if not self.seen[label]]
        if not (missing and self.complete):
            return []
        effect = (
            'nothing teaches the model to find it'
            if self.part == 'training'
            else 'its IoU is 0 where it is found and not a number where it is not, which the mean leaves out'
        )
        count = f'{len(missing)} of {len(self.classes)} classes'
        return [f'no label map of the {self.part} set has {first(missing)} ({count}): {effect}']

    def _few_labels(self, values: list[int]) -> str:
        left = self.labels
        kept = f"label {left[0]} ('{first(self.classes[left[0] : left[0] + 1])}') alone" if left else 'no label'
        advice = []
        if self.reduce_zero_label and 0 in values:
            advice.append('reduce_zero_label=True turns 0 into none: set it to False where 0 is a class')
        if 255 in values:
            advice.append(
                f'255 stands for none: save class indices 0 to {len(self.classes) - 1}'
                + (', 1 in place of 255' if values == [0, 255] else '')
            )
        if not advice:
            advice.append(f'give maps of the {len(self.classes)} classes, or leave such samples out')
        return (
            f"label maps of the {self.part} set ({len(self.paths)} read, e.g. '{self.paths[0]}') hold the values "
            f'{first(values, 8)}, of which loading leaves {kept}; {"; ".join(advice)}'
        )

    def _check_background(self) -> None:
        """Find a class for the background that loading turns into none, which moves all other names by one."""
        first_name = str(self.classes[0]) if self.classes else ''
        if not self.reduce_zero_label or first_name.lower() not in BACKGROUND or self.seen[len(self.classes) - 1]:
            return
        if 0 in values_of(self.paths[:READ_AGAIN]):
            raise ValueError(
                f"the first class of the {self.part} set is '{first_name}', and reduce_zero_label=True turns 0 into "
                f"none and takes 1 off every other label, so that no label map has '{self.classes[-1]}' (e.g. "
                f"'{self.paths[0]}'); set reduce_zero_label=False, or leave '{first_name}' out of the classes"
            )


def values_of(paths: Iterable[str]) -> list[int]:
    """The values that label maps hold before loading, sorted; files that Pillow cannot read have none."""
    found: set[int] = set()
    for path in paths:
        try:
            with Image.open(path) as image:
                found.update(np.unique(np.asarray(image)).tolist())
        except (OSError, SyntaxError):
            continue
    return sorted(int(value) for value in found)
