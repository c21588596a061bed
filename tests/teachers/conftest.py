"""A small teacher and caches of its predictions, which the tests of this folder share."""

from pathlib import Path

import pytest
from processes import leave_configs_unformatted
from small_teacher import CONFIG, MIXUP, TRANSFORM, options, save_teacher

from distill.cli.cache import main as cache_teacher
from distill.data.preprocessor import ViewPreprocessor
from distill.data.sampler import ViewSampler
from distill.data.views import Views


@pytest.fixture(scope='session', autouse=True)
def unformatted_configs():
    """Have runs start sooner."""
    leave_configs_unformatted()


@pytest.fixture(scope='session')
def checkpoint(tmp_path_factory) -> Path:
    """The small teacher."""
    return save_teacher(tmp_path_factory.mktemp('teacher') / 'student_best.pth')


@pytest.fixture(scope='session')
def write(shapes, checkpoint):
    """Run the command that writes a cache."""

    def run(out: Path, *arguments: str, **overrides) -> int:
        command = [str(CONFIG), '--data-root', str(shapes), '--out', str(out), *arguments]
        return cache_teacher([*command, '--cfg-options', *options(checkpoint, **overrides)])

    return run


@pytest.fixture(scope='session')
def caches(write, tmp_path_factory) -> dict[str, Path]:
    """Caches of all classes in both precisions, and of three classes; two views of 80 images."""
    folder = tmp_path_factory.mktemp('caches')
    arguments = {'fp32': ['--dtype', 'float32'], 'fp16': [], 'top3': ['--topk', '3']}
    for name, chosen in arguments.items():
        assert write(folder / name, '--verify', '8', *chosen) == 0
    return {name: folder / name for name in arguments}


@pytest.fixture
def run_parts(shapes) -> tuple[Views, ViewSampler, ViewPreprocessor]:
    """Data set, sampler and preprocessor of the runs that the caches are written for."""
    dataset = Views(str(shapes), 'train', transform=TRANSFORM, seed=11)
    return dataset, ViewSampler(dataset, seed=0), ViewPreprocessor(random_erasing=0.5, mixup=MIXUP)
