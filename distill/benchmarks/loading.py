"""Images/s of the training loader, by the number of its processes: decode, augment, collate; and of decoders alone."""

import io
import os
import tarfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

import distill.training.distiller  # noqa: F401  registers data sets and samplers
from distill.base.images import read_image
from distill.benchmarks.distillation import Settings
from distill.synthetic.imagenet_like import write_imagenet_like

SIDE_PX = 400
"""Side of the JPEG files: about as many pixels as an image of ImageNet has in the mean."""
FORMS = ('folder', 'tar', 'wds')
"""How the images lie: as files in class folders, in one tar file of such folders, or in WebDataset shards."""
SHARDS = 4


def benchmark_loading(
    folder: Path,
    workers: Sequence[int] = (1, 2, 4, 8, 12, 16),
    seconds: float = 4.0,
    images: int = 256,
    batch_size: int = 32,
    side_px: int = SIDE_PX,
    names: int = 8,
    form: str = 'folder',
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
        form: One of `FORMS`.
        track: Called with an iterable, which it passes on with a progress bar.

    Returns:
        ``images_per_s`` by the number of processes, as text, and ``settings``.
    """
    cpus = len(os.sched_getaffinity(0))
    train = folder / 'images' / 'train'
    if not train.is_dir():
        write_imagenet_like(folder / 'images', size=side_px, train=images, val=0, shifted=0, workers=cpus)
        for path in [*train.rglob('*.jp*g')] if names > 1 else ():
            for copy in range(1, names):
                os.link(path, path.with_stem(f'{path.stem}_{copy}'))
    config = Settings(folder, batch_size=batch_size).config({}).train_dataloader
    config.dataset.update(_pack(train, folder / form, form))
    speeds = {str(count): _speed(config, count, seconds) for count in track(workers)}
    about = dict(side_px=side_px, size_px=config.dataset.transform.input_size, cpus=cpus, form=form)
    return {'images_per_s': speeds, 'settings': about}


def _pack(train: Path, folder: Path, form: str) -> dict[str, str]:
    """Put the files of class folders into a form of `FORMS`; returns what the data set's config says of it."""
    if form == 'folder':
        return {}
    folder.mkdir(exist_ok=True)
    files = sorted(train.rglob('*.jp*g'))
    if form == 'tar':
        # The names of a file are links to it, which a tar file would hold as such.
        with tarfile.open(folder / 'train.tar', 'w', dereference=True) as tar:
            for path in files:
                tar.add(path, path.relative_to(train))
        return dict(root=str(folder), split='train')
    classes = sorted({path.parent.name for path in files})
    for shard in range(SHARDS):
        with tarfile.open(folder / f'train-{shard:04}.tar', 'w') as tar:
            for path in files[shard::SHARDS]:
                label = classes.index(path.parent.name)
                for suffix, content in (('jpg', path.read_bytes()), ('cls', str(label).encode())):
                    member = tarfile.TarInfo(f'{label}_{path.stem}.{suffix}')
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return dict(root=str(folder), split='train', name='wds/')


def _speed(config: Config, workers: int, seconds: float) -> float:
    config.update(num_workers=workers, persistent_workers=True, prefetch_factor=4)
    loader = Runner.build_dataloader(config, seed=0)
    count, start, epoch = 0, None, 0
    while True:
        if hasattr(loader.sampler, 'set_epoch'):
            loader.sampler.set_epoch(epoch)
        epoch += 1
        for batch in loader:
            now = time.perf_counter()
            if start is None and (epoch > 1 or count >= 2 * workers * config.batch_size):
                count, start = 0, now
            elif start is not None and now - start > seconds:
                return count / (now - start)
            count += len(batch[0])


def enough_processes(speeds: Mapping[str, float], needed: float) -> float | None:
    """The number of loader processes that a device takes all images of, between the measured numbers.

    Args:
        speeds: Images/s by the number of processes, as `benchmark_loading` gives them.
        needed: Images/s of the device.

    Returns:
        The number on the straight line between the two measurements around it; None if the most give too few.
    """
    before, slower = 0.0, 0.0
    for count, speed in sorted((int(count), speed) for count, speed in speeds.items()):
        if speed >= needed:
            return before + (count - before) * (needed - slower) / (speed - slower)
        before, slower = count, speed
    return None


def decoding_speeds(paths: Sequence[Path], device: str) -> dict[str, float]:
    """Images/s of decoders alone, each in one thread, and of the card in batches.

    Args:
        paths: JPEG files.
        device: ``cuda`` or ``cpu``.

    Returns:
        ``pillow``, which the loader uses, ``opencv``, ``torchvision`` on the processor and, with one, on the ``card``.
    """
    import cv2
    import numpy as np
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg, read_file

    data = [read_file(str(path)) for path in paths]
    decoders: dict[str, Callable] = {
        'pillow': lambda: [read_image(path) for path in paths],
        'opencv': lambda: [cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR_RGB) for path in paths],
        'torchvision': lambda: [decode_jpeg(read_file(str(path)), ImageReadMode.RGB) for path in paths],
    }
    if device == 'cuda':
        decoders['card'] = lambda: (decode_jpeg(data, device='cuda'), torch.cuda.synchronize())
    speeds = {}
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    for name, decode in decoders.items():
        decode()
        start = time.perf_counter()
        decode()
        speeds[name] = len(paths) / (time.perf_counter() - start)
    cv2.setNumThreads(threads)
    return speeds


def loading_table(result: dict) -> str:
    """The result of `benchmark_loading` as a table for people."""
    lines = [f'{"processes":>9}{"images/s":>10}']
    lines += [f'{count:>9}{speed:>10.0f}' for count, speed in result['images_per_s'].items()]
    for needed, count in result.get('enough_processes', {}).items():
        told = f'{count:.1f} processes' if count is not None else 'more processes than were measured'
        lines.append(f'{float(needed):.0f} images/s: {told}')
    return '\n'.join(lines)
