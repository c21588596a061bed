"""Exports a whole detector or segmenter: deployed, written by each engine, verified on real images, and described."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from distill.base import folders
from distill.base.packaged import find
from distill.downstream.graphs.deployed import SceneGraph, palette_of, resize_of, scene_graph, takes_any_size
from distill.downstream.inference import DETECTION, SceneModel, first_dataset, load_scene_model
from distill.engines import Converter, Engine, Names, by_name
from distill.engines.artefact import Manifest, Verification, artefact_files, artefact_sha256
from distill.engines.onnx_runtime import add_metadata
from distill.engines.scenes import IMAGES, SIZE, Objects, as_input, objects_of
from distill.export.compare_scenes import SceneComparison, compare_labels, compare_objects
from distill.export.export import Exported, ExportError, versions, workspace
from distill.export.images import COUNT
from distill.export.verify import TOLERANCE

ENGINES = ('onnx', 'openvino')
"""Engines that run what a detector or segmenter needs: suppression, RoIAlign, sizes that depend on the image."""
AGREEMENT = {'detection': 0.99, 'segmentation': 0.999}
"""The least share of objects or pixels that agree."""


@dataclass(frozen=True)
class DenseWish:
    """What is exported of a detector or segmenter, and how it is verified.

    Attributes:
        engines: Names of the engines.
        uint8: Whether the artefact normalises its images itself.
        largest: Height and width of the largest image that it is to take, for backbones that look at all of an image
            at once; None takes it from the images to verify with. Others take any size.
        images: Folder with images to verify with; None for the test set's.
        count: Number of these images.
        tolerance: The largest difference of a score, and of a box relative to the image's longer side.
        threads: Of the engines.
    """

    engines: tuple[str, ...] = ('onnx',)
    uint8: bool = False
    largest: tuple[int, int] | None = None
    images: Path | None = None
    count: int = COUNT
    tolerance: float = TOLERANCE
    threads: int | None = None


def export_dense(
    config: str | os.PathLike,
    checkpoint: str | os.PathLike,
    out: str | os.PathLike,
    name: str,
    wish: DenseWish,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Exported]:
    """Export a detector or segmenter, and verify each file in its own engine.

    Args:
        config: Its config, as a path or a name.
        checkpoint: Its weights.
        out: Folder of the files.
        name: Their name, without the ending of each engine.
        wish: What is exported.
        tell: Takes a line of progress.

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
    files = choose_files(scene, wish.images, wish.count)
    shown = [_Shown.of(scene, path) for path in files]
    tell('deploying')
    largest = None if takes_any_size(scene.network) else wish.largest or _largest(shown)
    graph = scene_graph(scene, wish.uint8, largest)
    if graph.largest is not None:
        tell(f'the backbone takes one size: images of up to {graph.largest[0]}x{graph.largest[1]} (height x width)')
    job = _Job(scene, graph, shown, wish, {'checkpoint': os.fspath(checkpoint), 'resize': resize, 'images': os.fspath(files[0].parent)})
    exported, failures = [], []
    with workspace(Path(out) / name) as folder:
        for engine in engines:
            tell(f'{engine.name}: writing and verifying')
            try:
                made = job.make(engine, folder / f'{name}{engine.suffix}', folder)
            except ValueError as error:
                failures.append(f'{engine.name}: {error}')
                continue
            for file in artefact_files(made.path):
                os.replace(file, Path(out) / file.name)
            final = Path(out) / made.path.name
            made.manifest.write(final)
            exported.append(replace(made, path=final))
    if failures:
        written = ', '.join(one.path.name for one in exported) or 'nothing'
        raise ExportError(f"'{checkpoint}' is not exported by {'; '.join(failures)} (written: {written})", exported)
    return exported


def check_dense(checkpoint: str | os.PathLike, wish: DenseWish) -> list[Engine]:
    """Check what needs no heavy import; returns the engines.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        ValueError: An engine is missing, or is one that runs no detectors and segmenters.
    """
    engines = [by_name(one) for one in wish.engines]
    for engine in engines:
        if engine.name not in ENGINES:
            raise ValueError(f"engine '{engine.name}' runs no detectors and segmenters; choose from {', '.join(ENGINES)}")
        if lacking := engine.missing():
            raise ValueError(f"engine '{engine.name}' needs {lacking}")
    if not Path(checkpoint).is_file():
        raise FileNotFoundError(f"checkpoint '{checkpoint}' does not exist; train the config first, or name another")
    return engines


def choose_files(scene: SceneModel, folder: Path | None, count: int) -> list[Path]:
    """Images to verify with, evenly chosen from a folder, or else from the test set of the model's config.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It holds no images.
    """
    if folder is None:
        dataset = first_dataset(scene.config)
        prefix = dataset.get('data_prefix') or {}
        folder = Path(dataset.get('data_root') or '', prefix.get('img') or prefix.get('img_path') or '')
    if not folder.is_dir():
        raise FileNotFoundError(f"image folder '{folder}' does not exist; name one with images to verify with (--images)")
    found = sorted(folders.find_images(folder, folders.LeftOut()))
    if not found:
        raise ValueError(f"'{folder}' holds no images; name a folder with images to verify with (--images)")
    count = min(count, len(found))
    return [folder / found[index * len(found) // count] for index in range(count)]


@dataclass(frozen=True)
class _Shown:
    """An image to verify with: what the test pipeline makes of it, R, G, B, uint8 [h, w, 3], and its own size."""

    sample: dict
    resized: np.ndarray
    size: tuple[int, int]

    @classmethod
    def of(cls, scene: SceneModel, path: Path) -> '_Shown':
        with Image.open(path) as opened:
            image = np.asarray(opened.convert('RGB'))
        sample = scene.sample(image)
        return cls(sample, sample['inputs'].numpy()[::-1].transpose(1, 2, 0), (image.shape[0], image.shape[1]))


def _largest(shown: Sequence[_Shown]) -> tuple[int, int]:
    return max(one.resized.shape[0] for one in shown), max(one.resized.shape[1] for one in shown)


class _Job:
    """One model on its way into several engines.

    Args:
        scene: The model.
        graph: Its form for export.
        shown: Images to verify with.
        wish: What is exported.
        about: What the manifest tells of its origin.
    """

    def __init__(self, scene: SceneModel, graph: SceneGraph, shown: Sequence[_Shown], wish: DenseWish, about: dict):
        self.scene, self.graph, self.shown, self.wish, self.about = scene, graph, shown, wish, about
        self.names = Names((IMAGES, SIZE), graph.outputs)
        self.detects = scene.task == DETECTION
        axes = {2: 'height', 3: 'width'}
        self.dynamic = {IMAGES: axes if self.detects else {0: 'batch', **axes}, SIZE: {}}
        self.threshold = float(scene.network.test_cfg.rcnn.get('mask_thr_binary', 0.5)) if self.detects else 0.5
        self.inputs = [self._inputs(one) for one in shown]
        self.expected = [self._eager(one, inputs) for one, inputs in zip(shown, self.inputs, strict=True)]
        self.onnx: Path | None = None

    def make(self, engine: Engine, path: Path, folder: Path) -> Exported:
        """Write, verify and describe the file of one engine."""
        if engine.name == 'onnx':
            shutil.copy(self._onnx(folder), path)
        elif isinstance(engine, Converter):
            engine.convert(self._onnx(folder), path, self.dynamic)
        else:
            engine.write(self.graph.network, self._example(), path, self.names, self.dynamic)
        comparison = self._verify(engine, path)
        manifest = self._manifest(engine, comparison)
        if engine.name == 'onnx':
            add_metadata(path, _metadata(manifest))
        return Exported(path, replace(manifest, sha256=artefact_sha256(path)))

    def _onnx(self, folder: Path) -> Path:
        """The ONNX file that several engines start from."""
        if self.onnx is None:
            self.onnx = folder / 'start.onnx'
            by_name('onnx').write(self.graph.network, self._example(), self.onnx, self.names, self.dynamic)
        return self.onnx

    def _example(self) -> tuple[torch.Tensor, torch.Tensor]:
        """An image to trace with, whose sides are unlike any size inside, and a size to scale to."""
        largest, divisor = self.graph.largest, self.graph.divisor
        height, width = largest or (3 * divisor, 4 * divisor)
        images = torch.zeros(1 if self.detects else 2, 3, height - 5, width - 3, dtype=getattr(torch, self.graph.dtype))
        return images, torch.tensor([height + 13, width + 17])

    def _inputs(self, one: _Shown) -> dict[str, np.ndarray]:
        graph = self.graph
        image = as_input(one.resized, graph.dtype, graph.mean, graph.std)
        return {IMAGES: image, SIZE: np.array(one.size, np.int64)}

    def _eager(self, one: _Shown, inputs: dict[str, np.ndarray]) -> Any:
        """What the model finds: mmdet's or mmseg's own prediction, where the network sees the same image."""
        if self.graph.largest is None:
            found: Any = self.scene.predict([one.sample])[0]
            return Objects(found.boxes, found.scores, found.labels, found.masks) if self.detects else found
        with torch.inference_mode():
            outputs = self.graph.model(*map(torch.from_numpy, inputs.values()))
        return self._found([part.numpy() for part in (outputs if self.detects else [outputs])], one)

    def _found(self, outputs: Sequence[np.ndarray], one: _Shown) -> Any:
        return objects_of(self.graph.outputs, outputs, one.size, self.threshold) if self.detects else outputs[0][0]

    def _verify(self, engine: Engine, path: Path) -> SceneComparison:
        """Run a file on the images.

        Raises:
            ValueError: It finds something else than the model.
        """
        session = engine.open(path, self.wish.threads)
        try:
            outputs = [session.run(inputs) for inputs in self.inputs]
        # Of engines whose errors have no class in common.
        except Exception as error:
            raise ValueError(f'it was written, and does not run ({str(error).splitlines()[0][:200]})') from error
        found = [self._found(parts, one) for parts, one in zip(outputs, self.shown, strict=True)]
        if self.detects:
            comparison = compare_objects(found, self.expected, [one.size for one in self.shown])
        else:
            comparison = compare_labels(found, self.expected)
        least = AGREEMENT[self.scene.task]
        close = comparison.max_difference <= self.wish.tolerance or not self.detects
        if comparison.agreement < least or not close or comparison.details.get('mean_mask_iou', 1) < least:
            what = 'objects' if self.detects else 'pixels'
            raise ValueError(
                f'it finds something else than the model: {comparison.agreement:.2%} of the {what} agree, and partners '
                f'differ by up to {comparison.max_difference:.1e}; {least:.1%} and {self.wish.tolerance:.0e} are asked for'
            )
        return comparison

    def _manifest(self, engine: Engine, comparison: SceneComparison) -> Manifest:
        scene, graph, wish = self.scene, self.graph, self.wish
        resize = self.about['resize']
        size = list(graph.largest or (sorted(resize['scale']) if resize else self.shown[0].size))
        details: dict[str, Any] = {
            'config': str(scene.config.filename),
            'resize': resize,
            'channels': 'RGB',
            'palette': palette_of(scene.config, scene.classes),
            'params': sum(one.numel() for one in scene.network.parameters()),
            'verified': {'expected': comparison.count, **comparison.details},
        }
        if self.detects:
            details['score_threshold'] = float(scene.network.test_cfg.rcnn.score_thr)
            details['mask_threshold'] = self.threshold
        if graph.largest is not None:
            details['largest'] = list(graph.largest)
            details['fixed_because'] = 'the backbone looks at all of an image, or at windows: the network sees one size'
        return Manifest(
            engine=engine.name,
            engine_version=engine.version(),
            sha256='',
            source=self.about['checkpoint'],
            model=type(scene.network).__name__,
            weights_sha256=scene.weights_sha256,
            steps=list(graph.steps),
            task=scene.task,
            size=[int(side) for side in size],
            dynamic=list(self.dynamic[IMAGES].values()),
            batch=1 if self.detects else None,
            dtype=graph.dtype,
            mean=[level / 255 for level in graph.mean],
            std=[level / 255 for level in graph.std],
            crop_pct=1.0,
            crop_mode='none',
            interpolation='bilinear',
            classes=list(scene.classes),
            outputs=list(graph.outputs),
            verification=Verification(
                f"real: {self.about['images']}",
                len(self.shown),
                wish.tolerance,
                comparison.max_difference,
                comparison.mean_difference,
                comparison.agreement,
            ),
            versions=versions(),
            details=details,
        )


def _metadata(manifest: Manifest) -> dict[str, str]:
    """What an ONNX file tells of itself, so that it can travel without its manifest."""
    preprocessing = {'dtype': manifest.dtype, 'mean': manifest.mean, 'std': manifest.std, **{
        name: manifest.details.get(name) for name in ('resize', 'channels', 'largest')}}
    return {
        'task': manifest.task,
        'classes': json.dumps(manifest.classes, ensure_ascii=False),
        'preprocessing': json.dumps(preprocessing),
        'model': manifest.model,
        'source': manifest.source,
        'weights_sha256': manifest.weights_sha256 or '',
        'steps': json.dumps(manifest.steps),
        'versions': json.dumps(manifest.versions),
    }
