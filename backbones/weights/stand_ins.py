"""Inert stand-ins for the Python objects that other programs leave beside the weights in a checkpoint.

Training scripts write their arguments, their configs and their logs into checkpoints: an ``argparse.Namespace``
(timm), a `HistoryBuffer` and numpy scalars (mmengine), hyperparameters and callbacks (Lightning). torch's weights-only
loading refuses a file for any one of them. With `safe_globals` it takes, under the name of a class, another class: the
stand-ins here do nothing, keep what they were given, or give plain values. None of the named classes is imported, and
no function of the file's choice is called. A name without a stand-in is left to torch, which refuses what it does not
know.
"""

import datetime
import io
import pickle
import re
import sys
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
"""The first object of a file that ``torch.save`` wrote before it wrote zip files."""

STANDARD = re.compile(
    r'argparse\.Namespace|pathlib(\._local)?\.\w*Path|types\.SimpleNamespace|functools\.partial|uuid\.UUID|typing\.\w+'
    r'|collections\.(deque|defaultdict)|decimal\.Decimal|fractions\.Fraction|enum\.\w+'
    r'|builtins\.(dict|list|tuple|str|bytes|int|float|bool|complex|object|frozenset|slice|range)'
)
"""Classes of Python's own library that have a stand-in."""

SCIENTIFIC = re.compile(
    r'numpy\.(dtype|ndarray|bool_?|u?int\d*|float\d*|str_)|numpy\.dtypes\.\w+DType|numpy\.random\.\w+\.(__|[A-Z])\w*'
    r'|numpy\._?core\.multiarray\.(_reconstruct|scalar)|torch\.torch_version\.TorchVersion'
    r'|torch\.(optim|amp|cuda\.amp)\.([\w.]+\.)?[A-Z]\w*'
)
"""Objects of numpy and torch that have a stand-in."""

OTHERS = re.compile(r'[\w.]+\._?[A-Z]\w*')
"""Classes of other packages, which are told from functions by the capital letter."""

DATES = [datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone]
"""Classes that are loaded as they are: nothing else than a date can be made of them."""


class Inert:
    """An object of another program.

    Attributes:
        args: What it would have been made of.
        state: Its attributes.
    """

    args: tuple
    state: Any

    def __new__(cls, *args, **kwargs):
        self = super().__new__(cls)
        self.args, self.state = args, None
        return self

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        self.state = state

    @classmethod
    def name(cls) -> str:
        """The full name of the class that this one stands for."""
        return f'{cls.__module__}.{cls.__qualname__}'


class _Watched(Inert):
    """Stands for everything in a file that is looked through, and notes whether it is used as a list or a dict."""

    uses: set[type]

    def __new__(cls, *args, **kwargs):
        if cls.__name__ in ('getattr', '_reconstructor') and args and isinstance(args[0], type):
            return args[0] if cls.__name__ == 'getattr' else args[0]()
        if len(args) == 1 and type(args[0]) in (dict, list):
            cls.uses.add(type(args[0]))
        return super().__new__(cls, *args)

    def __call__(self, *args):
        return self

    def append(self, item):
        self.uses.add(list)

    def extend(self, items):
        self.uses.add(list)

    def __setitem__(self, key, value):
        self.uses.add(dict)


class _Watcher(pickle.Unpickler):
    """Looks through a pickle without making any object that it names.

    Attributes:
        found: A class for each name.
    """

    def __init__(self, file: io.BufferedIOBase | io.BytesIO):
        super().__init__(file, encoding='latin1')
        self.found: dict[str, type[_Watched]] = {}

    def find_class(self, module: str, name: str) -> type[_Watched]:
        # Python 2's names, which pickles of protocol 2 use.
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        full = f'{module}.{name}'
        if full not in self.found:
            self.found[full] = type(name, (_Watched,), {'__module__': module, 'uses': set()})
        return self.found[full]

    def persistent_load(self, key):
        return None


def objects_in(path: Path) -> dict[str, set[type]]:
    """Look through a checkpoint of ``torch.save``, without loading anything.

    Args:
        path: The file.

    Returns:
        The full names of the objects besides plain values, and whether each is used as a list or a dict.

    Raises:
        Exception: The file is damaged; a damaged pickle raises almost anything.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            name = next((name for name in archive.namelist() if name.rpartition('/')[2] == 'data.pkl'), None)
            pickled = archive.read(name) if name else None
        watchers = [_Watcher(io.BytesIO(pickled))] if pickled is not None else []
        for watcher in watchers:
            watcher.load()
    else:
        with open(path, 'rb') as file:
            if _Watcher(file).load() != LEGACY_MAGIC:
                return {}
            # The protocol, the machine, and what was saved.
            watchers = [_Watcher(file) for _ in range(3)]
            for watcher in watchers:
                watcher.load()
    return {name: kind.uses for watcher in watchers for name, kind in watcher.found.items()}


def stand_ins_for(objects: dict[str, set[type]]) -> list[Callable | tuple[Callable, str]]:
    """What torch's weights-only loading shall take for the objects of a file, as arguments of ``safe_globals``.

    Args:
        objects: What `objects_in` found.
    """
    chosen: list[Callable | tuple[Callable, str]] = [*DATES]
    for name, uses in objects.items():
        module, _, last = name.rpartition('.')
        if name in SPECIAL:
            base = SPECIAL[name]
        elif _has_stand_in(name):
            base = _Dict if dict in uses else _List if list in uses else Inert
        else:
            continue
        chosen.append(type(last, (base,), {'__module__': module}))
    return chosen


def _has_stand_in(name: str) -> bool:
    top = name.partition('.')[0]
    if top in ('numpy', 'torch'):
        return SCIENTIFIC.fullmatch(name) is not None
    if top in sys.stdlib_module_names:
        return STANDARD.fullmatch(name) is not None
    return OTHERS.fullmatch(name) is not None


def plain(value: Any) -> Any:
    """Put plain values in the place of stand-ins that have one, in nested containers, which are changed in place."""
    return _plain(value, set())


def _plain(value: Any, seen: set[int]) -> Any:
    if isinstance(value, _Array):
        return value.state
    if isinstance(value, tuple) and type(value) is tuple:
        return tuple(_plain(one, seen) for one in value)
    if id(value) in seen or not isinstance(value, (dict, list, Inert)):
        return value
    seen.add(id(value))
    if isinstance(value, Inert):
        value.state = _plain(value.state, seen)
        return value
    items: Iterable = value.items() if isinstance(value, dict) else enumerate(value)
    for key, one in list(items):
        value[key] = _plain(one, seen)
    return value


# The classes below give a value of another type: torch fills lists and dicts only if they are just that.


class _List(Inert):
    def __new__(cls, *args):
        return list(args[0]) if args and isinstance(args[0], (list, tuple, set)) else []


class _Dict(Inert):
    def __new__(cls, *args):
        # An OrderedDict, since it takes attributes too.
        return OrderedDict(args[0] if args and isinstance(args[0], dict) else {})


class _Text(Inert):
    def __new__(cls, *args):
        return '/'.join(map(str, args))


def _check_owner(owner: Any, kind: type['Inert'], function: str) -> None:
    """Keep a function of pickle's to classes of other packages, or to one kind of stand-in."""
    is_fit = isinstance(owner, type) and issubclass(owner, kind)
    if not is_fit or (kind is Inert and owner.__module__.partition('.')[0] in sys.stdlib_module_names):
        raise pickle.UnpicklingError(f'GLOBAL {function} was not an allowed global')


class _Method(Inert):
    """``getattr``, as far as it names something of another package's class."""

    def __new__(cls, owner, name):
        _check_owner(owner, Inert, 'builtins.getattr')
        return owner


class _Reconstructor(Inert):
    def __new__(cls, owner, base=None, state=None):
        _check_owner(owner, Inert, 'copyreg._reconstructor')
        return owner()


class _DType(Inert):
    def numpy(self) -> np.dtype | None:
        """The type, if its values are plain ones."""
        code = self.args[0] if self.args else ''
        code = code.decode('ascii') if isinstance(code, bytes) else code
        if not isinstance(code, str) or not re.fullmatch(r'[biufc]\d{1,2}|[SU]\d{1,6}', code):
            return None
        order = self.state[1] if self.state else '='
        order = order.decode('ascii') if isinstance(order, bytes) else order
        return np.dtype(order + code) if order in ('<', '>', '=', '|') else None


class _Scalar(Inert):
    def __new__(cls, dtype, raw=b''):
        kind = dtype.numpy() if isinstance(dtype, _DType) else None
        raw = raw.encode('latin1') if isinstance(raw, str) else raw
        return np.frombuffer(raw, kind)[0].item() if kind is not None else super().__new__(cls, dtype, raw)


class _Array(Inert):
    """An array, which `plain` puts into its place."""

    def __setstate__(self, state):
        _, shape, dtype, is_fortran, raw = state
        kind = dtype.numpy() if isinstance(dtype, _DType) else None
        raw = raw.encode('latin1') if isinstance(raw, str) else raw
        if kind is not None and isinstance(raw, bytes):
            raw = np.frombuffer(raw, kind).reshape(shape, order='F' if is_fortran else 'C').copy()
        self.state = raw


class _Reconstruct(Inert):
    def __new__(cls, owner, *args):
        _check_owner(owner, _Array, 'numpy.core.multiarray._reconstruct')
        return owner()


SPECIAL: dict[str, type[Inert]] = {
    'builtins.getattr': _Method,
    'copyreg._reconstructor': _Reconstructor,
    'numpy.dtype': _DType,
    'numpy.ndarray': _Array,
    **{f'numpy.{core}.multiarray.scalar': _Scalar for core in ('core', '_core')},
    **{f'numpy.{core}.multiarray._reconstruct': _Reconstruct for core in ('core', '_core')},
    **{
        f'pathlib{part}.{kind}': _Text
        for part in ('', '._local')
        for kind in ('PosixPath', 'WindowsPath', 'PurePosixPath')
    },
    'torch.torch_version.TorchVersion': _Text,
    'collections.deque': _List,
    'collections.defaultdict': _Dict,
    'builtins.frozenset': _List,
}
"""Stand-ins for what plain values can be made of."""
