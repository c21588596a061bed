"""Exports a classifier or its feature pyramid: deployed, written by each engine, verified, and described beside it."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from backbones.class_names import classes_or_imagenet
from backbones.loading import LoadedModel
from distill.engines import Converter, Dynamic, Engine, Names, by_name
from distill.engines.artefact import Manifest, Verification, artefact_sha256
from distill.engines.onnx_runtime import add_metadata
from distill.export.deploy import Deployed, deploy
from distill.export.files import Exported, Wish, installed_engines, versions, write_files
from distill.export.images import Sample, as_input, sample, synthetic
from distill.export.trace import INPUT, example, trace
from distill.export.verify import eager, verify

FIXED = 'executorch'
"""The engine that plans the memory of a run, for which each size is fixed."""
OTHER_SIZE_PX = 64
"""By how much the other size is larger at which an artefact of any size is verified, too."""


def export_classifier(
    loaded: LoadedModel,
    out: str | os.PathLike,
    name: str,
    wish: Wish,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Exported]:
    """Export a model, and verify each file in its own engine.

    Args:
        loaded: The model.
        out: Folder of the files.
        name: Their name, without the ending of each engine.
        wish: What is exported.
        tell: Takes a line of progress.

    Returns:
        What was written, in the order of the engines.

    Raises:
        ExportError: An engine cannot write the model, or what it runs is not what the model computes; its file is not
            left behind.
        ValueError: The model cannot be exported.
    """
    engines = installed_engines(wish.engines)
    tell('deploying')
    deployed = deploy(loaded, wish.features, wish.uint8)
    shown = sample(wish.images, wish.count, deployed.size, loaded.transform)
    tell('tracing')
    job = _Job(loaded, deployed, wish, shown, *trace(loaded, deployed, wish))
    return write_files(loaded.source, engines, out, name, job.make, tell)


class _Job:
    """One model on its way into several engines.

    Args:
        loaded: The model.
        deployed: Its form for export.
        wish: What is exported.
        shown: Images to verify with.
        program: The form for export as torch's exported program, which the engines share.
        dynamic: Its axes of any size.
        reason: Why not all axes are, or nothing.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        deployed: Deployed,
        wish: Wish,
        shown: Sample,
        program: Any,
        dynamic: Dynamic,
        reason: str,
    ):
        self.loaded, self.deployed, self.wish, self.shown, self.program = loaded, deployed, wish, shown, program
        self.dynamic, self.reason = dynamic, reason
        self.names = Names((INPUT,), deployed.outputs)
        self.classifies = wish.features is None
        self.inputs = self._as_input(shown.images)
        self.expected = eager(deployed.model, self.inputs)
        self.onnx: Path | None = None

    def make(self, engine: Engine, path: Path, folder: Path) -> Exported:
        """Write, verify and describe the file of one engine."""
        dynamic: Dynamic = {INPUT: {}} if engine.name == FIXED else self.dynamic
        if engine.name == 'onnx':
            shutil.copy(self._onnx(folder), path)
        elif isinstance(engine, Converter):
            engine.convert(self._onnx(folder), path, dynamic)
        else:
            self._write(engine, path, dynamic)
        verification = self._verify(engine, path, dynamic)
        manifest = self._manifest(engine, dynamic, verification)
        if engine.name == 'onnx':
            add_metadata(path, _metadata(manifest))
        return Exported(path, replace(manifest, sha256=artefact_sha256(path)))

    def _write(self, engine: Engine, path: Path, dynamic: Dynamic) -> None:
        shown = example(self.deployed, len(dynamic[INPUT]) > 0, self.wish.batch)
        network = self.program if dynamic == self.dynamic else self.deployed.network
        engine.write(network, (shown,), path, self.names, dynamic)

    def _onnx(self, folder: Path) -> Path:
        """The ONNX file that several engines start from."""
        if self.onnx is None:
            self.onnx = folder / 'start.onnx'
            self._write(by_name('onnx'), self.onnx, self.dynamic)
        return self.onnx

    def _verify(self, engine: Engine, path: Path, dynamic: Dynamic) -> Verification:
        """Run the file on the images, and on images of another size if it takes any."""
        wish = self.wish
        found = verify(
            engine,
            path,
            self.deployed.network,
            self.inputs,
            self.expected,
            self.names,
            self.classifies,
            wish.tolerance,
            wish.threads,
        )
        worst = found.max_difference
        if 2 in dynamic[INPUT]:
            height, width = self.deployed.size
            other = self._as_input(synthetic(2, (height + OTHER_SIZE_PX, width + 2 * OTHER_SIZE_PX), seed=1))
            expected = eager(self.deployed.model, other)
            at_other = verify(
                engine,
                path,
                self.deployed.network,
                other,
                expected,
                self.names,
                self.classifies,
                wish.tolerance,
                wish.threads,
            )
            worst = max(worst, at_other.max_difference)
        return Verification(
            self.shown.origin, len(self.shown), wish.tolerance, worst, found.mean_difference, found.agreement
        )

    def _as_input(self, images: np.ndarray) -> np.ndarray:
        record = self.loaded.record
        return as_input(images, self.deployed.dtype, record.mean or [], record.std or [])

    def _manifest(self, engine: Engine, dynamic: Dynamic, verification: Verification) -> Manifest:
        record, deployed = self.loaded.record, self.deployed
        classes, _ = classes_or_imagenet(record.classes, self.loaded.num_classes) if self.classifies else (None, None)
        details: dict[str, Any] = {'params': sum(one.numel() for one in self.loaded.network.parameters())}
        if deployed.strides:
            details['strides'] = list(deployed.strides)
        if self.reason and engine.name != FIXED:
            details['fixed_because'] = self.reason
        details |= {name: told for name in ('teacher', 'seen_kinds') if (told := getattr(record, name))}
        return Manifest(
            engine=engine.name,
            engine_version=engine.version(),
            sha256='',
            source=self.loaded.source,
            model=record.model,
            weights_sha256=record.weights_sha256,
            steps=list(deployed.steps),
            task='classification' if self.classifies else 'features',
            size=list(deployed.size),
            dynamic=list(dynamic[INPUT].values()),
            batch=None if 0 in dynamic[INPUT] else self.wish.batch or 1,
            dtype=deployed.dtype,
            mean=list(record.mean or []),
            std=list(record.std or []),
            crop_pct=record.crop_pct or 1.0,
            crop_mode=record.crop_mode or 'center',
            interpolation=record.interpolation or 'bicubic',
            classes=classes,
            outputs=list(deployed.outputs),
            verification=verification,
            versions=versions(),
            details=details,
        )


def _metadata(manifest: Manifest) -> dict[str, str]:
    """What an ONNX file tells of itself, so that it can travel without its manifest."""
    shown = ('size', 'dtype', 'mean', 'std', 'crop_pct', 'crop_mode', 'interpolation')
    return {
        'classes': json.dumps(manifest.classes, ensure_ascii=False),
        'preprocessing': json.dumps({name: getattr(manifest, name) for name in shown}),
        'model': manifest.model,
        'source': manifest.source,
        'weights_sha256': manifest.weights_sha256 or '',
        'steps': json.dumps(manifest.steps),
        'versions': json.dumps(manifest.versions),
    }
