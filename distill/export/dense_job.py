"""One detector or segmenter on its way into several engines: written, run on real images, compared, described."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill.downstream.graphs.deployed import SceneGraph, palette_of
from distill.downstream.inference import DETECTION, SceneModel
from distill.downstream.loading import damaged, decode_array
from distill.downstream.seen import seen_in_training
from distill.engines import Converter, Engine, Names, by_name
from distill.engines.artefact import Manifest, Verification, artefact_sha256
from distill.engines.onnx_runtime import add_metadata
from distill.engines.scenes import IMAGES, SIZE, Objects, as_input, objects_of
from distill.engines.tracing import exported_program
from distill.export.compare_scenes import SceneComparison, compare_labels, compare_objects
from distill.export.files import Exported, Wish, versions
from distill.export.scene_metrics import SceneMetrics
from distill.export.verify import first_differing_layer
from distill.training.seen import SEEN

AGREEMENT = {'detection': 0.99, 'segmentation': 0.999}
"""The least share of objects or pixels that agree."""
SCORE, SCORE_OF_ONE = 0.001, 0.1
"""By how much mAP and mIoU may differ: by the first on many images, by the second divided by their number on few."""


@dataclass(frozen=True)
class Truth:
    """What is annotated in the images to verify with.

    Attributes:
        metrics: The config's test.
        places: Of each image in its test set; None for one that it does not have.
    """

    metrics: SceneMetrics
    places: Sequence[int | None]

    @property
    def known(self) -> dict[int, int]:
        """Places in the test set, and among the images to verify with."""
        return {place: index for index, place in enumerate(self.places) if place is not None}

    def scores(self, found: Sequence[Any]) -> dict[str, float]:
        """Box mAP and mask mAP, or mIoU, of what was found in the images."""
        known = self.known
        return self.metrics.scores(lambda place, image, size: found[known[place]], list(known))


@dataclass(frozen=True)
class ShownImage:
    """An image to verify with: what the test pipeline makes of it, R, G, B, uint8 [h, w, 3], and its own size."""

    sample: dict
    resized: np.ndarray
    size: tuple[int, int]

    @classmethod
    def of(cls, scene: SceneModel, path: Path) -> 'ShownImage':
        """An image file as the test pipeline of a model shows it.

        Raises:
            ValueError: It cannot be decoded.
        """
        try:
            image = np.ascontiguousarray(decode_array(path.read_bytes())[:, :, ::-1])
        except (OSError, ValueError, SyntaxError) as error:  # Pillow's for a damaged PNG is the last one.
            raise damaged(str(path), error) from None
        sample = scene.sample(image)
        return cls(sample, sample['inputs'].numpy()[::-1].transpose(1, 2, 0), (image.shape[0], image.shape[1]))


def largest_of(shown: Sequence[ShownImage]) -> tuple[int, int]:
    """Height and width that all images have at the most, after resizing."""
    return max(one.resized.shape[0] for one in shown), max(one.resized.shape[1] for one in shown)


class Job:
    """One model on its way into several engines.

    Args:
        scene: The model.
        graph: Its form for export.
        shown: Images to verify with.
        wish: What is exported.
        about: What the manifest tells of its origin.
        truth: What is annotated in the images; or why that is not known, in words.
    """

    def __init__(
        self,
        scene: SceneModel,
        graph: SceneGraph,
        shown: Sequence[ShownImage],
        wish: Wish,
        about: dict,
        truth: Truth | str = 'no annotations were given',
    ):
        self.scene, self.graph, self.shown, self.about = scene, graph, shown, about
        self.tolerance, self.threads = wish.tolerance, wish.threads
        self.names = Names((IMAGES, SIZE), graph.outputs)
        self.detects = scene.task == DETECTION
        axes = {2: 'height', 3: 'width'}
        self.dynamic = {IMAGES: axes if self.detects else {0: 'batch', **axes}, SIZE: {}}
        self.threshold = float(scene.network.test_cfg.rcnn.get('mask_thr_binary', 0.5)) if self.detects else 0.5
        self.inputs = [self._inputs(one) for one in shown]
        self.expected = [self._eager(one, inputs) for one, inputs in zip(shown, self.inputs, strict=True)]
        self.onnx: Path | None = None
        self.truth = truth

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

    def _inputs(self, one: ShownImage) -> dict[str, np.ndarray]:
        graph = self.graph
        image = as_input(one.resized, graph.dtype, graph.mean, graph.std)
        return {IMAGES: image, SIZE: np.array(one.size, np.int64)}

    def _eager(self, one: ShownImage, inputs: dict[str, np.ndarray]) -> Any:
        """What the model finds: mmdet's or mmseg's own prediction, where the network sees the same image."""
        if self.graph.largest is None:
            found: Any = self.scene.predict([one.sample])[0]
            return Objects(found.boxes, found.scores, found.labels, found.masks) if self.detects else found
        with torch.inference_mode():
            outputs = self.graph.model(*map(torch.from_numpy, inputs.values()))
        return self._found([part.numpy() for part in (outputs if self.detects else [outputs])], one)

    def _found(self, outputs: Sequence[np.ndarray], one: ShownImage) -> Any:
        return objects_of(self.graph.outputs, outputs, one.size, self.threshold) if self.detects else outputs[0][0]

    def _verify(self, engine: Engine, path: Path) -> SceneComparison:
        """Run a file on the images.

        Raises:
            ValueError: It finds something else than the model.
        """
        session = engine.open(path, self.threads)
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
        close = comparison.max_difference <= self.tolerance or not self.detects
        if comparison.agreement < least or not close or comparison.details.get('mean_mask_iou', 1) < least:
            what = 'objects' if self.detects else 'pixels'
            # torch does not lower the program of a detector twice, so that it is made anew.
            program = exported_program(self.graph.network, self._example(), self.names, self.dynamic)
            where = first_differing_layer(engine, path, program, self.names, self.inputs[0], self.tolerance)
            raise ValueError(
                f'it finds something else than the model: {comparison.agreement:.2%} of the {what} agree, and partners '
                f'differ by up to {comparison.max_difference:.1e}; {least:.1%} and {self.tolerance:.0e} are asked for; '
                f'{where}'
            )
        return replace(comparison, details={**comparison.details, **self._scored(found)})

    @cached_property
    def _own_scores(self) -> dict[str, float] | str:
        """The model's scores on the images, or why there are none."""
        if isinstance(self.truth, str):
            return self.truth
        try:
            return self.truth.scores(self.expected)
        except ValueError as error:  # Nothing that counts is annotated in these images.
            return str(error)

    def _scored(self, found: Sequence[Any]) -> dict[str, Any]:
        """The scores of what was found beside the model's, for the manifest.

        Raises:
            ValueError: They differ by too much.
        """
        own = self._own_scores
        if isinstance(own, str) or isinstance(self.truth, str):
            return {'scores': None, 'not_scored': own}
        scores, count = self.truth.scores(found), len(self.truth.known)
        limit = max(SCORE, SCORE_OF_ONE / count)
        for name, score in scores.items():
            if not abs(score - own[name]) <= limit:
                raise ValueError(
                    f'its {name} is {score:.4f} on {count} images, and the model has {own[name]:.4f}; '
                    f'a difference of {limit:.4f} is allowed'
                )
        sides = {
            name: {'model': own[name], 'file': score, 'difference': score - own[name]} for name, score in scores.items()
        }
        return {'scores': sides, 'scored_images': count}

    def _manifest(self, engine: Engine, comparison: SceneComparison) -> Manifest:
        scene, graph = self.scene, self.graph
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
        if seen := seen_in_training(self.about['checkpoint']):
            details[SEEN] = seen
        if graph.largest is not None:
            details['largest'] = list(graph.largest)
            details['fixed_because'] = 'the network sees one size, up to which images are filled up'
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
                f'real: {Path(self.about["images"]).absolute().name}',
                len(self.shown),
                self.tolerance,
                comparison.max_difference,
                comparison.mean_difference,
                comparison.agreement,
            ),
            versions=versions(),
            details=details,
        )


def _metadata(manifest: Manifest) -> dict[str, str]:
    """What an ONNX file tells of itself, so that it can travel without its manifest."""
    preprocessing = {
        'dtype': manifest.dtype,
        'mean': manifest.mean,
        'std': manifest.std,
        **{name: manifest.details.get(name) for name in ('resize', 'channels', 'largest')},
    }
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
