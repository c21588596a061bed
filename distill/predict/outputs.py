"""What a model says about an image: a type for each task, which draws itself and writes itself as JSON."""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from distill.predict.photos import ImageLike, open_photo

IN_WORDS = 3
"""Classes that the summary of an image names at the most."""
SHOWN_PX = 900
"""Longer side of a picture in a notebook, at the most."""


@dataclass(frozen=True)
class Shown:
    """The image that a prediction is about.

    Attributes:
        size: Width and height in pixels, upright: what coordinates and label maps refer to.
        path: The file, or None for an image from memory.
        orientation: EXIF's number, from 1 to 8, which was applied.
        notes: What else was done to the image, in words.
        source: What the model was shown, to draw on.
    """

    size: tuple[int, int]
    path: str | None = None
    orientation: int = 1
    notes: tuple[str, ...] = ()
    source: ImageLike | None = field(default=None, repr=False, compare=False)

    def to_json(self) -> dict:
        """Path, size and what was done to the image."""
        content: dict[str, Any] = {'path': self.path} if self.path is not None else {}
        content |= {'width': self.size[0], 'height': self.size[1], 'orientation_applied': self.orientation}
        return content | ({'notes': list(self.notes)} if self.notes else {})


@dataclass(frozen=True)
class Prediction:
    """What a model says about one image.

    Attributes:
        shown: The image.
        classes: Names of all classes of the model.
    """

    shown: Shown
    classes: Sequence[str] = field(repr=False)

    @property
    def path(self) -> str | None:
        """The image's file, or None for an image from memory."""
        return self.shown.path

    def summary(self) -> str:
        """The prediction in a few words."""
        raise NotImplementedError

    def to_json(self) -> dict:
        """What ``predictions.json`` holds of it."""
        raise NotImplementedError

    def draw(self, image: ImageLike | None = None) -> Image.Image:
        """Draw the prediction.

        Args:
            image: The image to draw on; None takes the one that was shown to the model.

        Raises:
            ValueError: The image is of another size than the one that was shown, or cannot be decoded.
        """
        if image is None and self.shown.source is None:
            raise ValueError('the image that was shown is not kept with this prediction; give draw() the image')
        canvas = open_photo(self.shown.source if image is None else image).image  # type: ignore[arg-type]
        if canvas.size != tuple(self.shown.size):
            raise ValueError(
                f'the image has {canvas.width}x{canvas.height} pixels, and the one that was shown '
                f'{self.shown.size[0]}x{self.shown.size[1]}; draw on the same image'
            )
        return self._drawn(canvas)

    def _drawn(self, canvas: Image.Image) -> Image.Image:
        raise NotImplementedError

    def _repr_png_(self) -> bytes | None:
        if self.shown.source is None:
            return None
        picture = self.draw()
        picture.thumbnail((SHOWN_PX, SHOWN_PX))
        buffer = io.BytesIO()
        picture.save(buffer, 'PNG')
        return buffer.getvalue()

    def _repr_html_(self) -> str:
        png = self._repr_png_()
        text = html.escape(f'{self.path}: {self.summary()}' if self.path else self.summary())
        if png is None:
            return f'<p>{text}</p>'
        return f'<img src="data:image/png;base64,{base64.b64encode(png).decode()}" alt="{text}"/><p>{text}</p>'


@dataclass(frozen=True)
class Candidate:
    """A class that an image may be of.

    Attributes:
        index: Place among the model's classes.
        name: Name of the class, as the model knows it.
        title: The name for people, which differs from ``name`` for WordNet ids.
        probability: From 0 to 1; NaN where the logits were not finite.
    """

    index: int
    name: str
    title: str
    probability: float


@dataclass(frozen=True)
class Classification(Prediction):
    """The classes that an image may be of.

    Attributes:
        probabilities: Of all classes, float32 [K].
        top: The most probable classes, the first one first.
    """

    probabilities: np.ndarray = field(repr=False)
    top: tuple[Candidate, ...]

    @property
    def name(self) -> str:
        """The most probable class."""
        return self.top[0].name

    @property
    def is_finite(self) -> bool:
        """Whether the model gave numbers; otherwise it decided nothing."""
        return bool(np.isfinite(self.probabilities).all())

    def summary(self) -> str:
        """The first few classes with their probabilities."""
        if not self.is_finite:
            return 'no decision: the logits are not finite'
        return ', '.join(f'{one.title} {percent(one.probability)}' for one in self.top[:IN_WORDS])

    def to_json(self) -> dict:
        """The image, and its most probable classes."""
        if not self.is_finite:
            return {**self.shown.to_json(), 'top': [], 'problem': 'the logits are not finite'}
        top = [
            {'id': one.index, 'class': one.name}
            | ({'description': one.title} if one.title != one.name else {})
            | {'probability': plain_float(one.probability)}
            for one in self.top
        ]
        return {**self.shown.to_json(), 'top': top}

    def _drawn(self, canvas: Image.Image) -> Image.Image:
        from distill.predict.pictures import draw_classification

        return draw_classification(canvas, self)


@dataclass(frozen=True)
class Detection(Prediction):
    """The objects in an image, the surest one first.

    Attributes:
        boxes: Left, top, right, bottom in pixels of the upright image, float32 [N, 4].
        scores: From 0 to 1, float32 [N].
        labels: Places among the model's classes, int64 [N].
        masks: bool [N, H, W], or None for a model without masks.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.scores)

    def counts(self) -> dict[str, int]:
        """How many objects there are of each class that is there, the most frequent one first."""
        found = np.bincount(self.labels, minlength=len(self.classes))
        return {self.classes[index]: int(found[index]) for index in np.argsort(-found, kind='stable') if found[index]}

    def summary(self) -> str:
        """How many objects of which classes."""
        return ', '.join(f'{count} {name}' for name, count in self.counts().items()) or 'nothing found'

    def to_json(self) -> dict:
        """The image, and its objects as in a results file of COCO: ``bbox`` is left, top, width and height."""
        masks = [None] * len(self) if self.masks is None else [run_lengths(mask) for mask in self.masks]
        objects = []
        for box, score, label, mask in zip(self.boxes, self.scores, self.labels, masks, strict=True):
            left, top, right, bottom = map(plain_float, box)
            # In doubles, so that the right and the bottom end can be had again.
            entry = {
                'category_id': int(label),
                'category': self.classes[label],
                'bbox': [left, top, right - left, bottom - top],
                'score': plain_float(score),
            }
            objects.append(entry if mask is None else {**entry, 'segmentation': mask})
        return {**self.shown.to_json(), 'objects': objects}

    def _drawn(self, canvas: Image.Image) -> Image.Image:
        from distill.predict.pictures import draw_detection

        return draw_detection(canvas, self)


@dataclass(frozen=True)
class Segmentation(Prediction):
    """The class of each pixel of an image.

    Attributes:
        labels: Places among the model's classes, uint8 or uint16 [H, W].
    """

    labels: np.ndarray = field(repr=False)

    @cached_property
    def pixels(self) -> dict[int, int]:
        """Number of pixels of each class that is there, the largest first."""
        found = np.bincount(self.labels.reshape(-1), minlength=1)
        return {int(index): int(found[index]) for index in np.argsort(-found, kind='stable') if found[index]}

    @property
    def shares(self) -> dict[str, float]:
        """Share of the pixels of each class that is there, the largest first; they sum to 1."""
        return {self.class_name(index): count / self.labels.size for index, count in self.pixels.items()}

    def class_name(self, index: int) -> str:
        """The name of a class by its place; a label that the model has no name for is called by its number."""
        return self.classes[index] if index < len(self.classes) else f'label {index}'

    def summary(self) -> str:
        """The classes with their shares of the pixels."""
        return ', '.join(f'{name} {percent(share)}' for name, share in self.shares.items())

    def to_json(self) -> dict:
        """The image, and how many pixels each class has; the labels themselves are a file."""
        present = [
            {'id': index, 'class': self.class_name(index), 'pixels': count, 'share': count / self.labels.size}
            for index, count in self.pixels.items()
        ]
        return {**self.shown.to_json(), 'classes': present}

    def label_map(self) -> Image.Image:
        """The labels as an image whose values are places among the classes, with a palette where 8 bits suffice."""
        from distill.predict.drawing import class_color

        if self.labels.dtype != np.uint8:
            return Image.fromarray(self.labels)
        # Through bytes, because Pillow takes an array's palette away from it.
        image = Image.frombytes('P', self.labels.shape[::-1], np.ascontiguousarray(self.labels).tobytes())
        image.putpalette([value for index in range(256) for value in class_color(index)])
        return image

    def _drawn(self, canvas: Image.Image) -> Image.Image:
        from distill.predict.pictures import draw_segmentation

        return draw_segmentation(canvas, self)


def percent(share: float) -> str:
    """A share for people: a small one is not called nothing."""
    return '<\u00a00.1\u00a0%' if 0 < share < 0.0005 else f'{100 * share:.1f}\u00a0%'


def plain_float(value: float) -> float:
    """A float32 with no more digits than tell it from its neighbours: 0.9 and not 0.8999999761581421."""
    return float(str(np.float32(value)))


def run_lengths(mask: np.ndarray) -> dict:
    """A mask [H, W] in COCO's run-length encoding, as text."""
    from pycocotools import mask as coco

    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {'size': encoded['size'], 'counts': encoded['counts'].decode()}
