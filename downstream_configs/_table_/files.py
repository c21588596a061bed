"""All files that the table gives, and the parameters that their headers tell."""

import re
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from downstream_configs._table_.backbones import BACKBONES
from downstream_configs._table_.distilled import distilled_files
from downstream_configs._table_.leaves import fragment, leaf
from downstream_configs._table_.pages import metafile, readme
from downstream_configs._table_.recipes import METHODS, configs

__all__ = ['FOLDERS', 'ROOT', 'count_millions', 'files', 'fragments', 'leaves', 'path_of', 'read_millions']

ROOT = Path(__file__).parents[1]
FOLDERS = sorted({method.folder for method in METHODS.values()})


def path_of(name: str) -> Path:
    """Return where the config of this name is."""
    recipe, _ = configs()[name]
    return ROOT / METHODS[recipe.method].folder / f'{name}.py'


def read_millions(name: str) -> str:
    """Return the parameters, in millions, that a config's header tells; '0.0' if there is no such file yet."""
    path = path_of(name)
    found = re.search(r'Cost: (\S+) M parameters', path.read_text(encoding='utf-8')) if path.is_file() else None
    return found[1] if found else '0.0'


def count_millions(name: str) -> str:
    """Build a config's model without storage, and return its parameters in millions."""
    config = Config.fromfile(path_of(name), import_custom_modules=False)
    config.model.backbone.pop('pretrained', None)
    init_default_scope(config.default_scope)
    with torch.device('meta'):
        model = MODELS.build(config.model)
    return f'{sum(p.numel() for p in model.parameters()) / 1e6:.1f}'


def fragments() -> dict[Path, str]:
    """Return the fragments of all backbones."""
    folder = ROOT / '_base_' / 'backbones'
    return {folder / f'{row.file}.py': fragment(row, BACKBONES.get(row.plain)) for row in BACKBONES.values()}


def leaves(millions: dict[str, str]) -> dict[Path, str]:
    """Return all configs.

    Args:
        millions: Parameters by a config's name.
    """
    return {path_of(name): leaf(*pair, millions[name]) for name, pair in configs().items()}


def pages(millions: dict[str, str]) -> dict[Path, str]:
    """Return READMEs and metafiles."""
    texts = {}
    for folder in FOLDERS:
        path = ROOT / folder / 'README.md'
        texts[path] = readme(path.read_text(encoding='utf-8'), folder, millions)
        texts[ROOT / folder / 'metafile.yml'] = metafile(folder)
    return texts


def files(millions: dict[str, str]) -> dict[Path, str]:
    """Return all files that the table gives."""
    return {**fragments(), **leaves(millions), **pages(millions), **distilled_files(ROOT, millions)}
