"""Exports a whole detector or segmenter: deployed, written by each engine, verified on real images, and described."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from mmengine.config import Config

from distill.base import folders
from distill.base.packaged import find
from distill.downstream.graphs.deployed import resize_of, scene_graph, takes_any_size
from distill.downstream.inference import SceneModel, first_dataset, load_scene_model
from distill.engines import Engine
from distill.export.dense_job import Job, ShownImage, Truth, largest_of
from distill.export.files import Exported, Wish, installed_engines, write_files
from distill.export.scene_metrics import SceneMetrics, read_test

ENGINES = ('onnx', 'openvino', 'mnn', 'torch')
"""Engines that run what a detector or segmenter needs: suppression, RoIAlign, sizes that depend on the image."""
REFUSED = {'executorch': 'it plans the memory of a run when it writes a file, and here sizes depend on the image'}
"""The others, and why not."""


def export_dense(
    config: str | os.PathLike,
    checkpoint: str | os.PathLike,
    out: str | os.PathLike,
    name: str,
    wish: Wish,
    tell: Callable[[str], None] = lambda line: None,
    largest: tuple[int, int] | None = None,
    data_root: str | os.PathLike | None = None,
) -> list[Exported]:
    """Export a detector or segmenter, and verify each file in its own engine.

    Args:
        config: Its config, as a path or a name.
        checkpoint: Its weights.
        out: Folder of the files.
        name: Their name, without the ending of each engine.
        wish: What is exported. Images to verify with are those of the test set, unless it names others.
        tell: Takes a line of progress.
        largest: Height and width of the largest image that the artefact is to take, after resizing: the network then
            sees images that are filled up to this size. None takes it from the images to verify with, if the backbone
            looks at all of an image, or at windows, or if one size is wished; others take any size.
        data_root: Folder of the test set in place of the config's.

    Returns:
        What was written, in the order of the engines.

    Raises:
        ExportError: An engine cannot write the model, or what it finds is not what the model finds; its file is not
            left behind.
        FileNotFoundError: The config, the checkpoint or the images do not exist.
        ValueError: The checkpoint does not fit the config, or the model cannot be exported.
    """
    engines = check_dense(checkpoint, wish)
    scene = load_scene_model(checkpoint, find(os.fspath(config)), 'cpu')
    resize = resize_of(scene.config, scene.steps)
    settings = scene.config if data_root is None else read_test(config, data_root)
    files = choose_files(settings, wish.images, wish.count)
    shown = [ShownImage.of(scene, path) for path in files]
    tell('deploying')
    if largest is None and (wish.fixed_size or not takes_any_size(scene.network)):
        largest = largest_of(shown)
    graph = scene_graph(scene, wish.uint8, largest)
    if graph.largest is not None:
        _check_sizes(shown, graph.largest)
        tell(f'the network sees one size: images of up to {graph.largest[0]}x{graph.largest[1]} (height x width)')
    about = {'checkpoint': os.fspath(checkpoint), 'resize': resize, 'images': os.fspath(files[0].parent)}
    job = Job(scene, graph, shown, wish, about, truth_of(scene, config, data_root, files))
    return write_files(os.fspath(checkpoint), engines, out, name, job.make, tell)


def check_dense(checkpoint: str | os.PathLike, wish: Wish) -> list[Engine]:
    """Check what needs no heavy import; returns the engines.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        ValueError: An engine is missing, or is one that runs no detectors and segmenters.
    """
    if wish.batch is not None:
        raise ValueError('a detector or segmenter is exported without a fixed batch; leave it out')
    for one in wish.engines:
        if one not in ENGINES:
            raise ValueError(
                f"engine '{one}' runs no detectors and segmenters ({REFUSED[one]}); choose from {', '.join(ENGINES)}"
            )
    engines = installed_engines(wish.engines)
    if not Path(checkpoint).is_file():
        raise FileNotFoundError(f"checkpoint '{checkpoint}' does not exist; train the config first, or name another")
    return engines


def truth_of(
    scene: SceneModel, config: str | os.PathLike, data_root: str | os.PathLike | None, files: Sequence[Path]
) -> Truth | str:
    """What the config's test set has annotated in images; or in words why that is not known.

    Args:
        scene: The model.
        config: Its config.
        data_root: Folder of the test set in place of the config's.
        files: The images.
    """
    try:
        metrics = SceneMetrics(read_test(config, data_root), scene.classes, 'the checkpoint')
        found = Truth(metrics, metrics.places_of(files))
    except (ValueError, OSError) as error:
        return str(error)
    return found if found.known else f"no image of '{files[0].parent}' is in the config's test set"


def choose_files(config: Config, folder: Path | None, count: int) -> list[Path]:
    """Images to verify with, evenly chosen from a folder, or else from the test set of the model's config.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It holds no images.
    """
    if folder is None:
        dataset = first_dataset(config)
        prefix = dataset.get('data_prefix') or {}
        folder = Path(dataset.get('data_root') or '', prefix.get('img') or prefix.get('img_path') or '')
    if not folder.is_dir():
        raise FileNotFoundError(
            f"image folder '{folder}' does not exist; name one with images to verify with (--images)"
        )
    found = sorted(folders.find_images(folder, folders.LeftOut()))
    if not found:
        raise ValueError(f"'{folder}' holds no images; name a folder with images to verify with (--images)")
    count = min(count, len(found))
    return [folder / found[index * len(found) // count] for index in range(count)]


def _check_sizes(shown: list[ShownImage], largest: tuple[int, int]) -> None:
    for one in shown:
        height, width = one.resized.shape[:2]
        if height > largest[0] or width > largest[1]:
            raise ValueError(
                f'an image to verify with has {height}x{width} pixels after resizing (height x width), and the '
                f'artefact is to take up to {largest[0]}x{largest[1]}; give a larger size'
            )
