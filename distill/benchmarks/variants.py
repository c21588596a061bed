"""What answers in the process of a variant of `benchmark inference`: an artefact, a network in eager, a matrix product.

A question is a pair of a number of images and a number of runs; the answer is the time of each run in s. This module is
light; each builder imports what its variant needs.
"""

import contextlib
import importlib.util
import io
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

Answer = Callable[[tuple[int, int]], list[float]]
SIDE = 1024
"""Of the matrices of the product: large enough for the processor's limit, and as wide as a network's last stage."""


@dataclass(frozen=True)
class Variant:
    """A network and how it runs.

    Attributes:
        model: Name in the table.
        engine: Of `distill.engines`, or 'eager' or 'original'.
        precision: Of the artefact.
        threads: Threads that it may use.
        size: Height and width of the images in pixels.
        name: For eager and original, the name of the entrypoint.
        kwargs: Its arguments.
        path: The artefact, or the original's source.
    """

    model: str
    engine: str
    precision: str
    threads: int
    size: tuple[int, int]
    name: str = ''
    kwargs: Mapping = field(default_factory=dict)
    path: Path | None = None


def artefact(variant: Variant) -> Answer:
    """An artefact in its engine."""
    from distill.engines import by_suffix
    from distill.engines.portions import run_images

    assert variant.path is not None
    session = by_suffix(variant.path).open(variant.path, variant.threads)
    return _timed(variant, lambda images: run_images(session, images))


def eager(variant: Variant) -> Answer:
    """A model of timm as timm makes it."""
    import timm

    import backbones  # noqa: F401  registers models

    return _torch(variant, timm.create_model(variant.name, **variant.kwargs))


def original(variant: Variant) -> Answer:
    """A network of somebody's own source, whose constructor may print."""
    assert variant.path is not None
    with contextlib.redirect_stdout(io.StringIO()):
        network = getattr(load_source(variant.path), variant.name)(**variant.kwargs)
    return _torch(variant, network)


def matrix_product(variant: Variant) -> Answer:
    """An sgemm, ``SIDE`` in all three directions; the number of images is not used."""
    import torch

    torch.set_num_threads(variant.threads)
    a, b, out = (torch.rand(SIDE, SIDE) for _ in range(3))
    return _timed(variant, lambda images: torch.mm(a, b, out=out))


def load_source(path: Path) -> ModuleType:
    """Import a Python file, or a package given by its folder; the folder around it is searched for what it imports.

    Raises:
        ValueError: It is neither, or it cannot be imported.
    """
    file = path / '__init__.py' if path.is_dir() else path
    if not file.is_file() or file.suffix != '.py':
        raise ValueError(f"'{path}' is no Python file nor a package; give the file with the model's entrypoints")
    name = path.stem if path.is_dir() else f'original_{path.stem}'
    locations = [str(path)] if path.is_dir() else None
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=locations)
    assert spec is not None
    assert spec.loader is not None
    sys.path.insert(0, str(path.absolute().parent))
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"'{path}' cannot be imported ({type(error).__name__}: {error}); correct it") from error
    return module


def names_in(path: Path) -> Callable[[Any], list[str]]:
    """For a process of its own: the names of the functions of a source."""
    module = load_source(path)
    return lambda question: [name for name, value in vars(module).items() if callable(value)]


def _torch(variant: Variant, network: Any) -> Answer:
    """A network as it is, in fp32 and the layout that it was made in."""
    import torch

    torch.set_num_threads(variant.threads)
    network = network.eval()

    def run(images: np.ndarray) -> None:
        with torch.inference_mode():
            network(torch.from_numpy(images))

    return _timed(variant, run)


def _timed(variant: Variant, run: Callable[[np.ndarray], Any]) -> Answer:
    rng, made = np.random.default_rng(0), {}

    def answer(question: tuple[int, int]) -> list[float]:
        count, runs = question
        if count not in made:
            made[count] = rng.standard_normal((count, 3, *variant.size), dtype=np.float32)
        times = []
        for _ in range(runs):
            start = time.perf_counter()
            run(made[count])
            times.append(time.perf_counter() - start)
        return times

    return answer
