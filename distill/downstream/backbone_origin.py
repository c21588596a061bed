"""What a detector's or segmenter's backbone started from, in a word: as it was trained, not as it is tested."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from backbones.sources.told import literal_config
from distill.downstream.student_config import DISTILLER
from distill.robustness.sources import run_name
from distill.training.runner import type_name


def backbone_name(tested: Mapping, meta: Any) -> str:
    """The run that a backbone comes from, or its model's name and its first weights.

    Args:
        tested: The config of the test, or its ``model`` and ``load_from`` alone.
        meta: What the tested checkpoint says of itself. The config that it was trained with, where it has one, counts:
            a test needs no weights for the backbone, so its config need not name them.
    """
    saved = meta.get('cfg') if isinstance(meta, Mapping) else None
    trained = literal_config(saved) if isinstance(saved, str) else {}
    model = _student(trained.get('model')) or _student(tested['model'])
    backbone = model.get('backbone') or {}
    name = str(backbone.get('model') or type_name(backbone) or 'backbone')
    init = backbone.get('init_cfg')
    first = backbone.get('checkpoint') or (init.get('checkpoint') if isinstance(init, Mapping) else None)
    whole = None if trained.get('resume') else trained.get('load_from')
    if isinstance(whole, str):
        return f'{name} (of {"/".join(PurePath(whole).parts[-2:])})'
    if isinstance(first, str) and '://' not in first:
        return run_name(first)
    if first or model.get('pretrained'):
        return f'{name} ({first or model["pretrained"]})'
    return f'{name} (pretrained)' if backbone.get('pretrained') else f'{name} (from scratch)'


def _student(model: Any) -> Mapping:
    """The model that is tested: of a distillation its student, of augmented tests what is inside."""
    if not isinstance(model, Mapping):
        return {}
    if type_name(model) == DISTILLER:
        return _student(model.get('student'))
    return model if isinstance(model.get('backbone'), Mapping) else _student(model.get('module'))
