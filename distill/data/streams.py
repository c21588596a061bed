"""Sources of images that are read from their beginning: tar files one after the other, a pipe, a streamed data set."""

import contextlib
import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from typing import IO, Any, Protocol

from distill.base.folders import image_suffixes, is_visible
from distill.base.paths import PIPE
from distill.data.shards import find_shards
from distill.data.unlabelled import image_column, load_hub, open_cell

Encoded = tuple[str, bytes]
"""Name and content of an image file."""


class Stream(Protocol):
    """Images in an order that is the same each time they are read.

    Attributes:
        where: The stream, for messages.
        length: How many images it has, as soon as its end has been read.
    """

    where: str
    length: int | None

    def images(self, start: int) -> Iterator[Encoded]:
        """Read the images from one on, by its place in the stream."""


def open_stream(root: str, split: str, name: str) -> Stream:
    """Open a stream of images.

    Args:
        root: Folder of tar files, a tar file, ``pipe:COMMAND``, or for a Hugging Face data set the folder of downloads.
        split: Part of the names of the tar files, or a pattern that ends with ``.tar``; or part of the data set.
        name: ``hfds/<name>`` for a Hugging Face data set, else ``''`` or ``wds/``.

    Raises:
        FileNotFoundError: There are no such tar files, or there is no such data set.
        ValueError: The name is none of these, or a package is missing.
    """
    if name.lower().startswith('hfds/'):
        try:
            return HubStream(name.partition('/')[2], root, split)
        except ImportError:
            raise ValueError(f"stream '{name}' needs the package datasets; get it by `pip install datasets`") from None
    if name and not name.lower().startswith('wds'):
        raise ValueError(f"stream '{name}' is unknown; choose '' (tar files, pipe:COMMAND), wds/ or hfds/<name>")
    if root.startswith(PIPE):
        return PipeStream(root.removeprefix(PIPE).strip())
    if os.path.isfile(root):
        return TarStream([root])
    return TarStream([str(path) for path in find_shards(root, split)])


class TarStream:
    """The images of tar files, one file after the other in the order of their names.

    An image has a key as in WebDataset, its name up to the first dot: of several images of one key that follow one
    another, which may be masks or thumbnails, the first is taken.

    Args:
        paths: The tar files.
    """

    def __init__(self, paths: list[str]):
        self.paths, self.where = paths, paths[0] if len(paths) == 1 else f'{os.path.dirname(paths[0])}/*.tar'
        self.length: int | None = None
        self._counts: dict[str, int] = {}

    def images(self, start: int) -> Iterator[Encoded]:
        """Read the images from one on. A file that lies before it, and was read to its end once, is not opened.

        Raises:
            ValueError: A file is damaged.
        """
        passed = 0
        for path in self.paths:
            count = self._counts.get(path, 0)
            if path not in self._counts or passed + count > start:
                count = 0
                with open(path, 'rb') as file:
                    for name, content in _tar_images(file, path, 'r:', start - passed):
                        count += 1
                        if content is not None:
                            yield f'{path}/{name}', content
                self._counts[path] = count
            passed += count
        self.length = passed


class PipeStream:
    """The images of a tar file that a command writes to its output; reading again runs the command again.

    Args:
        command: The command, for a shell.
    """

    def __init__(self, command: str):
        self.command, self.where = command, f'{PIPE}{command}'
        self.length: int | None = None

    def images(self, start: int) -> Iterator[Encoded]:
        """Read the images from one on; those before it are passed over.

        Raises:
            ValueError: The command fails, or its output is no tar file.
        """
        count = 0
        with contextlib.ExitStack() as stack:
            process = subprocess.Popen(self.command, shell=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.kill)
            pipe: Any = stack.enter_context(process.stdout)  # type: ignore[arg-type]
            try:
                for name, content in _tar_images(pipe, self.where, 'r|', start):
                    count += 1
                    if content is not None:
                        yield f'{self.where}/{name}', content
            except ValueError as error:
                raise ValueError(f'{error}{_status(process)}') from None
            while pipe.read(2**20):  # Zeros that fill the last block.
                continue
            if process.wait():
                raise ValueError(f"command '{self.command}'{_status(process)}; correct it")
        self.length = count


def _status(process: subprocess.Popen) -> str:
    """The status of a command that has ended, as a part of a message."""
    try:
        status = process.wait(timeout=1)
    except subprocess.TimeoutExpired:
        return ''
    return f' has ended with status {status}' if status else ''


class HubStream:
    """The images of a Hugging Face data set that is streamed, and neither downloaded nor counted.

    Args:
        name: The data set: a name on the hub, or a folder.
        root: Folder that downloads are kept in; ``''`` for that of the package.
        split: Part of the data set; ``''`` means ``train``.
    """

    def __init__(self, name: str, root: str, split: str):
        import datasets

        self.name, self.where = name, f'hfds/{name}'
        self.length: int | None = None
        data = load_hub(name, root, split, streaming=True)
        self.column = image_column(name, data.features or data._resolve_features().features)
        self.data = data.select_columns(self.column).cast_column(self.column, datasets.Image(decode=False))

    def images(self, start: int) -> Iterator[Encoded]:
        """Read the images from one on."""
        index = None
        for index, row in enumerate(self.data.skip(start), start):
            cell = row[self.column] or {}
            try:
                with open_cell(cell) as file:
                    content = file.read()
            except (ValueError, OSError):
                content = b''  # Counted as broken when it is decoded.
            yield cell.get('path') or f'{self.where}, row {index}', content
        self.length = index + 1 if index is not None else sum(1 for _ in self.data)


class _Member(tarfile.TarInfo):
    """A member whose header must be whole: where one is not, tarfile takes the rest for the end of the file."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> '_Member':
        """Read the next header.

        Raises:
            tarfile.ReadError: It is damaged, or a file that can only be read on ends without the mark of its end.
        """
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            if 'empty' in str(error) and isinstance(tar.fileobj, io.BufferedReader):
                raise
            raise tarfile.ReadError(f'unexpected end of data: {error}') from None


def _tar_images(file: IO[bytes], where: str, mode: str, start: int) -> Iterator[tuple[str, bytes | None]]:
    """Names and contents of the images of a tar file, one of each key; no content of those before the start.

    Args:
        file: The open file.
        where: Its name, for the error.
        mode: tarfile's: ``r:``, or ``r|`` for a file that can only be read on.
        start: The first image whose content is wanted.

    Raises:
        ValueError: The file is damaged or no tar file.
    """
    kinds, last, count = image_suffixes(), None, 0
    try:
        with tarfile.open(fileobj=file, mode=mode, tarinfo=_Member) as tar:  # type: ignore[call-overload]
            for member in tar:
                folder, _, name = member.name.rpartition('/')
                stem, _, kind = name.partition('.')
                visible = bool(stem) and all(is_visible(part) for part in folder.split('/') if part != '.')
                if member.isfile() and visible and f'.{kind.lower()}' in kinds and (folder, stem) != last:
                    last = (folder, stem)
                    count += 1
                    yield member.name, _content(tar, member) if count > start else None
                tar.members = []  # type: ignore[misc]  # Else every header of the stream stays in memory.
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"tar file '{where}' is damaged ({error}); copy it again, or correct the command") from None


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    content = file.read() if file is not None else b''
    if len(content) < member.size:
        raise tarfile.ReadError('unexpected end of data')
    return content
