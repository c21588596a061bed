"""Makes a ``.pt2`` of which torch runs nothing but tensor operations.

What ``torch.export.load`` of torch 2.14 does with a file: unpickles sample inputs, and weights and constants that are
marked so; loads compiled libraries; evaluates the expressions of sizes and guards as Python; and takes as an operation
whatever attribute of torch a name leads to. So a file is read here entry by entry, all that a network needs is checked
against short lists, and the rest is left out. The copy is made in memory, so that torch reads what was checked.
"""

import io
import json
import os
import re
import zipfile
from collections.abc import Iterator
from typing import Any

MODEL, INPUTS = 'models/model.json', 'data/sample_inputs/model.pt'
CONFIGS = ('data/weights/model_weights_config.json', 'data/constants/model_constants_config.json')
RAW = re.compile(r'data/(weights/weight|constants/tensor)_\d+')
PLAIN = re.compile(r'archive_format|archive_version|byteorder|\.data/(version|serialization_id)')
OPERATION = re.compile(
    r'torch\.ops\.(aten|prims|torchvision)\.\w+\.\w+|torch\.sym_\w+|math\.(ceil|floor|trunc|sqrt|pow)|'
    r'_operator\.(add|sub|mul|floordiv|truediv|mod|neg|pos|pow|lt|le|gt|ge|eq|ne|and_|or_|not_|getitem)'
)
"""Operations on tensors and numbers."""
TOUCHES_FILES = re.compile(r'torch\.ops\.aten\.(from_file|save|load|_?print|warn)\b.*')
WORDS = ('none', 'tanh', 'floor', 'trunc', 'constant', 'reflect', 'replicate', 'circular', 'zeros', 'border', 'same',
         'valid', 'linear', 'bilinear', 'nearest', 'sum', 'mean', 'cpu', 'ij', 'xy')  # fmt: skip
"""Texts that operations take. A name of a file is none of them."""
COMPLAINT = re.compile(r"Runtime assertion failed for expression [\w()+\-*/<>=&|~ ]+ on node '\w+'")
"""What torch has a program say when a size is out of its bounds: text that is printed, and nothing else."""
SYMBOLS = re.compile(
    r'[suz]\d+|\d+|FloorDiv|CeilDiv|CleanDiv|ModularIndexing|Mod|PythonMod|Max|Min|Where|PowByNatural|IntTrueDiv|'
    r'ToFloat|TruncToInt|FloorToInt|CeilToInt|Eq|Ne|(Strict)?(Greater|Less)Than|And|Or|Not|oo|int_oo|True|False|Add|Mul|'
    r'Pow|Integer|Rational'
)
"""What the expression of a size consists of, beside signs."""
SYMBOL = re.compile(r"Symbol\('[suz]\d+'(, (positive|nonnegative|integer|real)=True)*\)")
"""An unknown size."""
CONTAINERS = ('builtins.tuple', 'builtins.list', 'builtins.dict', 'collections.OrderedDict', None)
FORBIDDEN = ('as_custom_obj', 'custom_obj', 'as_graph', 'as_opaque_obj')
"""Arguments that are no tensors, numbers or texts."""


def clean_copy(path: str | os.PathLike) -> io.BytesIO:
    """A copy of a file, in memory, that is safe to load.

    Raises:
        ValueError: The file is no such program, is damaged, or holds what is no tensor operation.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {name.partition('/')[2]: archive.read(name) for name in archive.namelist()}
        if MODEL not in entries or not set(CONFIGS) <= set(entries):
            raise ValueError('it holds no exported program')
        program = json.loads(entries[MODEL])
        configs = {name: json.loads(entries[name]) for name in CONFIGS}
        _check_program(program)
        for name, config in configs.items():
            _check_config(name, config, entries)
    except (zipfile.BadZipFile, KeyError, TypeError, AttributeError, ValueError, RecursionError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"'{path}' cannot be read as a program of torch ({error}); export it again") from None
    copy = io.BytesIO()
    with zipfile.ZipFile(copy, 'w', zipfile.ZIP_STORED) as archive:
        for name, content in entries.items():
            if PLAIN.fullmatch(name) or RAW.fullmatch(name) or name in CONFIGS:
                archive.writestr(f'model/{name}', content)
        archive.writestr(f'model/{MODEL}', json.dumps(program))
        archive.writestr(f'model/{INPUTS}', b'')
    copy.seek(0)
    return copy


def _check_program(program: dict) -> None:
    """Check the description of a program, and take out what nothing needs."""
    program['guards_code'] = []
    for key, value in _walk(program):
        if key in FORBIDDEN and value is not None:
            raise ValueError(f'it holds an object of its own ({key}), which may be code')
        if key in ('target', 'as_operator') and isinstance(value, str):
            if not OPERATION.fullmatch(value) or TOUCHES_FILES.fullmatch(value):
                raise ValueError(f"'{value}' is no operation on tensors")
        elif key == 'as_string' and value not in WORDS and not COMPLAINT.fullmatch(value):
            raise ValueError(f'{value!r} is no text that an operation on tensors takes')
        elif key == 'expr_str':
            _check_expression(value)
        elif key in ('in_spec', 'out_spec'):
            _check_structure(json.loads(value))
        elif key == 'metadata' and isinstance(value, dict):
            value.clear()


def _walk(value: Any) -> Iterator[tuple[str, Any]]:
    """All keys and values of nested objects and lists."""
    if isinstance(value, dict):
        for key, inner in list(value.items()):
            yield key, inner
            yield from _walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner)


def _check_expression(text: str) -> None:
    rest = re.sub(r'[()+\-*/,<>=&|~ .]', ' ', SYMBOL.sub('', text))
    strange = [word for word in rest.split() if not SYMBOLS.fullmatch(word)]
    if strange:
        raise ValueError(f'{text[:60]!r} is no expression of a size')


def _check_structure(structure: Any) -> None:
    """Check how inputs and outputs are nested: in plain containers."""
    protocol, tree = structure
    nodes = [tree]
    while nodes:
        node = nodes.pop()
        context = json.loads(node['context']) if isinstance(node['context'], str) else node['context']
        plain = context is None or (isinstance(context, list) and all(isinstance(one, str) for one in context))
        if protocol != 1 or node['type'] not in CONTAINERS or not plain:
            raise ValueError(f'its inputs or outputs are in {node["type"]}, which is no plain container')
        nodes += node['children_spec']


def _check_config(name: str, config: dict, entries: dict[str, bytes]) -> None:
    """Check that weights or constants are bytes, and are all there."""
    folder = name.rpartition('/')[0]
    for key, entry in config['config'].items():
        file = f'{folder}/{entry["path_name"]}'
        if entry['use_pickle'] or not RAW.fullmatch(file):
            raise ValueError(f"'{key}' is a pickle, which may be code")
        if file not in entries:
            raise ValueError(f"'{key}' is missing")
