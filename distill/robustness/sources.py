"""The names of models to evaluate: a checkpoint, an ONNX file or a timm name.

This module is light, so that a command can check the names before it imports torch.
"""

from dataclasses import dataclass
from pathlib import Path

# The same as `backbones.checkpoint_file.ENDINGS`, which takes torch to import.
CHECKPOINTS = ('.pth', '.pt', '.ckpt', '.safetensors', '.bin', '.tar', '.pyth')
ONNX = '.onnx'


@dataclass(frozen=True)
class Source:
    """A model to evaluate.

    Attributes:
        name: Name of its run.
        path: The file, or timm's name.
        is_file: Whether the path is a file.
    """

    name: str
    path: str
    is_file: bool

    @classmethod
    def parse(cls, text: str) -> 'Source':
        """Read ``PATH`` or ``TIMM_NAME``, with ``NAME=`` before it or without, as a command takes it.

        Names of files and folders may hold ``=`` too: the longest path that exists is the one that is meant.
        """
        places = [-1, *(place for place, letter in enumerate(text) if letter == '=')]
        readings = [(text[:place] if place > 0 else '', text[place + 1 :]) for place in places]
        # Where nothing exists: a path has a folder before its first '=', a name has none.
        is_path = '=' not in text or '/' in text.partition('=')[0]
        guess = readings[0] if is_path else readings[1]
        name, path = next((one for one in readings if one[1] and Path(one[1]).exists()), guess)
        is_file = Path(path).suffix in (*CHECKPOINTS, ONNX) or Path(path).exists()
        # A name on the Hugging Face hub or of a local folder has slashes.
        return cls(name or (run_name(path) if is_file else path.rstrip('/').rpartition('/')[2]), path, is_file)

    @property
    def is_onnx(self) -> bool:
        """Whether the file is an ONNX graph."""
        return Path(self.path).suffix == ONNX

    def check(self) -> None:
        """Check that a file exists; timm's names are checked when the model is built.

        Raises:
            FileNotFoundError: The file does not exist.
            ValueError: The path is a folder, or the run's name is not one of a folder, under which its files go.
        """
        if not self.name.strip('.') or set(self.name) & set('/\\\0'):
            raise ValueError(f"run name '{self.name}' cannot be a folder's; choose one without '/' and '..'")
        if self.is_file and Path(self.path).is_dir():
            raise ValueError(
                f"model '{self.path}' is a folder; name the checkpoint in it, or give 'local-dir:{self.path}' for a "
                'folder in the layout of the Hugging Face hub'
            )
        if self.is_file and not Path(self.path).exists():
            what, way_out = ('model', 'export') if self.is_onnx else ('checkpoint', 'train')
            raise FileNotFoundError(f"{what} '{self.path}' does not exist; {way_out} it first or correct the path")


def run_name(checkpoint: str) -> str:
    """Name a run: after the work directory of a ``student_best.pth``, else after the file."""
    path = Path(checkpoint)
    return path.resolve().parent.name if path.stem == 'student_best' else path.stem
