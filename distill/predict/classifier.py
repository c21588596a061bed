"""A classifier under prediction: shown what the judge of `distill.robustness` shows it, and asked in the same way."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from timm.data import ImageNetInfo, create_transform
from torch import Tensor, nn

from backbones.loading import load
from backbones.record import ModelRecord
from distill.predict.outputs import Candidate, Classification, Shown
from distill.predict.photos import Photo
from distill.robustness import imagenet
from distill.robustness.runs import Run, load_run
from distill.robustness.sources import ONNX

LONGEST = 64
"""Of an image that is longer than so many times its width the middle is taken, before it is resized: timm's transform
would enlarge a strip of 10,000 × 1 pixels to 2 million pixels, and cut the middle out of these."""
ASSUMED = "ImageNet's, assumed from their number: the model does not tell its classes"


@dataclass
class Classifier:
    """A classifier as `Predictor` takes it.

    Attributes:
        run: The network with its preprocessing, as the judge runs it.
        source: What was asked for.
        model: timm's name.
        weights_sha256: Hash of the weights.
        classes: Names of the classes.
        classes_from: Where the names are from, in words.
        crop_mode: What of the resized image is shown, as timm's.
        topk: How many classes are told.
        notes: What is worth a line to the user.
    """

    run: Run
    source: str
    model: str
    weights_sha256: str
    classes: list[str]
    classes_from: str
    crop_mode: str
    topk: int = 5
    notes: tuple[str, ...] = ()
    task: str = 'classification'

    def __post_init__(self):
        self.transform = create_transform(**self.run.transform, use_prefetcher=True)
        known = _descriptions()
        self.titles = [known.get(name, name) for name in self.classes]

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
        model = {'source': self.source, 'name': self.model, 'weights_sha256': self.weights_sha256}
        model['classes_from'] = self.classes_from
        return {'model': model, 'preprocessing': preprocessing, 'settings': {'topk': self.topk}}


def load_classifier(source: str | os.PathLike | nn.Module, device: str, topk: int = 5, **given: Any) -> Classifier:
    """Load a classifier.

    Args:
        source: What `backbones.load` takes, or an ONNX file.
        device: Where the model runs.
        topk: How many classes are told; all, if there are fewer.
        **given: Arguments of `backbones.load`, which win over what the source says.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The model cannot be loaded, has no classes, or an argument does not fit it.
    """
    is_onnx = not isinstance(source, nn.Module) and os.fspath(source).endswith(ONNX)
    if is_onnx:
        run, model, sha256, crop_mode, notes = *_onnx_run(os.fspath(source), device, given), ()
    else:
        loaded = load(source, **given)
        record = loaded.record
        network = loaded.network.to(device).to(memory_format=torch.channels_last)
        entry: Any = {'model': record.model, 'weights_sha256': record.weights_sha256}
        mean, std = record.mean or (), record.std or ()
        run = Run(record.model, network, loaded.classes, mean, std, dict(loaded.transform), entry, device=device)
        model, sha256, crop_mode, notes = (
            record.model, record.weights_sha256 or '', record.crop_mode or 'center', loaded.notes
        )  # fmt: skip
    count = getattr(run.network, 'num_classes', None) or len(run.classes or ())
    if not count:
        raise ValueError(f"model '{source}' has no classes to predict; give one with a classifier")
    if run.classes and len(run.classes) != count:
        raise ValueError(f"model '{source}' has {count} classes, and {len(run.classes)} names are given; name each one")
    names, origin = _names(run, count, 'given' if given.get('classes') else 'the model')
    name = str(source) if not isinstance(source, nn.Module) else type(source).__name__
    return Classifier(run, name, model, sha256, names, origin, crop_mode, min(topk, count), tuple(notes))


def _onnx_run(path: str, device: str, given: dict) -> tuple[Run, str, str, str]:
    """A run of an ONNX file, the name of its model, its hash and its crop mode."""
    known = ('classes', 'input_size', 'mean', 'std', 'crop_pct', 'interpolation')
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ValueError(f"an ONNX file takes no '{unknown[0]}'; choose from {', '.join(known)}")
    size = given.get('input_size')
    if size is not None and not isinstance(size, int):
        sides = set(tuple(size)[-2:])
        if len(sides) > 1:
            raise ValueError(f'input_size {tuple(size)} of an ONNX file is not square; give one side')
        size = sides.pop()
    run = load_run(path, device, size)
    transform = {**run.transform, **{key: given[key] for key in ('crop_pct', 'interpolation') if given.get(key)}}
    record, beside = run.record, ModelRecord.read(path)
    run = replace(
        run,
        # The judge assumes ImageNet's classes for a file that tells none; here that is said.
        classes=list(given.get('classes') or (beside and beside.classes) or ()) or None,
        mean=list(given.get('mean') or run.mean),
        std=list(given.get('std') or run.std),
        transform=transform,
    )
    return run, record['model'], record['weights_sha256'], transform.get('crop_mode') or 'center'


def _names(run: Run, count: int, told_by: str) -> tuple[list[str], str]:
    """The names of the classes, and where they are from."""
    synsets = imagenet.synsets()
    if run.classes is not None:
        return list(run.classes), told_by
    if count == len(synsets):
        return list(synsets), ASSUMED
    return [f'class {index}' for index in range(count)], 'numbers: the model does not tell its classes'


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
