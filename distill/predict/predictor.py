"""Show images to a model in batches, whatever the images and the model are."""

import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from distill.predict.files import find_files, shown
from distill.predict.outputs import Prediction, Shown
from distill.predict.photos import ImageLike, Photo, open_photo


class Model(Protocol):
    """A model under prediction: what `Predictor` calls, and all that another kind of model has to have."""

    @property
    def task(self) -> str:
        """``classification``, ``detection`` or ``segmentation``."""

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes, in the order of their labels."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What is worth a line to the user about how the model was loaded."""

    def prepare(self, photo: Photo) -> Any:
        """What the network is shown of an image; may run in another process. Raises ValueError if it cannot be."""

    def key(self, sample: Any) -> tuple[int, ...]:
        """Samples of the same key can be shown together."""

    def predict(self, samples: Sequence[Any], shown: Sequence[Shown]) -> Sequence[Prediction]:
        """Predict samples of the same key."""

    def describe(self) -> dict:
        """``model``, ``preprocessing`` and ``settings``, as ``predictions.json`` holds them."""


class BrokenImageError(ValueError):
    """An image that cannot be predicted. The message names it."""


@dataclass(frozen=True)
class Outcome:
    """What has become of one image.

    Attributes:
        index: Its place among those that were shown.
        prediction: What the model says, or None for a broken image.
        error: Why the image is broken.
        image: The decoded image, if it was asked for.
    """

    index: int
    prediction: Prediction | None = None
    error: str = ''
    image: Image.Image | None = None


@dataclass
class _Item:
    index: int
    sample: Any = None
    shown: Shown | None = None
    error: str = ''
    image: Image.Image | None = None


class _Samples(Dataset):
    """Images as a model takes them; a broken one is an item with an error."""

    def __init__(self, images: Sequence[ImageLike], model: Model, keep_images: bool):
        self.images, self.model, self.keep_images = images, model, keep_images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> _Item:
        source = self.images[index]
        name = f"image '{shown(os.fspath(source))}'" if isinstance(source, (str, os.PathLike)) else f'image {index}'
        try:
            photo = open_photo(source)
            about = Shown(photo.size, photo.path, photo.orientation, photo.notes)
        except (ValueError, OSError) as error:
            return _Item(index, error=str(error) if photo_named(error) else f'{name}: {error}')
        try:
            sample = self.model.prepare(photo)
        except (ValueError, OSError) as error:
            size = f'{photo.size[0]}x{photo.size[1]} pixels'
            return _Item(index, error=f'{name} of {size} cannot be shown to this model: {error}')
        return _Item(index, sample, about, image=photo.image if self.keep_images else None)


def photo_named(error: Exception) -> bool:
    """Whether the message of an error names its image already."""
    return str(error).startswith("image '")


class Predictor:
    """A model that images are shown to.

    Args:
        model: The model; see `distill.predict.load_predictor`.

    Attributes:
        task: ``classification``, ``detection`` or ``segmentation``.
        classes: Names of the classes.
        notes: What is worth a line to the user about how the model was loaded.
    """

    def __init__(self, model: Model):
        self.model = model

    @property
    def task(self) -> str:
        return self.model.task

    @property
    def classes(self) -> list[str]:
        return list(self.model.classes)

    @property
    def notes(self) -> tuple[str, ...]:
        return self.model.notes

    def __repr__(self) -> str:
        described = self.model.describe()['model']
        return f'Predictor({self.task}, {described["name"]}, {len(self.classes)} classes)'

    def predict(
        self, images: ImageLike | Iterable[ImageLike], batch_size: int = 8, workers: int = 0
    ) -> list[Prediction]:
        """Predict one image or many.

        Args:
            images: A path, a folder or a pattern; an image of Pillow; an array, uint8 [H, W, 3] in RGB; or any mix of
                these.
            batch_size: How many images the network sees at once, if they are of one size.
            workers: Processes that decode images.

        Returns:
            A prediction for each image, in their order.

        Raises:
            FileNotFoundError: A path does not exist.
            ValueError: An image is broken, or the batch size or the number of workers is too small.
        """
        sources = list(_flatten(images))
        predictions = []
        for outcome in self.stream(sources, batch_size, workers):
            if outcome.prediction is None:
                raise BrokenImageError(outcome.error)
            predictions.append(_with_source(outcome.prediction, sources[outcome.index]))
        return predictions

    def stream(
        self, images: Sequence[ImageLike], batch_size: int = 8, workers: int = 0, keep_images: bool = False
    ) -> Iterator[Outcome]:
        """Predict images one after another; a broken one is an outcome, and no error.

        Args:
            images: Files, images of Pillow and arrays.
            batch_size: How many images the network sees at once, if they are of one size.
            workers: Processes that decode images.
            keep_images: Whether outcomes have the decoded image.

        Yields:
            What has become of each image, in their order.

        Raises:
            ValueError: The batch size or the number of workers is too small, or the memory does not suffice.
        """
        if batch_size < 1 or workers < 0:
            raise ValueError(f'batch_size is {batch_size} and workers {workers}; give at least 1 and 0')
        loader = DataLoader(
            _Samples(images, self.model, keep_images),
            batch_size,
            num_workers=min(workers, len(images)),
            collate_fn=_as_it_is,
            worker_init_fn=_one_thread,
        )
        for items in loader:
            yield from self._outcomes(items)

    def _outcomes(self, items: list[_Item]) -> list[Outcome]:
        whole = [item for item in items if not item.error]
        outcomes = {item.index: Outcome(item.index, error=item.error) for item in items if item.error}
        whole.sort(key=lambda item: self.model.key(item.sample))
        for _, group in itertools.groupby(whole, key=lambda item: self.model.key(item.sample)):
            for outcome in self._group(sorted(group, key=lambda item: item.index)):
                outcomes[outcome.index] = outcome
        return [outcomes[item.index] for item in items]

    def _group(self, items: list[_Item]) -> list[Outcome]:
        """Predict images of one size; if that fails, each alone, to find the one that is to blame."""
        try:
            shown = [item.shown for item in items if item.shown is not None]
            predictions = self.model.predict([item.sample for item in items], shown)
        except torch.OutOfMemoryError:
            raise ValueError(
                f'{len(items)} images at once take more memory than there is; lower the batch size'
            ) from None
        # Of networks that cannot take an image of a few pixels each raises something else.
        except (RuntimeError, ValueError, AssertionError, IndexError, ZeroDivisionError) as error:
            if len(items) > 1:
                return [outcome for item in items for outcome in self._group([item])]
            item = items[0]
            if 'DataLoader worker' in str(error) or item.shown is None:
                raise
            size = 'x'.join(map(str, item.shown.size))
            name = f"image '{shown_name(item)}' of {size} pixels"
            reason = ' '.join(str(error).split())[:200] or type(error).__name__
            return [Outcome(item.index, error=f'{name} cannot be predicted by this model ({reason}); leave it out')]
        return [
            Outcome(item.index, prediction, image=item.image)
            for item, prediction in zip(items, predictions, strict=True)
        ]


def shown_name(item: _Item) -> str:
    """The name of an image for a message."""
    path = item.shown.path if item.shown is not None else None
    return str(item.index) if path is None else shown(path)


def _flatten(images: ImageLike | Iterable[ImageLike]) -> Iterator[ImageLike]:
    """Single images out of one, many, folders and patterns."""
    if isinstance(images, (str, os.PathLike)):
        if os.path.isfile(images):
            yield os.fspath(images)
        else:
            yield from (file.path for file in find_files([images]).files)
    elif isinstance(images, Image.Image) or (isinstance(images, np.ndarray) and images.ndim < 4):
        yield images
    elif isinstance(images, Iterable) and not isinstance(images, (bytes, dict, torch.Tensor)):
        for image in images:
            yield from _flatten(image)
    else:
        raise ValueError(
            f'{type(images).__name__} is no image; give a path, an image of Pillow, an array uint8 [height, width, 3] '
            'in RGB, or a list of these'
        )


def _with_source(prediction: Prediction, source: ImageLike) -> Prediction:
    """A prediction that can draw itself on the image that was shown."""
    return replace(prediction, shown=replace(prediction.shown, source=source))


def _as_it_is(items: list[_Item]) -> list[_Item]:
    return items


def _one_thread(worker: int) -> None:
    if 'cv2' in sys.modules:
        sys.modules['cv2'].setNumThreads(0)
