"""Data sets on disk: drawn by several processes, written as a whole, and described by ``data.json``.

Everything random in an image is drawn from `image_rng` of seed, split and index, so that an image depends neither on
the number of images nor on the process that draws it.
"""

import json
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from distill.base.files import read_json, remove_leftovers, temporary_path
from distill.synthetic.shapes import CLASSES
from distill.synthetic.textures import TEXTURES

VERSION = 1
"""Version of the generator: raise it whenever the same arguments give other pictures."""
MIN_SIZE_PX = 32


def image_rng(seed: int, split: str, index: int) -> np.random.Generator:
    """The random generator of one image."""
    return np.random.default_rng([seed, zlib.crc32(split.encode()), index])


def save_jpeg(image: Image.Image, path: str | Path) -> None:
    """Save with quality 95 and without chroma subsampling, which would smear the colours of a 32-pixel image."""
    image.save(path, 'JPEG', quality=95, subsampling=0)


def check_arguments(size: int, counts: dict[str, int], texture_agreement: float, seed: int, workers: int) -> None:
    """Refuse arguments that no set can be made of.

    Raises:
        ValueError: An argument is out of range.
    """
    if size < MIN_SIZE_PX:
        raise ValueError(f'size {size} is too small; choose {MIN_SIZE_PX} pixels or more')
    for name, count in counts.items():
        if count < 0:
            raise ValueError(f'{name} {count} is negative; give a number of images, 0 for none')
    if not 0 <= texture_agreement <= 1:
        raise ValueError(f'texture agreement {texture_agreement} is no probability; choose 0 to 1, 0.1 = independent')
    if seed < 0:
        raise ValueError(f'seed {seed} is negative; choose 0 or more')
    if workers < 1:
        raise ValueError(f'workers {workers} is too few; choose 1 or more')


def run_jobs(function: Callable, jobs: Iterable[tuple], workers: int, progress: Callable | None) -> Iterator:
    """Call ``function(job)`` for each job, in this process or in several.

    Args:
        function: A module-level function of one picklable job.
        jobs: The jobs.
        workers: Number of processes; 1 stays in this one.
        progress: Called with no arguments after each job.

    Yields:
        What the function returned, in the order of the jobs.
    """
    if workers == 1:
        results = map(function, jobs)
        pool = None
    else:
        pool = ProcessPoolExecutor(workers, mp_context=get_context('spawn'))
        results = pool.map(function, jobs, chunksize=32)
    try:
        for result in results:
            if progress:
                progress()
            yield result
    finally:
        if pool:
            pool.shutdown(cancel_futures=True)


def write_set(root: str | Path, kind: str, arguments: dict, fill: Callable[[Path], dict], overwrite: bool) -> dict:
    """Write a data set as a whole or not at all.

    The set grows in a folder beside its target and is renamed at the end, so that a set that is there is complete, and
    an older one stays as it is when something fails. ``data.json`` at the root records how the set was made.

    Args:
        root: Where the set goes.
        kind: Name of the set, such as ``coco``.
        arguments: Arguments on which the pictures depend.
        fill: Writes the set into an empty folder; returns the number of images of each split.
        overwrite: Replace a set made with other arguments.

    Returns:
        The contents of ``data.json``, and ``written``: False if the same set was there already.

    Raises:
        ValueError: The folder holds something else, or the set is there with other arguments or incomplete.
    """
    root = Path(root).resolve()
    manifest = {'generator': 'distill.synthetic', 'version': VERSION, 'set': kind, 'arguments': arguments}
    exists = root.exists() and not (root.is_dir() and not any(root.iterdir()))
    if exists and _is_same(root, manifest, overwrite):
        return read_json(root / 'data.json') | {'written': False}
    remove_leftovers(root.parent)
    partial, replaced = (temporary_path(root, ending) for ending in ('partial', 'replaced'))
    partial.mkdir(parents=True)
    try:
        manifest |= {'classes': list(CLASSES), 'textures': list(TEXTURES), 'images': fill(partial)}
        (partial / 'data.json').write_text(json.dumps(manifest, indent=2) + '\n')
        if exists:
            root.rename(replaced)
        partial.rename(root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if replaced.exists() and not root.exists():
            replaced.rename(root)
        shutil.rmtree(replaced, ignore_errors=True)
    return manifest | {'written': True}


def _is_same(root: Path, manifest: dict, overwrite: bool) -> bool:
    """Whether the set at ``root`` is the wanted one; another set that may not be replaced is an error."""
    path = root / 'data.json'
    found = read_json(path) if path.is_file() else {}
    if found.get('generator') != manifest['generator']:
        raise ValueError(f'{root} exists and was not made by this generator; choose another folder')
    if overwrite:
        return False
    differences = [
        f'{name} {found["arguments"].get(name)} there, {value} asked'
        for name, value in manifest['arguments'].items()
        if found['arguments'].get(name) != value
    ]
    differences += [f'{n} {found[n]} there, {manifest[n]} asked' for n in ('set', 'version') if found[n] != manifest[n]]
    expected, images = sum(found['images'].values()), sum(1 for _ in root.rglob('*.jpg'))
    if images != expected:
        differences.append(f'{images} of {expected} images there')
    if differences:
        raise ValueError(f'{root} holds another set ({"; ".join(differences)}); choose another folder or --overwrite')
    return True
