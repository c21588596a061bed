"""The content of a checkpoint file, read without running any code of the file's choice, and errors that name the file.

Files of ``torch.save`` (``.pth``, ``.pt``, ``.pth.tar``, ``.bin``, Lightning's ``.ckpt``) and safetensors are told by
their content, not by their names.
"""

import os
import pickle
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch

from backbones.weights.stand_ins import objects_in, plain, stand_ins_for

ENDINGS = ('.pth', '.pt', '.ckpt', '.safetensors', '.bin', '.tar', '.pyth')
"""Endings of the names of files that hold weights."""

AGAIN = 'copy or train it again'
NO_WEIGHTS = {
    b'version https://git-lfs': ('is a pointer of Git LFS, and not the weights', "run 'git lfs pull'"),
    b'<': ('is a web page or XML, and not the weights', 'download the file itself'),
    b'\x89HDF': ('is an HDF5 file', 'save a state dict by torch.save'),
    b'\x1f\x8b': ('is compressed by gzip', 'unpack it'),
    b'\x93NUMPY': ('is an array of numpy', 'save a state dict by torch.save'),
}
"""Beginnings of files that are taken for checkpoints by mistake: what such a file is, and the way out."""

WORST_COMPRESSION = 100
"""How many times larger than the file its content may be; ``torch.save`` does not compress."""


def read_checkpoint(path: str | os.PathLike, map_location: Any = 'cpu') -> Any:
    """Read a checkpoint: plain values and tensors, and inert stand-ins for other objects (see `stand_ins`).

    Args:
        path: A file that ``torch.save`` or safetensors wrote.
        map_location: As in ``torch.load``.

    Returns:
        What was saved.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is a folder, empty, damaged, no checkpoint, or holds what could run code.
    """
    path = Path(path)
    kind = _check_kind(path)
    try:
        if kind == 'safetensors':
            from safetensors.torch import load_file

            return {key: value.to(_device(map_location)) for key, value in load_file(path).items()}
        with torch.serialization.safe_globals(stand_ins_for(objects_in(path))), open(path, 'rb') as file:
            return plain(torch.load(file, map_location=map_location, weights_only=True))
    except pickle.UnpicklingError as error:
        raise ValueError(_refusal(path, str(error))) from None
    # A damaged file makes its readers raise almost anything.
    except Exception as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        reason = str(error).partition('\n')[0] or type(error).__name__
        raise ValueError(f"checkpoint '{path}' is damaged ({reason}); {AGAIN}") from None


def _device(map_location: Any) -> Any:
    return map_location if isinstance(map_location, (str, torch.device)) else 'cpu'


def _check_kind(path: Path) -> str:
    """Tell what a file is by its beginning: ``safetensors`` or ``torch``."""
    if path.is_dir():
        inside = sorted(one.name for one in path.iterdir() if one.suffix in ENDINGS)
        there = f'such as {inside[0]}' if inside else 'this one has none'
        raise ValueError(f"checkpoint '{path}' is a folder; name the file of weights in it, {there}")
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint '{path}' does not exist; train it first or correct the path")
    with open(path, 'rb') as file:
        start = file.read(64)
    if not start:
        raise ValueError(f"checkpoint '{path}' is empty; {AGAIN}")
    for beginning, (what, way_out) in NO_WEIGHTS.items():
        # A header of safetensors can begin with any byte, but not a text that has no JSON behind it.
        if start.lstrip().startswith(beginning) and start[8:9] != b'{':
            raise ValueError(f"checkpoint '{path}' {what}; {way_out}")
    if path.suffix == '.safetensors' and (start[:2] == b'PK' or start[:1] == b'\x80') and start[8:9] != b'{':
        raise ValueError(
            f"checkpoint '{path}' is called safetensors and is a pickle; save it again by safetensors, or call it .pth "
            'if torch.save has written it'
        )
    if start[:2] == b'PK':
        _check_zip(path)
        return 'torch'
    if start[:1] == b'\x80':
        if start[1] != 2:
            raise ValueError(
                f"checkpoint '{path}' is a pickle of protocol {start[1]}, and torch loads weights of protocol 2; "
                'save a state dict again by torch.save with its own defaults'
            )
        return 'torch'
    if start[8:9] == b'{' and struct.unpack('<Q', start[:8])[0] < path.stat().st_size:
        return 'safetensors'
    if path.suffix == '.safetensors' or start[8:9] == b'{':
        raise ValueError(f"checkpoint '{path}' is damaged (no whole header of safetensors); {AGAIN}")
    raise ValueError(f"checkpoint '{path}' is no file of torch.save or safetensors (it begins {start[:12]!r}); {AGAIN}")


def _check_zip(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        raise ValueError(f"checkpoint '{path}' is damaged (its end is missing); {AGAIN}")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            is_plausible = sum(one.file_size for one in entries) <= WORST_COMPRESSION * path.stat().st_size
            # torch writes checksums and does not read them; it can be told to write zeros.
            has_sums = any(one.CRC for one in entries)
            damaged = archive.testzip() if is_plausible and has_sums else None
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, ValueError, EOFError, RuntimeError) as error:
        raise ValueError(f"checkpoint '{path}' is damaged ({error}); {AGAIN}") from None
    if damaged:
        raise ValueError(f"checkpoint '{path}' is damaged (the checksum of {damaged} differs); {AGAIN}")
    names = {one.filename.rpartition('/')[2] for one in entries}
    if not is_plausible:
        raise ValueError(
            f"checkpoint '{path}' would grow to more than {WORST_COMPRESSION} times its size and is not read"
        )
    if 'constants.pkl' in names:
        raise ValueError(
            f"checkpoint '{path}' is a TorchScript program; save the state dict of its model by torch.save"
        )
    if 'data.pkl' not in names:
        raise ValueError(
            f"checkpoint '{path}' is a zip file of something else (with {min(names, default='nothing')}); "
            'give the file that torch.save wrote, unpacked if need be'
        )


def _refusal(path: Path, message: str) -> str:
    """The error about a file with objects that have no stand-in, given torch's message."""
    named = re.search(r'GLOBAL (\S+)', message)
    protocol = re.search(r'Unsupported operand (149|14[0-8]|15[01])', message)
    if protocol:
        return (
            f"checkpoint '{path}' holds a pickle of a protocol above 2, which torch does not load with weights only; "
            'save a state dict again by torch.save with its own defaults'
        )
    what = f'it names {named[1]}' if named else message.strip().splitlines()[-1]
    if named and re.match(r'torch(vision)?\.(nn|models)\.', named[1]):
        what += ': a whole model'
    return (
        f"checkpoint '{path}' holds Python objects besides tensors and is not loaded, since that could run code "
        f'({what}); save a plain state dict, which model.state_dict() gives'
    )
