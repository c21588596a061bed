"""Writes the list of configs in each README, and the metafiles."""

import re

from distill.base.markdown import table
from downstream_configs._table_.backbones import Backbone
from downstream_configs._table_.recipes import METHODS, Recipe, configs
from downstream_configs._table_.scores import PUBLISHED, target

__all__ = ['metafile', 'readme']

MARK = '<!-- What follows is written by `make configs`. -->\n'
TASKS = {'box AP': 'Object Detection', 'mask AP': 'Instance Segmentation', 'mIoU': 'Semantic Segmentation'}


def readme(text: str, folder: str, millions: dict[str, str]) -> str:
    """Write the list of configs into a README.

    Args:
        text: The README. What stands above the mark stays as it is.
        folder: Which configs.
        millions: Parameters by a config's name.

    Raises:
        ValueError: The README has no mark.
    """
    prose, mark, _ = text.partition(MARK)
    if not mark:
        raise ValueError(f'downstream_configs/{folder}/README.md lacks the line {MARK!r}; put it above the list')
    rows = [
        (f'[{name}]({name}.py)', millions[name], target(recipe, backbone))
        for name, (recipe, backbone) in _of(folder).items()
    ]
    return f'{prose}{mark}\n{table(("config", "parameters (M)", "target"), rows, "lll")}\n'


def _of(folder: str) -> dict[str, tuple[Recipe, Backbone]]:
    return {name: pair for name, pair in configs().items() if METHODS[pair[0].method].folder == folder}


def metafile(folder: str) -> str:
    """Write a folder's ``metafile.yml``, as OpenMMLab's model indices read it."""
    methods = [method for method in METHODS.values() if method.folder == folder]
    lines = [
        '# Written by `make configs` from downstream_configs/_table_: change it there.',
        '# Results are those published elsewhere for the recipe, with their source; no weights come with them.',
        'Collections:',
    ]
    for method in methods:
        lines += [
            f'  - Name: {method.label}',
            '    Metadata:',
            '      Architecture:',
            *(f'        - {part}' for part in method.architecture),
            '    Paper:',
            f'      Title: {_quoted(method.title)}',
            f'      URL: {method.url}',
            f'    README: downstream_configs/{folder}/README.md',
        ]
    lines += ['', 'Models:']
    for name, pair in _of(folder).items():
        lines += _model(name, folder, *pair)
    return '\n'.join([*lines, ''])


def _model(name: str, folder: str, recipe: Recipe, backbone: Backbone) -> list[str]:
    unit, number = recipe.length
    lines = [
        f'  - Name: {name}',
        f'    In Collection: {METHODS[recipe.method].label}',
        f'    Config: downstream_configs/{folder}/{name}.py',
        '    Metadata:',
        f'      Training Data: {recipe.setting.data}',
        f'      {unit}: {number}',
        f'      Backbone: {backbone.label[0].upper()}{backbone.label[1:]}',
    ]
    score = PUBLISHED.get(name)
    if score is None or not score.same:
        return lines
    lines.append('    Results:')
    for metric, task in TASKS.items():
        metrics = {name: value for name, value in score.metrics.items() if name.startswith(metric)}
        if metrics:
            lines += [f'      - Task: {task}', f'        Dataset: {recipe.setting.data}', '        Metrics:']
            lines += [f'          {name}: {value}' for name, value in metrics.items()]
            lines.append(f'        Source: {_quoted(score.source)}')
    return lines


def _quoted(text: str) -> str:
    """Quote what YAML would otherwise take for more than a string."""
    return f"'{text}'" if re.search(r': | #', text) else text
