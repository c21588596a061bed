"""The names of models to evaluate: what `backbones.sources` lists, or an exported file, with or without a run's name.

This module is light, so that a command can check the names before it imports torch.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from distill.engines import SUFFIXES, is_artefact

# The same as in `backbones`, which takes torch to import; a test compares them.
CHECKPOINTS = ('.pth', '.pt', '.ckpt', '.safetensors', '.bin', '.tar', '.pyth')
CONFIG = 'config.json'
HUB_FILES = ('model.safetensors', 'pytorch_model.bin', 'pytorch_model.pth', 'model.pth')
LOCAL = re.compile(r'local[-_]dir:')
HUB = re.compile(r'hf[-_]hub:')
NAME = re.compile(r'[\w.\-]+')


@dataclass(frozen=True)
class Source:
    """A model to evaluate.

    Attributes:
        name: Name of its run.
        path: What `backbones.load` takes: timm's name, or a file or folder with or without a name before it.
        is_file: Whether the model is in a file or folder on this machine.
        file: That file or folder, or None.
    """

    name: str
    path: str
    is_file: bool
    file: Path | None = None

    @classmethod
    def parse(cls, text: str) -> 'Source':
        """Read a source as a command takes it, with ``RUN=`` before it or without.

        Names of files and folders may hold ``=`` and ``@`` too: the longest path that exists is the one that is meant.
        """
        places = [-1, *(place for place, letter in enumerate(text) if letter == '=')]
        readings = [(text[:place] if place > 0 else '', text[place + 1 :]) for place in places]
        # Where nothing exists: before the first '=', a path has a folder and arguments have a name, a run has neither.
        is_run = '=' in text and not set(text.partition('=')[0]) & set('/,@:')
        guess = readings[1] if is_run else readings[0]
        name, path = next((one for one in readings if one[1] and _exists(one[1])), guess)
        file = _file(path)
        if file is None:
            return cls(name or path.partition(',')[0].partition('@')[0].rstrip('/').rpartition('/')[2], path, False)
        return cls(name or run_name(path), path, True, file)

    @property
    def is_artefact(self) -> bool:
        """Whether the file is one that an engine runs."""
        return self.file is not None and is_artefact(self.file)

    def check(self) -> None:
        """Check that a file or folder exists; timm's names are checked when the model is built.

        Raises:
            FileNotFoundError: The file or folder does not exist.
            ValueError: The folder is none of a timm model, or the run's name is not one of a folder, under which its
                files go.
        """
        if not self.path.strip():
            raise ValueError("the model's name is empty; give timm's name, a file or a folder")
        if not self.name.strip('.') or set(self.name) & set('/\\\0'):
            raise ValueError(f"run name '{self.name}' cannot be a folder's; choose one without '/' and '..'")
        if self.file is None:
            return
        if self.file.is_dir():
            if not (self.file / CONFIG).is_file():
                inside = sorted(one.name for one in self.file.iterdir() if one.suffix in (*CHECKPOINTS, *SUFFIXES))
                there = f'such as {inside[0]}' if inside else 'this one has none'
                raise ValueError(
                    f"model '{self.file}' is a folder without {CONFIG} as timm's models have; name the file of weights "
                    f'in it, {there}'
                )
        elif LOCAL.match(self.path):
            raise FileNotFoundError(f"folder '{self.file}' does not exist; correct the path")
        elif not self.file.exists():
            what, way_out = ('model', 'export') if self.is_artefact else ('checkpoint', 'train')
            raise FileNotFoundError(f"{what} '{self.file}' does not exist; {way_out} it first or correct the path")


def _exists(text: str) -> bool:
    """Whether a text names a file or folder that is there."""
    file = _file(text)
    return file is not None and file.exists()


def _file(text: str) -> Path | None:
    """The file or folder of a source, or None for a name of timm's or on the hub. See `backbones.sources`."""
    if HUB.match(text):
        return None
    if LOCAL.match(text):
        return Path(LOCAL.sub('', text, count=1))
    path = Path(text)
    if path.is_dir() and ((path / CONFIG).is_file() or NAME.fullmatch(text) is None or text in ('.', '..')):
        return path
    if path.exists() and not path.is_dir():
        return path
    _, named = split_named(text)
    if named is not None:
        return Path(LOCAL.sub('', named, count=1))
    is_path = path.suffix in (*CHECKPOINTS, *SUFFIXES) or set(text.partition(',')[0]) & set('/\\')
    return path if text and is_path else None


def split_named(text: str) -> tuple[str, str | None]:
    """Split ``NAME@FILE`` as `backbones.sources.source.split_named` does."""
    places = [place for place, letter in enumerate(text) if letter == '@']
    readings: list[tuple[str, str | None]] = [(text[:place], text[place + 1 :]) for place in places]
    readings = [one for one in readings if NAME.fullmatch(one[0].partition(',')[0]) and one[1]]
    there = [one for one in readings if Path(LOCAL.sub('', str(one[1]), count=1)).exists()]
    return (there or readings or [(text, None)])[0]


def run_name(source: str) -> str:
    """Name a run: after the work directory of a ``student_best``, after the folder of a timm model, else the file."""
    path = _file(source) or Path(source)
    if path.stem == 'student_best' or (path.name in HUB_FILES and (path.parent / CONFIG).is_file()):
        return path.resolve().parent.name
    if path.is_dir():
        return path.resolve().name
    return path.stem.removesuffix('.pth') if path.suffix == '.tar' else path.stem
