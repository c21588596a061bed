"""The file beside a checkpoint: everything but the weights that is needed to build and to use the model again."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from backbones.files import atomic_write

CROP_MODES = ('center', 'squash', 'border')
INTERPOLATIONS = ('bicubic', 'bilinear', 'nearest', 'box', 'hamming', 'lanczos', 'random')
"""timm's names."""


@dataclass(frozen=True)
class ModelRecord:
    """A model without its weights, as ``student_best.json`` beside ``student_best.pth`` describes it.

    Only ``model`` is required. Other numbers in the file, such as the validation score by which the best student was
    chosen, are ``scores``.

    Attributes:
        model: timm's name.
        model_kwargs: Further arguments of ``timm.create_model``.
        teacher: Config of the teacher, or of each of several; None for a model that had none.
        classes: Names of the classes, in the order of the logits.
        input_size: Channels, height and width of the validation images, in pixels.
        mean: Mean of each channel, of values in [0, 1], by which the input is normalised.
        std: Standard deviation of each channel, of values in [0, 1], by which the input is normalised.
        crop_pct: The share of the resized image's side that is shown, above 0 and at most 1.
        crop_mode: How the rest is cut off: ``center``, ``squash`` or ``border``, as timm's.
        interpolation: How images are resized: ``bicubic``, ``bilinear`` or another of timm's names.
        epoch: Epochs of training.
        seed: Seed of the run.
        weights_sha256: Hash of the weights, see `backbones.checkpoint.weights_sha256`.
        seen_kinds: Kinds of corruption, and mixtures such as ``augmix``, that the model saw in training; None for none.
        scores: Validation scores by name.
    """

    model: str
    model_kwargs: dict = field(default_factory=dict)
    teacher: dict | list[dict] | None = None
    classes: list[str] | None = None
    input_size: list[int] | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    crop_pct: float | None = None
    crop_mode: str | None = None
    interpolation: str | None = None
    epoch: int | None = None
    seed: int | None = None
    weights_sha256: str | None = None
    seen_kinds: list[str] | None = None
    scores: dict[str, float] = field(default_factory=dict)

    @staticmethod
    def path_beside(checkpoint: str | os.PathLike) -> Path:
        """Path of the record of a checkpoint."""
        return Path(checkpoint).with_suffix('.json')

    @classmethod
    def read(cls, checkpoint: str | os.PathLike) -> 'ModelRecord | None':
        """The record beside a checkpoint, or None if there is none.

        Raises:
            ValueError: The file is no JSON, or a value in it is of another kind than its name says.
        """
        path = cls.path_beside(checkpoint)
        if not path.is_file():
            return None
        try:
            content = json.loads(path.read_text(encoding='utf-8'))
        except ValueError as error:
            raise ValueError(f"'{path}' is not valid JSON ({error}); save the model again") from None
        # Another program's JSON file may have the checkpoint's name.
        return cls.from_json(content, str(path)) if isinstance(content, dict) and 'model' in content else None

    @classmethod
    def from_json(cls, content: Mapping, source: str = 'the record') -> 'ModelRecord':
        """A record from the content of its file.

        Args:
            content: JSON object of the file.
            source: Names the file in an error.

        Raises:
            ValueError: A value is of another kind than its name says.
        """
        known = {name: content[name] for name in _EXPECTED if content.get(name) is not None}
        for name, value in known.items():
            check, expected = _EXPECTED[name]
            if not check(value):
                raise ValueError(f"'{source}': {name} is {value!r}; expected {expected}: correct it or save again")
        channels = known['input_size'][0] if 'input_size' in known else 3
        for name in ('mean', 'std'):
            if name in known and len(known[name]) != channels:
                raise ValueError(
                    f"'{source}': {name} is {known[name]!r}; expected a number for each of {channels} channels: "
                    'correct it or save again'
                )
        others = {name: value for name, value in content.items() if name not in _EXPECTED}
        return cls(**known, scores={name: value for name, value in others.items() if _is_number(value)})

    def to_json(self) -> dict:
        """The content of the file. Unknown fields are left out, except for the teacher: its absence is a fact."""
        content = {one.name: getattr(self, one.name) for one in fields(self) if one.name != 'scores'}
        content = {name: value for name, value in content.items() if value is not None or name == 'teacher'}
        return {**content, **self.scores}

    def write(self, checkpoint: str | os.PathLike) -> None:
        """Write the record beside a checkpoint."""
        with atomic_write(self.path_beside(checkpoint)) as temporary:
            temporary.write_text(json.dumps(self.to_json(), indent=1), encoding='utf-8')


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_dict(value: object) -> bool:
    return isinstance(value, dict)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_positive(value: object) -> bool:
    return _is_whole(value) and value != 0


def _is_list(value: object, check, length: int | None = None) -> bool:
    return isinstance(value, list) and len(value) == (length or len(value)) and all(map(check, value))


_EXPECTED = {
    'model': (_is_text, "timm's name of a model"),
    'model_kwargs': (_is_dict, 'arguments by name'),
    'teacher': (
        lambda value: isinstance(value, dict) or _is_list(value, lambda one: isinstance(one, dict)),
        'a teacher',
    ),
    'classes': (lambda value: _is_list(value, _is_text), 'a list of names'),
    'input_size': (lambda value: _is_list(value, _is_positive, 3), 'channels, height and width, in pixels'),
    'mean': (lambda value: _is_list(value, _is_number) and value, 'a number for each channel'),
    'std': (
        lambda value: _is_list(value, _is_number) and value and min(value) > 0,
        'a number above 0 for each channel',
    ),
    'crop_pct': (lambda value: _is_number(value) and 0 < value <= 1, 'a number above 0 and at most 1'),
    'crop_mode': (lambda value: value in CROP_MODES, f'one of {", ".join(CROP_MODES)}'),
    'interpolation': (lambda value: value in INTERPOLATIONS, f'one of {", ".join(INTERPOLATIONS)}'),
    'epoch': (_is_whole, 'a whole number'),
    'seed': (_is_whole, 'a whole number'),
    'weights_sha256': (_is_text, 'a hash'),
    'seen_kinds': (lambda value: _is_list(value, _is_text), 'a list of names'),
}
"""A check for each field of the file, and the words for what passes it."""
