"""Students, and a tree of ImageNet's suites, that several test files share."""

from pathlib import Path

import numpy as np
import pytest
from imagenet_tree import small_categories, small_synsets, write_tree
from photos import photo
from students import save_student

from distill.robustness import imagenet


@pytest.fixture(scope='session')
def checkpoints(shapes, tmp_path_factory) -> list[Path]:
    """Two untrained students of the embedded classes."""
    classes = sorted(path.name for path in (shapes / 'val').iterdir())
    folder = tmp_path_factory.mktemp('runs')
    return [save_student(folder / f'run{seed}' / 'student_best.pth', classes, seed) for seed in range(2)]


@pytest.fixture(scope='session')
def _small_tree(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('small_imagenet')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(imagenet, 'synsets', small_synsets)
        patch.setattr(imagenet, 'categories', small_categories)
        write_tree(root)
    return root


@pytest.fixture
def tree(_small_tree, monkeypatch) -> Path:
    """All suites of an ImageNet of some 60 classes, which `imagenet` takes for the whole: its 1,000 take their time."""
    monkeypatch.setattr(imagenet, 'synsets', small_synsets)
    monkeypatch.setattr(imagenet, 'categories', small_categories)
    return _small_tree


@pytest.fixture(scope='session')
def images() -> np.ndarray:
    """Four photographs, uint8 [4, 48, 64, 3]."""
    return np.stack([photo(48, 64, seed) for seed in range(4)])
