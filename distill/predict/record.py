"""The file ``predictions.json``, which is written image by image and is whole at any moment."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from distill.base.files import read_json, to_plain

FILE_NAME, PARTIAL_NAME = 'predictions.json', 'predictions.partial.json'
SCHEMA_VERSION = 1
KIND = 'predictions'


def check_replaceable(folder: Path) -> None:
    """Refuse to replace a ``predictions.json`` of another program.

    Raises:
        ValueError: The folder's file is none of this project's.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return
    try:
        content = read_json(path)
    except (ValueError, OSError):
        content = None
    if not isinstance(content, dict) or content.get('kind') != KIND:
        raise ValueError(f"'{path}' is no predictions of this project and is not overwritten; give another --out")


class PredictionFile:
    """Predictions on disk: each image is added when it is done, and no reader ever finds half an entry.

    While images are added the file is called ``predictions.partial.json`` and says ``"finished": false``. It gets its
    name when all is done; after an error or a kill it stays under the first one, with all images so far. An earlier
    ``predictions.json`` stays until then.

    Args:
        folder: Where the file goes; made if there is none.
        header: What stands before the images, by name.
    """

    def __init__(self, folder: Path, header: Mapping[str, Any]):
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.partial = folder / FILE_NAME, folder / PARTIAL_NAME
        self.count = 0
        # Without a buffer, so that a full disk is known when an image is added, and not when the file is closed.
        self._file = open(self.partial, 'wb', buffering=0)  # noqa: SIM115 - closed by __exit__
        opening = to_plain({'schema_version': SCHEMA_VERSION, 'kind': KIND, **header})
        lines = [f' {json.dumps(name)}: {_line(value)},' for name, value in opening.items()]
        try:
            self._end = 0
            self._append(_encode('\n'.join(['{', *lines, ' "images": ['])), self._footer(False))
        except BaseException:
            self._file.close()
            self.partial.unlink(missing_ok=True)
            raise

    def __enter__(self) -> 'PredictionFile':
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, entry: Mapping[str, Any]) -> None:
        """Add an image.

        Raises:
            OSError: The disk is full. The file is as it was before.
        """
        before = ',' if self.count else ''
        self._append(_encode(f'{before}\n  {_line(to_plain(entry))}'), self._footer(False))
        self.count += 1

    def finish(self, **more: Any) -> Path:
        """Say that all images are there, and give the file its name.

        Args:
            **more: What stands after the images.

        Returns:
            The file.
        """
        self._append(b'', self._footer(True, more))
        self._file.close()
        os.replace(self.partial, self.path)
        return self.path

    def discard(self) -> None:
        """Remove the file, which holds nothing worth keeping."""
        self._file.close()
        self.partial.unlink(missing_ok=True)

    def _footer(self, finished: bool, more: Mapping[str, Any] | None = None) -> bytes:
        lines = [
            f' {json.dumps(name)}: {_line(value)}' for name, value in {'finished': finished, **(more or {})}.items()
        ]
        return _encode('\n ],\n' + ',\n'.join(lines) + '\n}\n')

    def _append(self, content: bytes, footer: bytes) -> None:
        """Write over the footer; if the disk is full, the footer comes back, whose place on the disk is still there."""
        try:
            self._write(content + footer, self._end)
        except OSError:
            if self._end:
                old = self._footer(False)
                self._write(old, self._end)
                self._file.truncate(self._end + len(old))
            raise
        self._end += len(content)

    def _write(self, content: bytes, at: int) -> None:
        left = memoryview(content)
        while left:
            written = os.pwrite(self._file.fileno(), left, at)
            left, at = left[written:], at + written


def _line(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, allow_nan=False)


def _encode(text: str) -> bytes:
    """UTF-8; the bytes of a file's name that are none are written as JSON's ``\\udcff``, as Python reads them again."""
    return ''.join(f'\\u{ord(one):04x}' if '\ud800' <= one <= '\udfff' else one for one in text).encode()
