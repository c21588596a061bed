"""A classifier under prediction: shown what the judge of `distill.robustness` shows it, and asked in the same way."""

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from timm.data import ImageNetInfo, create_transform
from torch import Tensor, nn

from backbones.loading import load
from distill.predict.outputs import Candidate, Classification, Shown
from distill.predict.photos import Photo
from distill.robustness import imagenet
from distill.robustness.runs import Run, load_run, make_run

LONGEST = 64
"""Of an image that is longer than so many times its width the middle is taken, before it is resized: timm's transform
would enlarge a strip of 10,000 × 1 pixels to 2 million pixels, and cut the middle out of these."""
ASSUMED = "ImageNet's, assumed from their number: the model does not tell its classes"


UNKNOWN = 'numbers: the model does not tell its classes'


@dataclass
class Classifier:
    """A classifier as `Predictor` takes it.

    Attributes:
        run: The network with its preprocessing, as the judge runs it.
        classes: Names of the classes.
        classes_from: Where the names are from, in words.
        topk: How many classes are told.
        titles: The names for people: a word for a WordNet id.
    """

    run: Run
    classes: list[str]
    classes_from: str
    topk: int = 5
    task: str = 'classification'

    def __post_init__(self):
        self.transform = create_transform(**self.run.transform, use_prefetcher=True)
        self.crop_mode = self.run.transform.get('crop_mode') or 'center'
        known = _descriptions()
        self.titles = [known.get(name, name) for name in self.classes]

    @property
    def notes(self) -> tuple[str, ...]:
        return self.run.notes

    def prepare(self, photo: Photo) -> Tensor:
        """What the network is shown, before normalisation: uint8 [3, H, W]."""
        image = photo.image
        if self.crop_mode == 'center':
            image = _middle(image)
        return torch.as_tensor(self.transform(image))

    def key(self, sample: Tensor) -> tuple[int, ...]:
        """Samples of the same key can be shown together."""
        return tuple(sample.shape)

    def predict(self, samples: Sequence[Tensor], shown: Sequence[Shown]) -> list[Classification]:
        """Predict images of one size."""
        logits = self.run.predict(torch.stack(list(samples)))
        probabilities = logits.softmax(dim=1)
        finite = probabilities.nan_to_num()
        # The first of equal ones comes first, as in an argmax.
        order = finite.argsort(dim=1, descending=True, stable=True)[:, : self.topk]
        return [
            Classification(
                one,
                self.classes,
                row.numpy(),
                tuple(Candidate(k, self.classes[k], self.titles[k], float(row[k])) for k in best.tolist()),
            )
            for one, row, best in zip(shown, probabilities, order, strict=True)
        ]

    def describe(self) -> dict:
        """The model and its preprocessing, for ``predictions.json``."""
        transform = self.run.transform
        preprocessing = {
            'input_size': [3, *transform['input_size']],
            'interpolation': transform['interpolation'],
            'crop_pct': transform['crop_pct'],
            'crop_mode': self.crop_mode,
            'mean': list(self.run.mean),
            'std': list(self.run.std),
        }
        record = self.run.record
        model = {
            'source': record.get('source', record['model']),
            'name': record['model'],
            'weights_sha256': record['weights_sha256'],
            'classes_from': self.classes_from,
        }
        return {'model': model, 'preprocessing': preprocessing, 'settings': {'topk': self.topk}}


def load_classifier(source: str | os.PathLike | nn.Module, device: str, topk: int = 5, **given: Any) -> Classifier:
    """Load a classifier.

    Args:
        source: What `backbones.load` takes, or an exported file.
        device: Where the model runs.
        topk: How many classes are told; all, if there are fewer.
        **given: Arguments of `backbones.load`, which win over what the source says.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The model cannot be loaded, has no classes, or an argument does not fit it.
    """
    run = _own_run(source, device, given) if isinstance(source, nn.Module) else load_run(str(source), device, **given)
    count: int = run.network.num_classes  # type: ignore[assignment]
    if run.classes is not None and len(run.classes) != count:
        raise ValueError(f"model '{source}' has {count} classes, and {len(run.classes)} names; name each one")
    classes, origin = run.classes, 'given' if given.get('classes') else 'the model'
    if classes is None:
        classes, origin = [f'class {index}' for index in range(count)], UNKNOWN
    elif run.record.get('classes_from') == 'assumed':
        origin = ASSUMED
    return Classifier(run, classes, origin, min(topk, count))


def _own_run(network: nn.Module, device: str, given: dict[str, Any]) -> Run:
    """A run of a network of a user's own, which stays where and as it is."""
    loaded = load(copy.deepcopy(network), **given)
    params = sum(parameter.numel() for parameter in loaded.network.parameters())
    moved = loaded.network.to(device).to(memory_format=torch.channels_last)
    return make_run(loaded.source, moved, loaded.record, device, params, loaded.source, loaded.file, loaded.notes)


def _descriptions() -> dict[str, str]:
    """What each of ImageNet's WordNet ids stands for, in a word or two."""
    info = ImageNetInfo()
    return {name: info.label_name_to_description(name, detailed=False).partition(',')[0] for name in imagenet.synsets()}


def _middle(image: Image.Image) -> Image.Image:
    """The middle of an image that is very much longer than wide, or the image."""
    width, height = image.size
    longest = LONGEST * min(image.size)
    if max(image.size) <= longest:
        return image
    left, top = max(0, (width - longest) // 2), max(0, (height - longest) // 2)
    return image.crop((left, top, left + min(width, longest), top + min(height, longest)))
