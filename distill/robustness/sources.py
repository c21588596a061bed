"""The names of models to evaluate: a checkpoint, an ONNX file or a timm name.

This module is light, so that a command can check the names before it imports torch.
"""

from dataclasses import dataclass
from pathlib import Path

CHECKPOINTS = ('.pth', '.tar', '.pt')
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
        """Read ``PATH`` or ``TIMM_NAME``, with ``NAME=`` before it or without, as a command takes it."""
        name, _, path = text.rpartition('=')
        is_file = Path(path).suffix in (*CHECKPOINTS, ONNX) or Path(path).exists()
        return cls(name or (run_name(path) if is_file else path), path, is_file)

    @property
    def is_onnx(self) -> bool:
        """Whether the file is an ONNX graph."""
        return Path(self.path).suffix == ONNX

    def check(self) -> None:
        """Check that a file exists; timm's names are checked when the model is built.

        Raises:
            FileNotFoundError: The file does not exist.
        """
        if self.is_file and not Path(self.path).exists():
            what, way_out = ('model', 'export') if self.is_onnx else ('checkpoint', 'train')
            raise FileNotFoundError(f"{what} '{self.path}' does not exist; {way_out} it first or correct the path")


def run_name(checkpoint: str) -> str:
    """Name a run: after the work directory of a ``student_best.pth``, else after the file."""
    path = Path(checkpoint)
    return path.resolve().parent.name if path.stem == 'student_best' else path.stem
