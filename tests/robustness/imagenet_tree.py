"""A tree of ImageNet's suites whose images tell their class by colour, and a network that reads it off."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import nn

from distill.base.records import EXTRA_KINDS, KINDS, SEVERITIES
from distill.results.schema import validate
from distill.robustness import imagenet
from distill.robustness.evaluate import Settings, evaluate
from distill.robustness.runs import Run
from distill.robustness.suites import choose_suites

REAL_SYNSETS, REAL_CATEGORIES = imagenet.synsets, imagenet.categories


def _kept() -> list[int]:
    """ImageNet's classes that a small ImageNet has: of each list and each category some, and some of none."""
    wnids = REAL_SYNSETS()
    listed = {letter: [wnids.index(name) for name in REAL_SYNSETS(letter)] for letter in 'ar'}
    others = [index for index in range(1000) if index not in {*listed['a'], *listed['r']}]
    category_ends = [index for columns in REAL_CATEGORIES().values() for index in (columns[0], columns[-1])]
    return sorted({*listed['a'][:12], *listed['r'][-12:], *others[:16], *category_ends})


KEPT = _kept()


def small_synsets(subset: str = '') -> tuple[str, ...]:
    """In place of `imagenet.synsets`."""
    wnids = REAL_SYNSETS()
    kept = tuple(wnids[index] for index in KEPT)
    return tuple(name for name in kept if name in REAL_SYNSETS(subset)) if subset else kept


def small_categories() -> dict[str, list[int]]:
    """In place of `imagenet.categories`."""
    real = REAL_CATEGORIES().items()
    return {name: [KEPT.index(index) for index in columns if index in KEPT] for name, columns in real}


class Reader(nn.Module):
    """Logits from a plain image, whose red tells the class's tens of 32, and green its rest.

    Args:
        shadow: A class that gets the largest logit of all on every image.
        nan_at: A class on whose images all logits are NaN.
    """

    def __init__(self, shadow: int | None = None, nan_at: int | None = None):
        super().__init__()
        self.num_classes = len(imagenet.synsets())
        self.shadow, self.nan_at = shadow, nan_at
        self.sizes = set()

    def forward(self, x):
        self.sizes.add(tuple(x.shape[2:]))
        red, green = (x[:, channel].mean(dim=(1, 2)).mul(255 / 8).round() for channel in (0, 1))
        index = (32 * red + green).long().clamp(0, self.num_classes - 1)
        logits = nn.functional.one_hot(index, self.num_classes).float() * 10
        if self.shadow is not None:
            logits[:, self.shadow] = 20
        if self.nan_at is not None:
            logits[index == self.nan_at] = torch.nan
        return logits


def reader_run(name: str = 'reader', size: int = 32, **kwargs) -> Run:
    """A `Reader` of ImageNet's classes as a run that is shown images of a size."""
    transform = dict(input_size=(size, size), interpolation='bicubic', crop_pct=1.0)
    record = {
        'model': 'reader',
        'model_kwargs': {},
        'teacher': None,
        'params': 1,
        'checkpoint': None,
        'weights_sha256': f'{json.dumps(kwargs).encode().hex():0<64}'[:64],
        'input_size': [3, size, size],
        'mean': [0.0] * 3,
        'std': [1.0] * 3,
    }
    return Run(name, Reader(**kwargs), list(imagenet.synsets()), [0.0] * 3, [1.0] * 3, transform, record)


def plain(index: int, size: int = 40) -> Image.Image:
    """The image of a class."""
    return Image.new('RGB', (size, size), (index // 32 * 8, index % 32 * 8, 128))


def save_plain(index: int, size: int, path: Path) -> None:
    """Write the image of a class."""
    plain(index, size).save(path)


def link(source: Path, folder: Path, names: dict[str, str]) -> None:
    """Make class folders that are links to some of another set's."""
    folder.mkdir()
    for name, target in names.items():
        (folder / name).symlink_to(source / target)


def write_tree(root: Path, save: Callable[[int, int, Path], None] = save_plain) -> None:
    """Write all suites of ImageNet, one image a class; the cells of -C are links to one folder.

    Args:
        root: The data root.
        save: Writes an image, of which class, size and path are given.
    """
    wnids = imagenet.synsets()
    for suite, size in (('val', 40), ('stylized', 224)):
        for index, name in enumerate(wnids):
            (root / suite / name).mkdir(parents=True)
            save(index, size, root / suite / name / f'{name}_1.png')
    link(root / 'val', root / 'imagenet-sketch', {name: name for name in wnids})
    numbers = {str(index): name for index, name in enumerate(wnids)}
    link(root / 'val', root / 'imagenetv2-matched-frequency-format-val', numbers)
    for letter in 'ar':
        link(root / 'val', root / f'imagenet-{letter}', {name: name for name in imagenet.synsets(letter)})
    for kind in KINDS + EXTRA_KINDS:
        group = 'extra' if kind in EXTRA_KINDS else 'all'
        (root / 'imagenet-c' / group / kind).mkdir(parents=True)
        for severity in SEVERITIES:
            (root / 'imagenet-c' / group / kind / str(severity)).symlink_to(root / 'stylized')
    categories = imagenet.categories()
    names = list(categories)
    for k, (name, columns) in enumerate(categories.items()):
        folder = root / 'cue-conflict' / name
        folder.mkdir(parents=True)
        save(columns[-1], 224, folder / f'{name}1-{names[(k + 1) % 16]}2.png')
        save(categories[names[(k + 2) % 16]][0], 224, folder / f'{name}2-{names[(k + 2) % 16]}1.png')


def evaluate_on(root: Path, out: Path, runs: list[Run], names: list[str] | None, **settings) -> dict:
    """Evaluate runs on suites by name, in this process, and check the results."""
    suites, _ = choose_suites(names, str(root), runs[0].classes)
    results = evaluate(runs, suites, Settings(str(root), out, **{'workers': 0, 'samples': 2, **settings}))
    validate(results)
    return results
