"""Images/s of the training loader, by the number of its processes: decode, augment, collate."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from mmengine.runner import Runner

import distill.training.distiller  # noqa: F401  registers data sets and samplers
from distill.benchmarks.distillation import Settings
from distill.synthetic.imagenet_like import write_imagenet_like

SIDE_PX = 400
"""Side of the JPEG files: about as many pixels as an image of ImageNet has in the mean."""


def benchmark_loading(
    folder: Path,
    workers: Sequence[int] = (1, 2, 4, 8, 12, 16),
    seconds: float = 4.0,
    images: int = 256,
    batch_size: int = 32,
    side_px: int = SIDE_PX,
    names: int = 8,
    track: Callable[[Iterable], Iterable] = iter,
) -> dict:
    """Measure the loader of the ImageNet recipes: JPEG, random crop of 224, flip, RandAugment.

    Args:
        folder: Where images are written.
        workers: Numbers of loader processes.
        seconds: How long each number is measured, after its first batches.
        images: Files, which are read again and again.
        batch_size: Images that a process collates at a time.
        side_px: Side of the files.
        names: Names that each file has: an epoch must be long enough to give all processes work.
        track: Called with an iterable, which it passes on with a progress bar.

    Returns:
        ``images_per_s`` by the number of processes, as text, and ``settings``.
    """
    cpus = len(os.sched_getaffinity(0))
    write_imagenet_like(folder / 'images', size=side_px, train=images, val=0, shifted=0, workers=cpus)
    for path in [*(folder / 'images' / 'train').rglob('*.jp*g')] if names > 1 else ():
        for copy in range(1, names):
            os.link(path, path.with_stem(f'{path.stem}_{copy}'))
    settings = Settings(folder, batch_size=batch_size)
    speeds = {str(count): _speed(settings, count, seconds) for count in track(workers)}
    return {'images_per_s': speeds, 'settings': dict(side_px=side_px, size_px=settings.size_px, cpus=cpus)}


def _speed(settings: Settings, workers: int, seconds: float) -> float:
    config = settings.config({}).train_dataloader
    config |= dict(num_workers=workers, persistent_workers=True, prefetch_factor=4)
    loader = Runner.build_dataloader(config, seed=0)
    count, start, epoch = 0, None, 0
    while True:
        if hasattr(loader.sampler, 'set_epoch'):
            loader.sampler.set_epoch(epoch)
        epoch += 1
        for batch in loader:
            now = time.perf_counter()
            if start is None and (epoch > 1 or count >= 2 * workers * settings.batch_size):
                count, start = 0, now
            elif start is not None and now - start > seconds:
                return count / (now - start)
            count += len(batch[0])


def loading_table(result: dict) -> str:
    """The result of `benchmark_loading` as a table for people."""
    lines = [f'{"processes":>9}{"images/s":>10}']
    return '\n'.join(lines + [f'{count:>9}{speed:>10.0f}' for count, speed in result['images_per_s'].items()])
