"""An fp32 artefact and images in, a quantised artefact with its manifest out."""

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from distill.base.processor import sums_saturate
from distill.engines import by_name, by_suffix
from distill.engines.artefact import PRECISIONS, SATURATING, Manifest, artefact_files, artefact_sha256
from distill.export.quantise.calibration import Show, read_calibration
from distill.export.quantise.half import write_half
from distill.export.quantise.quantiser import Quantiser, Say, Task, chosen_layers, quantiser_of
from distill.export.quantise.scores import Score, score_of
from distill.export.quantise.sensitivity import fewest_kept, harm, outputs, sensitivities

REDUCED = PRECISIONS[1:]
COMPARED = 200
"""Images of the calibration on which the quantised artefact is compared with the fp32 one."""


@dataclass(frozen=True)
class Options:
    """How to quantise.

    Attributes:
        precision: Of ``REDUCED``.
        calibration: Folder of images for int8.
        images: How many of them at the most.
        shift: Of `calibration.SHIFTS`.
        seed: Of the corruptions of a shift.
        keep_fp32: Layers that stay in fp32, by name or by the name of a part of the network.
        keep: How many more layers stay in fp32, the most sensitive ones; None for none, or as ``accuracy_drop`` needs.
        accuracy_drop: The most that may be lost, in points; keeps the fewest layers in fp32 that hold it.
        labelled: What to measure that on: a folder of class folders; of a detector or segmenter the folder of the
            data in place of the config's.
        config: Config of a detector or segmenter, whose test measures it.
        reduce_range: See `Task`; None for what this processor needs, see `sums_saturate`.
        threads: Of the engine that measures; None for its own choice.
    """

    precision: str = 'int8'
    calibration: str | os.PathLike | None = None
    images: int = 200
    shift: str = 'clean'
    seed: int = 0
    keep_fp32: Sequence[str] = ()
    keep: int | None = None
    accuracy_drop: float | None = None
    labelled: str | os.PathLike | None = None
    config: str | os.PathLike | None = None
    reduce_range: bool | None = None
    threads: int | None = None

    def check(self) -> None:
        """Check what needs no artefact.

        Raises:
            ValueError: A value is out of range, or does not go with the others.
        """
        if self.precision not in REDUCED:
            raise ValueError(f"precision '{self.precision}' is unknown; choose from {', '.join(REDUCED)}")
        if self.precision != 'int8':
            given = (self.keep_fp32, self.keep, self.accuracy_drop)
            if any(value not in (None, (), []) for value in given):
                raise ValueError(f'layers are kept in fp32 beside int8, not beside {self.precision}; leave that out')
            return
        if self.calibration is None:
            raise ValueError('int8 needs images to measure ranges on; give a calibration folder')
        if self.keep is not None and self.keep < 0:
            raise ValueError(f'{self.keep} layers cannot be kept in fp32; give 0 or more')
        if self.keep is not None and self.accuracy_drop is not None:
            raise ValueError('a number of layers to keep and an accuracy drop to hold are two answers to one question; '
                             'give one of them')  # fmt: skip
        if self.accuracy_drop is not None and not 0 <= self.accuracy_drop <= 100:
            raise ValueError(f'an accuracy drop of {self.accuracy_drop} points is none; give 0 to 100, such as 1.0')


def default_out(path: str | os.PathLike, precision: str) -> Path:
    """``model.int8.onnx`` for ``model.onnx``."""
    path = Path(path)
    return path.with_name(f'{path.stem}.{precision}{path.suffix}')


def quantise(
    path: str | os.PathLike,
    out: str | os.PathLike,
    options: Options,
    show: Show | None = None,
    score: Score | None = None,
    say: Say = lambda line: None,
) -> Manifest:
    """Write a quantised artefact and its manifest; neither is left behind if something fails.

    Args:
        path: The fp32 artefact, with its manifest beside it.
        out: The file to write, of the same ending.
        options: How to quantise.
        show: How calibration images are resized and cropped; None for a classifier.
        score: Judges an artefact for ``accuracy_drop``; None takes top-1 on the labelled images, or the box mAP or
            mIoU of the config's test.
        say: Takes lines about what is being done.

    Returns:
        The manifest. Its ``details['quantised']`` holds the ``method``, ``reduce_range`` of an engine that has it, the
        ``noise`` of the outputs against the fp32 artefact, ``agreement_pct`` of top-1 for a classifier,
        ``sensitivities`` where they were measured, and ``accuracy_pct`` of both artefacts where they were judged.

    Raises:
        FileNotFoundError: The artefact or a folder does not exist.
        ValueError: The artefact has no manifest or is no fp32 one, an option does not fit it, or no artefact holds the
            accuracy drop.
    """
    path, out = Path(path), Path(out)
    options.check()
    manifest = read_manifest(path)
    with tempfile.TemporaryDirectory(prefix='quantise-') as name:
        folder = Path(name)
        file = folder / out.name
        if options.precision == 'int8':
            found = _Int8(path, manifest, options, folder, show, score, say).write(file)
        else:
            found = {'details': {'method': write_half(path, manifest, options.precision, file)}}
        by_suffix(file).open(file, options.threads)  # What cannot be opened is not left behind.
        details = {'fp32_sha256': manifest.sha256, **found.pop('details')}
        _move(file, out)
    quantised = replace(
        manifest,
        engine_version=by_name(manifest.engine).version(),
        sha256=artefact_sha256(out),
        steps=[*manifest.steps, f'{options.precision}: {details["method"]}'],
        precision=options.precision,
        verification=None,
        # What the fp32 file was verified by says nothing of this one.
        details={key: value for key, value in manifest.details.items() if key != 'verified'} | {'quantised': details},
        **found,
    )
    quantised.write(out)
    return quantised


def read_manifest(path: Path) -> Manifest:
    """The manifest of an artefact that is to be quantised.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: There is no manifest, or the artefact is no fp32 one.
    """
    if not path.is_file():
        raise FileNotFoundError(f"artefact '{path}' does not exist; export it first or correct the path")
    manifest = Manifest.read(path)
    if manifest is None:
        raise ValueError(f"'{path}' has no manifest ({Manifest.path_beside(path).name}); export the model again")
    if manifest.precision != 'fp32':
        raise ValueError(f"'{path}' is {manifest.precision} already; give the fp32 artefact that it was made of")
    return manifest


class _Int8:
    """The steps to an int8 artefact."""

    def __init__(
        self,
        path: Path,
        manifest: Manifest,
        options: Options,
        folder: Path,
        show: Show | None,
        score: Score | None,
        say: Say,
    ):
        self.path, self.manifest, self.options, self.folder, self.say = path, manifest, options, folder, say
        if options.accuracy_drop is not None and score is None:
            score = score_of(options.labelled, options.config, manifest)
        self.score = score
        self.calibration = read_calibration(
            options.calibration or '', manifest, options.images, options.shift, options.seed, show
        )
        reduce_range = sums_saturate() if options.reduce_range is None else options.reduce_range
        task = Task(path, manifest, self.calibration, folder, reduce_range)
        self.quantiser: Quantiser = quantiser_of(task)
        if (options.keep_fp32 or options.keep or options.accuracy_drop is not None) and not self.quantiser.can_keep:
            raise ValueError(
                f'{manifest.engine} quantises all layers or none; leave out what keeps layers in fp32, or take onnx or '
                'openvino'
            )
        self.named = chosen_layers(self.quantiser.layers, options.keep_fp32)
        left = len(self.quantiser.layers) - len(self.named)
        if self.quantiser.can_keep and (options.keep or 0) >= left:
            raise ValueError(
                f'nothing would be in int8: the network has {len(self.quantiser.layers)} layers, of which '
                f'{len(self.named)} are named to stay in fp32 and {options.keep or 0} more are to; keep fewer'
            )
        self.found: dict = {'method': self.quantiser.method}
        if manifest.engine in SATURATING:
            self.found['reduce_range'] = task.reduce_range

    def write(self, out: Path) -> dict:
        """Write the artefact; returns fields of its manifest."""
        kept = self.named
        if self.options.keep:
            kept = self._with_most_sensitive(self.options.keep)
        if self.options.accuracy_drop is None:
            self.say(f'int8: {len(self.calibration)} images, {len(kept)} layers in fp32')
            self.quantiser.write(out, kept)
        else:
            kept = self._hold(out, self.options.accuracy_drop)
        self._compare(out)
        dynamic = [axis for axis in self.manifest.dynamic if axis not in self.quantiser.fixed]
        about = self.calibration.about
        return {'kept_in_fp32': list(kept), 'calibration': about, 'dynamic': dynamic, 'details': self.found}

    def _with_most_sensitive(self, count: int) -> list[str]:
        """The layers that the user has named and, of the others, the most sensitive ones, in the network's order."""
        if 'sensitivities' not in self.found:
            self.found['sensitivities'] = sensitivities(
                self.quantiser,
                self.path,
                self.manifest,
                self.calibration,
                self.folder,
                self.options.threads,
                lambda layer: self.say(f'sensitivity of {layer}'),
            )
        others = [layer for layer in self.found['sensitivities'] if layer not in self.named]
        chosen = {*self.named, *others[:count]}
        return [layer for layer in self.quantiser.layers if layer in chosen]

    def _hold(self, out: Path, limit: float) -> list[str]:
        """Write the artefact with the fewest layers in fp32 that loses `limit` points at the most."""
        assert self.score is not None
        self.say('accuracy of the fp32 artefact')
        fp32_pct = self._score(self.path)
        scores, kept = {}, {0: self.named}

        def drop_of(count: int) -> float:
            if count:
                kept[count] = self._with_most_sensitive(count)
            self.say(f'accuracy with {len(kept[count])} layers in fp32')
            file = self._candidate(count)
            self.quantiser.write(file, kept[count])
            scores[count] = self._score(file)
            return fp32_pct - scores[count]

        count = fewest_kept(len(self.quantiser.layers) - len(self.named), drop_of, limit)
        for file in artefact_files(self._candidate(count)):
            shutil.copy(file, out.with_suffix(file.suffix))
        self.found['accuracy_pct'] = {'fp32': fp32_pct, 'int8': scores[count]}
        self.found['tried'] = {str(number): scores[number] for number in sorted(scores)}
        return kept[count]

    def _candidate(self, count: int) -> Path:
        return self.folder / f'kept{count}{self.path.suffix}'

    def _score(self, path: Path) -> float:
        assert self.score is not None
        return self.score(by_suffix(path).open(path, self.options.threads), self.manifest)

    def _compare(self, out: Path) -> None:
        """Note how far the outputs are from those of the fp32 artefact on calibration images."""
        few = self.calibration.first(COMPARED)
        expected, found = (outputs(file, self.manifest, few, self.options.threads) for file in (self.path, out))
        self.found['noise'] = harm(found, expected, self.manifest)
        if not np.isfinite(self.found['noise']):
            raise ValueError(
                f"{self.manifest.engine}'s int8 form of '{self.path}' gives values that are no numbers; calibrate on "
                'other images, or take another engine for int8'
            )
        if self.manifest.task == 'classification':
            same = found[0].argmax(axis=1) == expected[0].argmax(axis=1)
            self.found['agreement_pct'] = float(100 * same.mean())
        elif self.calibration.sizes:
            self.found['agreement_pct'] = 100 * (1 - self.found['noise'])
        self.found['compared'] = len(few)


def _move(file: Path, out: Path) -> None:
    """Move an artefact, with its weights if they are beside it, under the name that the engine looks for."""
    out.parent.mkdir(parents=True, exist_ok=True)
    for one in artefact_files(file):
        shutil.move(one, out.parent / one.name)
