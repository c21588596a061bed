"""Predict many files into a folder: a picture of each, label maps, and one ``predictions.json`` for all."""

import errno
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import PIL

from distill import __version__
from distill.base.files import remove_leftovers, write_bytes
from distill.predict.files import ImageFile
from distill.predict.outputs import Classification, Detection, Prediction, Segmentation
from distill.predict.predictor import BrokenImageError, Outcome, Predictor
from distill.predict.record import PARTIAL_NAME, PredictionFile, check_replaceable
from distill.results.provenance import provenance

PICTURES, LABELS = 'pictures', 'labels'
"""The folders of pictures and of label maps."""
SCENE_LIBRARIES = ('mmengine', 'mmcv-lite', 'mmcv', 'mmdet', 'mmsegmentation', 'onedl-mmengine', 'onedl-mmcv',
                   'onedl-mmdetection', 'onedl-mmsegmentation')  # fmt: skip


@dataclass
class Settings:
    """How files are predicted.

    Attributes:
        out: The folder to write.
        pictures: Whether pictures and label maps are written.
        skip_broken: Whether a broken image is left out; otherwise it ends the run.
        batch_size: How many images the network sees at once, if they are of one size.
        workers: Processes that decode images.
        device: Where the model runs, for the record.
        advance: Called with the number of images that are done.
    """

    out: Path
    pictures: bool = True
    skip_broken: bool = False
    batch_size: int = 8
    workers: int = 1
    device: str = 'cpu'
    advance: Callable[[int], None] = lambda count: None


@dataclass
class Report:
    """What came of it.

    Attributes:
        path: The file ``predictions.json``.
        task: What the model does.
        lines: For the first images, the file and what the model says.
        counts: How often each class was first, how many objects of each there are, or how many pixels.
        images: Number of images that were predicted.
        skipped: For each broken image, why.
    """

    path: Path
    task: str
    lines: list[tuple[str, str]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    images: int = 0
    skipped: list[str] = field(default_factory=list)


def predict_files(predictor: Predictor, files: Sequence[ImageFile], settings: Settings, lines: int = 10) -> Report:
    """Predict files, and write what the model says about each as soon as it is known.

    Args:
        predictor: The model.
        files: The images.
        settings: How to.
        lines: Of how many images the report has a line.

    Raises:
        BrokenImageError: An image is broken and shall not be skipped. What is done by then is kept.
        ValueError: The folder has a ``predictions.json`` of another program, or all images are broken.
        OSError: The disk is full or protected. What is done by then is kept.
    """
    check_replaceable(settings.out)
    remove_leftovers(settings.out, settings.out / PICTURES, settings.out / LABELS)
    report = Report(settings.out, predictor.task)
    try:
        record = PredictionFile(settings.out, _header(predictor, settings))
    except OSError as error:
        raise _with_rest(error, 0, settings) from None
    with record:
        try:
            outcomes = predictor.stream(
                [file.path for file in files], settings.batch_size, settings.workers, settings.pictures
            )
            for outcome in outcomes:
                _add(outcome, files[outcome.index], settings, record, report, lines)
                settings.advance(1)
        except (BrokenImageError, OSError) as error:
            if not report.images:
                record.discard()
            raise _with_rest(error, report.images, settings) from None
        if not report.images:
            record.discard()
            raise ValueError(f'none of {len(files)} images can be predicted; the first: {report.skipped[0]}')
        counts = {'images': len(files), 'predicted': report.images, 'skipped': len(report.skipped)}
        report.path = record.finish(counts=counts)
    return report


def _add(
    outcome: Outcome, file: ImageFile, settings: Settings, record: PredictionFile, report: Report, lines: int
) -> None:
    """Write one image."""
    entry: dict[str, Any] = {'id': outcome.index, 'name': file.name}
    prediction = outcome.prediction
    if prediction is None:
        if not settings.skip_broken:
            raise BrokenImageError(outcome.error)
        report.skipped.append(outcome.error)
        record.add({**entry, 'path': file.path, 'skipped': outcome.error})
        return
    content = prediction.to_json()
    for found in content.get('objects', ()):
        found['image_id'] = outcome.index
    if outcome.image is not None:
        entry |= _write_pictures(prediction, outcome, file, settings.out)
    record.add({**entry, **content})
    report.images += 1
    report.counts.update(counts_of(prediction))
    if len(report.lines) < lines:
        report.lines.append((file.name, prediction.summary()))


def _write_pictures(prediction: Prediction, outcome: Outcome, file: ImageFile, out: Path) -> dict[str, str]:
    """Write a picture and, for a segmenter, the label map; returns where they are below the folder."""
    written = {'picture': f'{PICTURES}/{file.name}.jpg'}
    buffer = io.BytesIO()
    prediction.draw(outcome.image).save(buffer, 'JPEG', quality=92, subsampling=0)
    write_bytes(out / written['picture'], buffer.getvalue())
    if isinstance(prediction, Segmentation):
        written['labels'] = f'{LABELS}/{file.name}.png'
        buffer = io.BytesIO()
        prediction.label_map().save(buffer, 'PNG')
        write_bytes(out / written['labels'], buffer.getvalue())
    return written


def counts_of(prediction: Prediction) -> dict[str, int]:
    """What an image adds to the counts of a report."""
    if isinstance(prediction, Classification):
        return {prediction.top[0].title: 1} if prediction.is_finite else {'no decision': 1}
    if isinstance(prediction, Detection):
        return prediction.counts()
    if isinstance(prediction, Segmentation):
        return {prediction.class_name(index): count for index, count in prediction.pixels.items()}
    raise TypeError(f'{type(prediction).__name__} is no prediction of a known task')


def _header(predictor: Predictor, settings: Settings) -> dict[str, Any]:
    """What stands before the images."""
    origin: dict[str, Any] = {**provenance(None, settings.device)}
    # Nothing is random.
    del origin['seed']
    origin['versions'] |= {'pillow': PIL.__version__, 'robust-backbones': __version__}
    if predictor.task != 'classification':
        origin['versions'] |= _installed(SCENE_LIBRARIES)
    described = predictor.model.describe()
    if predictor.notes:
        described['model']['notes'] = list(predictor.notes)
    categories = [{'id': index, 'name': name} for index, name in enumerate(predictor.classes)]
    described['settings'] |= {'batch_size': settings.batch_size}
    return {'task': predictor.task, **described, 'provenance': origin, 'categories': categories}


def _installed(names: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _with_rest(error: Exception, images: int, settings: Settings) -> Exception:
    """An error that ends a run, with the way out and what is kept of so many images."""
    kept = f"; what was done before ({images} images) is in '{settings.out / PARTIAL_NAME}'" if images else ''
    if isinstance(error, BrokenImageError):
        return BrokenImageError(f'{error}; or pass --skip-broken{kept}')
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OSError(f"the disk of '{settings.out}' is full; make room or give another --out{kept}")
    return OSError(f'{error}{kept}')
