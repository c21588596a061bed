"""What is asked of an export, what comes of it, and how files come to their place: written aside, then moved."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from distill import __version__
from distill.base.files import temporary_path
from distill.engines import Engine, by_name
from distill.engines.artefact import Manifest, artefact_files
from distill.export.images import COUNT
from distill.export.verify import TOLERANCE

Make = Callable[[Engine, Path, Path], 'Exported']
"""Writes, verifies and describes the file of an engine, in a folder."""


@dataclass(frozen=True)
class Wish:
    """What is exported, and how it is verified.

    Attributes:
        engines: Names of the engines.
        features: Entries of ``feature_info`` for a feature pyramid; empty for the last four; None for a classifier.
        uint8: Whether the artefact normalises its images itself.
        batch: Images of a run, to fix it; None for any number.
        fixed_size: Whether to take images of the model's size only, which is exported sooner.
        images: Folder with images to verify with; None for synthetic ones.
        count: Number of these images.
        tolerance: See `distill.export.verify`.
        threads: Of the engines.
    """

    engines: tuple[str, ...] = ('onnx',)
    features: tuple[int, ...] | None = None
    uint8: bool = False
    batch: int | None = None
    fixed_size: bool = False
    images: Path | None = None
    count: int = COUNT
    tolerance: float = TOLERANCE
    threads: int | None = None


@dataclass(frozen=True)
class Exported:
    """A file that was written, with what stands beside it."""

    path: Path
    manifest: Manifest

    @property
    def size_mb(self) -> float:
        """Size of the file and of the weights beside it, in megabytes."""
        return sum(file.stat().st_size for file in artefact_files(self.path)) / 1e6


class ExportError(ValueError):
    """Some engines have failed.

    Attributes:
        failures: Why, by the name of the engine.
        exported: What the others have written.
    """

    def __init__(self, source: str, failures: Mapping[str, str], exported: Sequence[Exported]):
        written = ', '.join(one.path.name for one in exported) or 'nothing'
        reasons = '; '.join(f'{name}: {reason}' for name, reason in failures.items())
        super().__init__(f"'{source}' is not exported by {reasons} (written: {written})")
        self.failures, self.exported = dict(failures), list(exported)


def installed_engines(names: Sequence[str]) -> list[Engine]:
    """The engines of these names.

    Raises:
        ValueError: One is unknown, or its packages are missing.
    """
    engines = [by_name(one) for one in names]
    for engine in engines:
        lacking = engine.missing()
        if lacking:
            raise ValueError(f"engine '{engine.name}' needs {lacking}")
    return engines


def write_files(
    source: str,
    engines: Sequence[Engine],
    out: str | os.PathLike,
    name: str,
    make: Make,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Exported]:
    """Make the file of each engine; what fails is not left behind, and the others are.

    Args:
        source: What is exported, for the error.
        engines: The engines.
        out: Folder of the files.
        name: Their name, without the ending of each engine.
        make: Makes one.
        tell: Takes a line of progress.

    Returns:
        What was written, in the order of the engines.

    Raises:
        ExportError: An engine has failed.
    """
    exported: list[Exported] = []
    failures: dict[str, str] = {}
    with workspace(Path(out) / name) as folder:
        for engine in engines:
            tell(f'{engine.name}: writing and verifying')
            try:
                made = make(engine, folder / f'{name}{engine.suffix}', folder)
            except ValueError as error:
                failures[engine.name] = str(error)
                continue
            for file in artefact_files(made.path):
                os.replace(file, Path(out) / file.name)
            final = Path(out) / made.path.name
            made.manifest.write(final)
            exported.append(replace(made, path=final))
    if failures:
        raise ExportError(source, failures, exported)
    return exported


def versions() -> dict[str, str]:
    """Versions of what has a part in an export."""
    found = {'robust-backbones': __version__}
    for name in ('torch', 'timm', 'onnx', 'onnxscript', 'onnxruntime', 'openvino', 'mnn', 'executorch'):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


@contextmanager
def workspace(path: Path) -> Iterator[Path]:
    """A folder beside the files, on the same disk, that goes with all that is left in it."""
    folder = temporary_path(path, 'partial')
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
