"""The scenes of the COCO-like set with label maps, in the layout of ADE20K (SceneParse150).

Label maps hold 0 = other and 1 to 10 = the classes: mmseg's ``reduce_zero_label=True`` turns the classes into
0 to 9 and the rest into 255 (ignored), as it does with ADE20K.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from PIL import Image

from distill.synthetic.coco import render_scene
from distill.synthetic.sets import check_arguments, run_jobs, save_jpeg, write_set

FOLDERS = {'train': 'training', 'val': 'validation'}


def _write_scene(job: tuple[Path, int, str, int], size: int, texture_agreement: float) -> None:
    folder, seed, split, index = job
    scene = render_scene(seed, split, index, size, texture_agreement)
    name = f'ADE_{split}_{index + 1:08d}'
    save_jpeg(scene.image, folder / 'images' / FOLDERS[split] / f'{name}.jpg')
    Image.fromarray(scene.label_map()).save(folder / 'annotations' / FOLDERS[split] / f'{name}.png')


def write_ade20k(
    root: str | Path,
    size: int = 128,
    train: int = 200,
    val: int = 50,
    seed: int = 0,
    texture_agreement: float = 0.9,
    workers: int = 1,
    overwrite: bool = False,
    progress: Callable[[], None] | None = None,
) -> dict:
    """Write ``root/{images,annotations}/{training,validation}``: JPEG scenes and PNG label maps.

    With the arguments of ``write_coco`` the images are the same, byte for byte.

    Args:
        root: Where the set goes.
        size: Side of a scene in pixels, 32 or more.
        train: Scenes for training.
        val: Scenes for validation.
        seed: Seed of the set.
        texture_agreement: Probability that the texture of a shape agrees with its class.
        workers: Processes that draw; the files do not depend on it.
        overwrite: Replace a set made with other arguments.
        progress: Called after each scene.

    Returns:
        The contents of ``data.json`` and ``written`` (see `sets.write_set`).

    Raises:
        ValueError: An argument out of range, or another set is there.
    """
    counts = {'train': train, 'val': val}
    check_arguments(size, counts, texture_agreement, seed, workers)
    arguments = {'size': size, **counts, 'seed': seed, 'texture_agreement': texture_agreement}

    def fill(folder: Path) -> dict:
        for kind in ('images', 'annotations'):
            for name in FOLDERS.values():
                (folder / kind / name).mkdir(parents=True)
        jobs = [(folder, seed, split, index) for split, count in counts.items() for index in range(count)]
        for _ in run_jobs(
            partial(_write_scene, size=size, texture_agreement=texture_agreement), jobs, workers, progress
        ):
            pass
        return {FOLDERS[split]: count for split, count in counts.items()}

    return write_set(root, 'ade20k', arguments, fill, overwrite)
