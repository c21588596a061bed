"""Configs and matrices that come with this project, found by name wherever it is installed."""

import difflib
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The clone, or the folder that the packages are installed in."""
ENDINGS = ('.py', '.json', '.yaml', '.yml')
"""The formats of a config that mmengine reads and writes."""
SHOWN = 12
"""Names in a message at the most."""


@dataclass(frozen=True)
class Kind:
    """A kind of file that a command takes by path or by name.

    Attributes:
        word: What users call the file.
        folders: Folders with such files below `ROOT`, each with the task that they are for.
        listed_by: The command that lists the names, or None.
    """

    word: str
    folders: dict[str, str]
    listed_by: str | None = None


CONFIG = Kind(
    'config',
    {
        'distill/configs/imagenet': 'distillation',
        'distill/configs/cifar10': 'distillation',
        'distill/configs/shapes': 'distillation',
        'downstream_configs/cascade_rcnn': 'detection',
        'downstream_configs/deeplabv3': 'segmentation',
        'downstream_configs/distilled': 'dense distillation',
    },
    'robust-backbones configs',
)
MATRIX = Kind('matrix', {'distill/matrices': 'transfer'})


@dataclass(frozen=True)
class Packaged:
    """A file that comes with this project."""

    name: str
    path: Path
    task: str

    def headline(self) -> str:
        """The first sentence of the file's docstring, which says what the file describes."""
        return ' '.join(self.docstring().strip('"').strip().partition('\n\n')[0].split())

    def docstring(self) -> str:
        """The docstring with its quotes, as the file has it."""
        text = self.path.read_text(encoding='utf-8')
        return text[: text.index('"""', 3) + 3]


def packaged(kind: Kind = CONFIG) -> list[Packaged]:
    """All files of a kind, folder by folder, by name."""
    return [
        Packaged(path.stem, path, task)
        for folder, task in kind.folders.items()
        for path in sorted((ROOT / folder).glob('*.py'))
    ]


def matching(pattern: str, kind: Kind = CONFIG) -> list[Packaged]:
    """The files whose names fit a pattern.

    A name that is the pattern fits alone. Otherwise those fit that have the pattern in them, case aside; where there
    are none, those that have all of its parts, which ``_``, ``/`` and spaces divide. A pattern with ``*`` or ``?`` is
    one of the shell's.

    Args:
        pattern: A name, a part of it or several, such as ``deit-s_dw-s_imagenet``.
        kind: What is looked for.
    """
    files, pattern = packaged(kind), pattern.lower()
    if exact := [file for file in files if file.name.lower() == pattern]:
        return exact
    if '*' in pattern or '?' in pattern:
        return [file for file in files if fnmatchcase(file.name.lower(), pattern)]
    named = {f'{file.path.parent.name}/{file.name}'.lower(): file for file in files}
    if pattern and (whole := [file for name, file in named.items() if pattern in name]):
        return whole
    parts = [part for part in re.split(r'[_/\s]+', pattern) if part]
    return [file for name, file in named.items() if parts and all(part in name for part in parts)]


def find(text: str, kind: Kind = CONFIG) -> str:
    """The path of a file that is given by its path or by a name, of which unique parts suffice.

    A path that exists comes first, as it is given. Of names that go on where another one that fits ends, the short one
    is meant. The path of a file of this project, such as
    ``distill/configs/shapes/deit-mini_shapes.py``, is right from any folder.

    Args:
        text: What the user has given.
        kind: What is looked for.

    Raises:
        FileNotFoundError: There is no such file, and no such name.
        ValueError: Several names fit.
    """
    path = Path(text)
    if path.is_file():
        return text
    if path.suffix in ENDINGS or path.is_absolute():
        own = ROOT / path
        if path.parent.as_posix() in kind.folders and own.is_file():
            return str(own)
        same = [file.name for file in packaged(kind) if file.name == path.stem]
        hint = f"'{same[0]}' without a folder and an ending is this project's" if same else _see(kind)
        raise FileNotFoundError(f"{kind.word} '{text}' does not exist; {hint}")
    found = matching(text, kind)
    # A name that goes on where another one ends is a variant of it: the same student, with a teacher.
    found = [file for file in found if not any(file.name.startswith(f'{other.name}_') for other in found)]
    if len(found) == 1:
        return str(found[0].path)
    if found:
        names = [file.name for file in found]
        more = f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''
        raise ValueError(
            f"{kind.word} '{text}' is ambiguous, it fits {', '.join(names[:SHOWN])}{more}; give more of the name"
        )
    close = difflib.get_close_matches(text.lower(), [file.name for file in packaged(kind)], n=3, cutoff=0.5)
    hint = f'did you mean {", ".join(close)}?' if close else _see(kind)
    what = 'is a folder, and no name' if text and path.is_dir() else 'does not exist, as a file or as a name'
    raise FileNotFoundError(f"{kind.word} '{text}' {what}; {hint}")


def _see(kind: Kind) -> str:
    if kind.listed_by:
        return f'`{kind.listed_by}` lists the names'
    return f'choose from {", ".join(file.name for file in packaged(kind))}'
