"""What stands beside an exported file: where it comes from, what it is shown, and how far it was verified."""

import hashlib
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, cast

from distill.base.files import read_json, write_json
from distill.base.processor import sums_saturate
from distill.results.entries import ArtefactRecord

FORMAT = 1
"""Version of the manifest's format."""
TASKS = ('classification', 'features', 'detection', 'segmentation')
DTYPES = ('float32', 'uint8')
"""Of the images: normalised, or as they are decoded, with the normalisation inside of the artefact."""
PRECISIONS = ('fp32', 'fp16', 'bf16', 'int8')
SATURATING = ('onnx', 'openvino')
"""Engines whose sums of 8-bit products are cut off where `sums_saturate`, unless the weights are made for it."""
WEIGHTS_BESIDE = {'.xml': lambda path: path.with_suffix('.bin'), '.onnx': lambda path: Path(f'{path}.data')}
"""The file of weights beside a file of an engine that may have one."""


@dataclass(frozen=True)
class Verification:
    """How far an artefact is from the network that it was made of.

    Attributes:
        images: What was shown: ``real:`` and the folder's name, or ``synthetic``.
        count: Number of images.
        tolerance: The largest difference that was allowed, relative to the largest output of the network.
        max_difference: The largest difference of an output, in the same unit.
        mean_difference: The mean difference of all outputs, in the same unit.
        agreement: Share of images, pixels or boxes of the same class, of 0 to 1; None for a feature pyramid.
    """

    images: str
    count: int
    tolerance: float
    max_difference: float
    mean_difference: float
    agreement: float | None = None


@dataclass(frozen=True)
class Manifest:
    """An artefact without its network, as ``model.onnx.json`` beside ``model.onnx`` describes it.

    Attributes:
        engine: Name of the engine that runs the artefact.
        engine_version: Version that has written it.
        sha256: Hash of the file and of the weights beside it, see `artefact_sha256`.
        source: What the user has named.
        model: timm's name, or the type of a detector or segmenter.
        weights_sha256: Hash of the weights that were exported, see `backbones.checkpoint.weights_sha256`.
        steps: What was done to the model before it was exported, a line each.
        task: Of ``TASKS``.
        size: Height and width of the images, in pixels.
        dynamic: Axes of any size: ``batch``, ``height``, ``width``.
        batch: Number of images of one run where it is fixed; None where any goes.
        dtype: Of ``DTYPES``.
        mean: Mean of each channel, of values in [0, 1].
        std: Standard deviation of each channel, of values in [0, 1].
        crop_pct: The share of the resized image's side that is shown.
        crop_mode: How the rest is cut off, as timm's.
        interpolation: How images are resized, as timm's.
        classes: Names of the classes, in the order of the logits; None if nothing tells them.
        outputs: Names of the outputs, in order.
        precision: Of ``PRECISIONS``.
        kept_in_fp32: Names of the layers of a quantised artefact that are not.
        calibration: How a quantised artefact was calibrated: images, their number, shifts.
        verification: Against the network that was exported; None where nothing was compared.
        versions: Versions of the packages that had a part in it.
        details: What else a task needs, such as the resizing of a detector's test pipeline.
    """

    engine: str
    engine_version: str
    sha256: str
    source: str
    model: str
    weights_sha256: str | None
    steps: list[str]
    task: str
    size: list[int]
    dynamic: list[str]
    batch: int | None
    dtype: str
    mean: list[float]
    std: list[float]
    crop_pct: float
    crop_mode: str
    interpolation: str
    classes: list[str] | None
    outputs: list[str]
    precision: str = 'fp32'
    kept_in_fp32: list[str] = field(default_factory=list)
    calibration: dict | None = None
    verification: Verification | None = None
    versions: dict[str, str] = field(default_factory=dict)
    details: dict = field(default_factory=dict)

    @staticmethod
    def path_beside(artefact: str | os.PathLike) -> Path:
        """Path of the manifest of an artefact."""
        return Path(f'{os.fspath(artefact)}.json')

    def write(self, artefact: str | os.PathLike) -> None:
        """Write the manifest beside an artefact."""
        write_json(self.path_beside(artefact), {'format': FORMAT, **asdict(self)})

    @classmethod
    def read(cls, artefact: str | os.PathLike) -> 'Manifest | None':
        """The manifest beside an artefact, or None if there is none.

        Raises:
            ValueError: The file is no manifest of this format, or is that of another artefact.
        """
        path = cls.path_beside(artefact)
        if not path.is_file():
            return None
        manifest = cls.from_json(read_json(path, 'export the model again'), str(path))
        found = artefact_sha256(artefact)
        if manifest.sha256 != found:
            raise ValueError(
                f"'{path}' describes a file of hash {manifest.sha256[:12]}, and '{artefact}' has {found[:12]}: it is "
                'damaged or of another model; export it again'
            )
        return manifest

    @classmethod
    def from_json(cls, content: Any, source: str = 'the manifest') -> 'Manifest':
        """A manifest from the content of its file.

        Args:
            content: JSON object of the file.
            source: Names the file in an error.

        Raises:
            ValueError: A field is missing, unknown or of another kind than its name says.
        """
        again = 'export the model again'
        if not isinstance(content, Mapping) or content.get('format') != FORMAT:
            was = content.get('format') if isinstance(content, Mapping) else None
            raise ValueError(f"'{source}' is no manifest of format {FORMAT} (it says {was!r}); {again}")
        given = {name: value for name, value in content.items() if name != 'format'}
        _check_fields(cls, given, source)
        if given.get('verification') is not None:
            if not isinstance(given['verification'], Mapping):
                raise ValueError(f"'{source}': verification is {given['verification']!r}; {again}")
            _check_fields(Verification, given['verification'], f'{source}: verification')
            given['verification'] = Verification(**given['verification'])
        for name, value in given.items():
            check, expected = _EXPECTED.get(name, (None, ''))
            if check is not None and not check(value):
                raise ValueError(f"'{source}': {name} is {value!r}; expected {expected}: {again}")
        return cls(**given)


def artefact_sha256(path: str | os.PathLike) -> str:
    """Hash of an artefact: of its file and, where the engine has a second one for the weights, of that one too."""
    path = Path(path)
    digest = hashlib.sha256()
    for file in artefact_files(path):
        with file.open('rb') as opened:
            while part := opened.read(1 << 20):
                digest.update(part)
    return digest.hexdigest()


def artefact_files(path: str | os.PathLike) -> list[Path]:
    """The files that an artefact consists of, of those that are there."""
    path = Path(path)
    beside = WEIGHTS_BESIDE.get(path.suffix)
    return [one for one in (path, *([beside(path)] if beside else [])) if one.is_file()]


def _check_fields(kind: type, given: Mapping, source: str) -> None:
    """Check that all fields that a dataclass requires are given, and no other than it has."""
    known = fields(kind)  # type: ignore[arg-type]
    required = {one.name for one in known if one.default is MISSING and one.default_factory is MISSING}
    missing, unknown = sorted(required - set(given)), sorted(set(given) - {one.name for one in known})
    if missing or unknown:
        what = f'lacks {", ".join(missing)}' if missing else f'has {", ".join(map(str, unknown))}, which is unknown'
        raise ValueError(f"'{source}' {what}; export the model again")


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_text_or_none(value: object) -> bool:
    return value is None or isinstance(value, str)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_list(value: object, check: Callable[[object], bool], length: int | None = None) -> bool:
    return (
        isinstance(value, list) and len(value) == (len(value) if length is None else length) and all(map(check, value))
    )


def _is_dict(value: object) -> bool:
    return isinstance(value, dict)


def _one_of(choices: tuple[str, ...]) -> tuple[Callable[[object], bool], str]:
    return (lambda value: value in choices), f'one of {", ".join(choices)}'


_TEXT = (_is_text, 'a text')
_EXPECTED: dict[str, tuple[Callable[[object], bool], str]] = {
    **dict.fromkeys(('engine', 'engine_version', 'sha256', 'source', 'model', 'crop_mode', 'interpolation'), _TEXT),
    'weights_sha256': (_is_text_or_none, 'a hash or null'),
    **dict.fromkeys(
        ('steps', 'outputs', 'kept_in_fp32', 'dynamic'), (lambda value: _is_list(value, _is_text), 'a list of texts')
    ),
    'task': _one_of(TASKS),
    'dtype': _one_of(DTYPES),
    'precision': _one_of(PRECISIONS),
    'size': (lambda value: _is_list(value, _is_whole, 2), 'height and width, in pixels'),
    'batch': (lambda value: value is None or _is_whole(value), 'a whole number or null'),
    'mean': (lambda value: _is_list(value, _is_number, 3), 'three numbers'),
    'std': (lambda value: _is_list(value, _is_number, 3) and min(value) > 0, 'three numbers above 0'),  # type: ignore[type-var]
    'crop_pct': (lambda value: _is_number(value) and 0 < value <= 1, 'a number above 0 and at most 1'),  # type: ignore[operator]
    'classes': (lambda value: value is None or _is_list(value, _is_text), 'a list of names or null'),
    'calibration': (lambda value: value is None or _is_dict(value), 'an object or null'),
    'versions': (_is_dict, 'an object'),
    'details': (_is_dict, 'an object'),
}
"""A check for each field of the file, and the words for what passes it."""


def artefact_record(manifest: Manifest) -> ArtefactRecord:
    """What ``results.json`` says of an artefact that was judged."""
    return {
        'engine': manifest.engine,
        'precision': cast(Any, manifest.precision),
        'engine_version': manifest.engine_version,
        'weights_sha256': manifest.weights_sha256,
        'kept_in_fp32': manifest.kept_in_fp32,
        'calibration': manifest.calibration,
    }


def caution(manifest: Manifest) -> str | None:
    """A line where an artefact may compute less exactly on this processor than it was made for.

    Of an older one nothing tells what it was made for.
    """
    quantised = manifest.details.get('quantised')
    is_made_for_it = isinstance(quantised, Mapping) and quantised.get('reduce_range')
    if manifest.precision != 'int8' or manifest.engine not in SATURATING or is_made_for_it or not sums_saturate():
        return None
    return (
        'sums of its products may be cut off on this processor, which has no VNNI; quantise again with --reduce-range '
        'for it'
    )
