"""Exports a classifier or its feature pyramid: deployed, written by each engine, verified, and described beside it."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backbones.checkpoint import fixed_size
from backbones.class_names import classes_or_imagenet
from backbones.loading import LoadedModel
from distill import __version__
from distill.base.files import temporary_path
from distill.engines import Converter, Dynamic, Engine, Names, by_name
from distill.engines.artefact import Manifest, Verification, artefact_files, artefact_sha256
from distill.engines.onnx_runtime import add_metadata
from distill.engines.tracing import exported_program
from distill.export.deploy import Deployed, deploy
from distill.export.images import COUNT, Sample, as_input, sample, synthetic
from distill.export.verify import TOLERANCE, eager, verify

INPUT = 'images'
AXES = {0: 'batch', 2: 'height', 3: 'width'}
FIXED = 'executorch'
"""The engine that plans the memory of a run, for which each size is fixed."""
PADS_BY_SIZE = (
    'Conv2dSame',
    'CondConv2d',
    'MixedConv2d',
    'MaxPool2dSame',
    'AvgPool2dSame',
    'StdConv2dSame',
    'ScaledStdConv2dSame',
)
"""timm's layers with the padding of TensorFlow."""
OTHER_SIZE_PX = 64
"""By how much the other size is larger at which an artefact of any size is verified, too."""


@dataclass(frozen=True)
class Wish:
    """What is exported, and how it is verified.

    Attributes:
        engines: Names of the engines.
        features: Entries of ``feature_info`` for a feature pyramid; empty for the last four; None for a classifier.
        uint8: Whether the artefact normalises its images itself.
        batch: Images of a run, to fix it; None for any number.
        fixed_size: Whether to take images of the model's size only, which is exported sooner.
        images: Folder with images to verify with; None for synthetic ones.
        count: Number of these images.
        tolerance: See `distill.export.verify`.
        threads: Of the engines.
    """

    engines: tuple[str, ...] = ('onnx',)
    features: tuple[int, ...] | None = None
    uint8: bool = False
    batch: int | None = None
    fixed_size: bool = False
    images: Path | None = None
    count: int = COUNT
    tolerance: float = TOLERANCE
    threads: int | None = None


@dataclass(frozen=True)
class Exported:
    """A file that was written, with what stands beside it."""

    path: Path
    manifest: Manifest

    @property
    def size_mb(self) -> float:
        """Size of the file and of the weights beside it, in megabytes."""
        return sum(file.stat().st_size for file in artefact_files(self.path)) / 1e6


class ExportError(ValueError):
    """Some engines have failed.

    Attributes:
        exported: What the others have written.
    """

    def __init__(self, message: str, exported: Sequence[Exported]):
        super().__init__(message)
        self.exported = list(exported)


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
    engines = [by_name(one) for one in wish.engines]
    for engine in engines:
        lacking = engine.missing()
        if lacking:
            raise ValueError(f"engine '{engine.name}' needs {lacking}")
    tell('deploying')
    deployed = deploy(loaded, wish.features, wish.uint8)
    shown = sample(wish.images, wish.count, deployed.size, loaded.transform)
    tell('tracing')
    job = _Job(loaded, deployed, wish, shown, *_trace(loaded, deployed, wish))
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
        raise ExportError(f"'{loaded.source}' is not exported by {'; '.join(failures)} (written: {written})", exported)
    return exported


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
        example = _example(self.deployed, len(dynamic[INPUT]) > 0, self.wish.batch)
        network = self.program if dynamic == self.dynamic else self.deployed.network
        engine.write(network, (example,), path, self.names, dynamic)

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
        if record.teacher:
            details['teacher'] = record.teacher
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


def _trace(loaded: LoadedModel, deployed: Deployed, wish: Wish) -> tuple[Any, Dynamic, str]:
    """The network as torch's exported program, its axes of any size, and why others cannot be: what can be is tried."""
    wanted = {axis: label for axis, label in AXES.items() if axis or wish.batch is None}
    reason = _why_fixed(loaded, deployed, wish)
    if reason:
        wanted = {axis: label for axis, label in wanted.items() if not axis}
    tries = [wanted, {axis: label for axis, label in wanted.items() if not axis}, {}]
    for axes in (one for index, one in enumerate(tries) if one not in tries[:index]):
        dynamic = {INPUT: axes}
        example = _example(deployed, bool(axes), wish.batch)
        try:
            program = exported_program(deployed.network, (example,), Names((INPUT,), deployed.outputs), dynamic)
        except ValueError as error:
            reason, last = str(error), error
        else:
            return program, dynamic, reason
    raise ValueError(f"'{loaded.source}' cannot be exported: {last}")


def _why_fixed(loaded: LoadedModel, deployed: Deployed, wish: Wish) -> str:
    """Why an artefact takes images of one size, or nothing."""
    if wish.fixed_size:
        return 'as was asked for'
    if fixed_size(loaded.network) is not None:
        return 'the model takes one size'
    # torch spends minutes on the formulas of such padding.
    padding = [type(one).__name__ for one in deployed.network.modules() if type(one).__name__ in PADS_BY_SIZE]
    return f'{padding[0]} pads by the size of the image' if padding else ''


def _example(deployed: Deployed, is_dynamic: bool, batch: int | None) -> torch.Tensor:
    """Images to trace with. Sizes that are to be of any size are above 1 and unlike one another."""
    count = batch or (2 if is_dynamic else 1)
    return torch.from_numpy(synthetic(count, deployed.size)).to(getattr(torch, deployed.dtype))


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


def versions() -> dict[str, str]:
    """Versions of what has a part in an export."""
    found = {'robust-backbones': __version__}
    for name in ('torch', 'timm', 'onnx', 'onnxscript', 'onnxruntime', 'openvino', 'mnn', 'executorch'):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


@contextmanager
def workspace(path: Path) -> Iterator[Path]:
    """A folder beside the files, on the same disk, that goes with all that is left in it."""
    folder = temporary_path(path, 'partial')
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
