"""What a dumped config says about the training of a student, in words. The file is read, and never run."""

import ast
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """The config that mmengine writes to a work directory when it trains.

    Attributes:
        name: Name of the file.
        text: Its content.
        values: What the config sets, by name.
    """

    name: str
    text: str
    values: dict[str, Any]

    def value(self, place: str) -> Any:
        """A value by keys with dots between them; None where it is not there."""
        value: Any = self.values
        for key in place.split('.'):
            value = value.get(key) if isinstance(value, dict) else None
        return value


def find_recipe(weights: str | os.PathLike, model: str, seed: int | None) -> Recipe | None:
    """The newest config beside a file of weights that trains such a student, or None.

    Args:
        weights: The file.
        model: timm's name of the student.
        seed: Seed of its run; None for any.
    """
    for path in sorted(Path(weights).parent.glob('*.py'), key=lambda path: path.stat().st_mtime, reverse=True):
        recipe = read_recipe(path)
        if recipe is None or recipe.value('model.student.model') != model:
            continue
        if seed is None or recipe.value('randomness.seed') in (None, seed):
            return recipe
    return None


def read_recipe(path: Path) -> Recipe | None:
    """A dumped config: assignments of plain values and of ``dict(…)``. None for any other file."""
    try:
        text = path.read_text(encoding='utf-8')
        statements = ast.parse(text).body
    except (OSError, ValueError, SyntaxError, RecursionError):
        return None
    values = {}
    for statement in statements:
        if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
            return None
        values[statement.targets[0].id] = _value(statement.value)
    return Recipe(path.name, text, values)


def _value(node: ast.expr) -> Any:
    """The value of an expression; what is neither plain nor a ``dict(…)`` is its source."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict' and not node.args:
        return {pair.arg or '**': _value(pair.value) for pair in node.keywords}
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(one) for one in node.elts]
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        return ast.unparse(node)


def recipe_rows(recipe: Recipe) -> list[tuple[str, str]]:
    """Names and words for the parts of a recipe that decide what a student becomes."""
    optimizer = recipe.value('optim_wrapper.optimizer') or {}
    schedules = [one for one in recipe.value('param_scheduler') or [] if isinstance(one, dict)]
    batch = recipe.value('train_dataloader.batch_size')
    epochs, iterations = recipe.value('train_cfg.max_epochs'), recipe.value('train_cfg.max_iters')
    rows = {
        'Losses': ' + '.join(_with_type(one) for one in recipe.value('model.losses') or []),
        'Training data': _with_type(_without(recipe.value('train_dataloader.dataset'), 'transform')),
        'Views': _listed(recipe.value('train_dataloader.dataset.transform')),
        'Mixing': _listed(recipe.value('model.data_preprocessor.mixup')),
        'Optimizer': _with_type(optimizer),
        'Schedule': ', then '.join(_with_type(one) for one in schedules),
        'Length': f'{epochs} epochs' if epochs else f'{iterations} iterations' if iterations else '',
        'Batch': f'{batch} images a process' if batch else '',
        'Average of the weights': _with_type(recipe.value('default_hooks.ema')),
        'Precision': 'mixed' if recipe.value('optim_wrapper.type') == 'AmpOptimWrapper' else '',
    }
    return [(name, text) for name, text in rows.items() if text]


def _without(settings: Any, *names: str) -> Any:
    return {key: value for key, value in settings.items() if key not in names} if isinstance(settings, dict) else None


def _with_type(settings: Any) -> str:
    """``type`` of some settings, with the others behind it."""
    if not isinstance(settings, dict):
        return ''
    others = _listed(_without(settings, 'type', 'convert_to_iter_based'))
    kind = str(settings.get('type', '')).rpartition('.')[2]
    return f'{kind} ({others})' if kind and others else kind or others


def _listed(settings: Any) -> str:
    if not isinstance(settings, dict):
        return ''
    return ', '.join(f'{key}={_short(value)}' for key, value in settings.items())


def _short(value: Any) -> str:
    return '×'.join(map(str, value)) if isinstance(value, list) and value else str(value)
