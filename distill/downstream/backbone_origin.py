"""What a detector's or segmenter's backbone started from, in a word: as it was trained, not as it is tested."""

import ast
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

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
    trained = saved_settings(meta.get('cfg')) if isinstance(meta, Mapping) else {}
    model = _student(trained.get('model')) or _student(tested['model'])
    backbone = model.get('backbone') or {}
    name = str(backbone.get('model') or type_name(backbone))
    init = backbone.get('init_cfg')
    first = backbone.get('checkpoint') or (init.get('checkpoint') if isinstance(init, Mapping) else None)
    whole = None if trained.get('resume') else trained.get('load_from')
    if whole:
        return f'{name} (of {"/".join(PurePath(whole).parts[-2:])})'
    if isinstance(first, str) and '://' not in first:
        return run_name(first)
    if first or model.get('pretrained'):
        return f'{name} ({first or model["pretrained"]})'
    return f'{name} (pretrained)' if backbone.get('pretrained') else f'{name} (from scratch)'


def saved_settings(text: Any) -> dict[str, Any]:
    """The settings of a config that mmengine has written into a checkpoint, read without running it.

    Args:
        text: Lines of ``name = value``, of which values are literals and ``dict(…)``.

    Returns:
        Settings by name; those that are none of these are left out.
    """
    try:
        lines = ast.parse(text).body if isinstance(text, str) else []
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return {}
    found = {}
    for line in lines:
        if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
            try:
                found[line.targets[0].id] = _value(line.value)
            except (ValueError, TypeError, RecursionError):
                continue
    return found


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict' and not node.args:
        return {word.arg: _value(word.value) for word in node.keywords}
    if isinstance(node, ast.Dict):
        return {
            _value(key): _value(value) for key, value in zip(node.keys, node.values, strict=True) if key is not None
        }
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(item) for item in node.elts]
    return ast.literal_eval(node)


def _student(model: Any) -> Mapping:
    """The model that is tested: of a distillation its student, of augmented tests what is inside."""
    if not isinstance(model, Mapping):
        return {}
    if type_name(model) == DISTILLER:
        return _student(model.get('student'))
    return model if 'backbone' in model else _student(model.get('module'))
