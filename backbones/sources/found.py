"""What is known of a model that a user has named, before its network is built: name, arguments, and where its weights
are.

The name of a file's model is taken from the first of: what the user gives, the record beside it, the ``config.json`` of
its folder, what the checkpoint tells itself, torchvision's list of its own files, and timm's ``args.yaml`` beside it.
"""

import difflib
import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import timm

from backbones.hub.config import FACTORY_ARGUMENTS
from backbones.hub.folder import CONFIG, read_folder
from backbones.record import ModelRecord
from backbones.sources import own
from backbones.sources.source import LOCAL, Source, fetch, split_shown
from backbones.sources.told import told_beside, told_inside
from backbones.weights.checkpoint_file import read_checkpoint
from backbones.weights.torchvision_files import identify, twin

BY_CONTENT = 'the settings in the checkpoint'


class WeightsFile:
    """A file of weights, which is read once.

    Args:
        path: The file.
    """

    def __init__(self, path: Path):
        self.path = path
        self.words = f"checkpoint '{path}'"

    @functools.cached_property
    def content(self) -> Any:
        """What was saved, see `read_checkpoint`."""
        return read_checkpoint(self.path)


@dataclass(frozen=True)
class Found:
    """A model that a user has named.

    Attributes:
        source: As the user names it.
        record: timm's name and all arguments of the model, and what else is told of it.
        file: The weights, or None if there are none, or timm brings them.
        pretrained: Whether timm brings the weights.
        notes: What a user should know of how the model was found, a line each.
        is_bgr: Whether the network was trained on images whose first channel is blue.
        is_alias: Whether the model was given by torchvision's name.
    """

    source: Source
    record: ModelRecord
    file: WeightsFile | None = None
    pretrained: bool = False
    notes: tuple[str, ...] = ()
    is_bgr: bool = False
    is_alias: bool = False


def find_model(
    model: str | None = None,
    checkpoint: str | os.PathLike | None = None,
    pretrained: bool = False,
    **arguments,
) -> Found:
    """Find out what is known of a model, without building it.

    Args:
        model: timm's name, or any other source that `backbones.sources` lists; of a folder or a model on the hub, the
            architecture alone unless ``pretrained``. With a checkpoint, the name of its model.
        checkpoint: A file or folder of weights, ``NAME@FILE``, or a model on the hub.
        pretrained: Whether weights are wanted beside the name.
        **arguments: Arguments of ``timm.create_model``, and of what the model is shown; they win over what is found,
            and what stands in the source itself wins over them.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: No name is given or found, it is unknown, or the checkpoint holds another model.
    """
    given = model if checkpoint is None else checkpoint
    if given is None:
        raise ValueError("no model is given; give timm's name, or a checkpoint with a record (.json) beside it")
    source = Source.parse(given)
    if checkpoint is not None and source.path is None and source.repo is None:
        raise FileNotFoundError(f"checkpoint '{checkpoint}' does not exist; train it first or correct the path")
    name = source.model if checkpoint is None else source.model or model
    if checkpoint is not None and model not in (None, name):
        raise ValueError(f"the model is given as {model} and in '{checkpoint}' as {name}; drop one of the two")
    kwargs, shown = split_shown({**arguments, **source.arguments})
    alias = twin(name) if name is not None else None
    if alias is not None:
        name, kwargs = alias[0], {**alias[1], **kwargs}
    with_weights = checkpoint is not None or pretrained
    path = source.path if source.repo is None else fetch(source.repo, with_weights)
    if path is None:
        found = Found(source, ModelRecord(check_model_name(name or '')), pretrained=pretrained)
    elif path.is_dir() or LOCAL.match(source.text):
        record, file = read_folder(path)
        _check_name(name, record, f"folder '{path}'")
        found = Found(source, record, WeightsFile(file) if file is not None and with_weights else None)
    else:
        found = _find_file(source, path, name)
    if alias is not None:
        note = f"torchvision's {source.model or model} is timm's {name}"
        found = replace(found, is_alias=True, notes=(*found.notes, note))
    return replace(found, record=_complete(found, name, kwargs, shown))


def _find_file(source: Source, path: Path, name: str | None) -> Found:
    """What is known of a file of weights."""
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint '{path}' does not exist; train it first or correct the path")
    file = WeightsFile(path)
    record = ModelRecord.read(path)
    if record is not None:
        _check_name(name, record, f"checkpoint '{path}'")
        return Found(source, record, file)
    beside, problem = _folder_record(path)
    if beside is not None and (name is None or _is_same(name, beside.model)):
        return Found(source, beside, file)
    if beside is not None:
        problem = f"'{path.parent / CONFIG}' is of {beside.model} and not used"
    notes = (problem,) if problem and name is not None else ()
    told = told_inside(file.content, file.words)
    is_bgr = told.pop('bgr', False)
    by = BY_CONTENT
    if name is None and 'model' not in told:
        told, by = identify(path), "torchvision's list of its files"
    if name is None and 'model' not in told:
        told, by = told_beside(path), "timm's args.yaml beside it"
    if name is None and 'model' not in told:
        raise ValueError(unnamed(path, problem))
    if name is None:
        notes = (f'{file.words} is of {told["model"]}, by {by}',)
    elif 'model' in told and not _is_same(name, told['model']):
        told = {}
    told.setdefault('model', name)
    count = told.get('model_kwargs', {}).get('num_classes')
    if len(told.get('classes', ())) != count:  # those of a detector
        told.pop('classes', None)
    return Found(source, ModelRecord.from_json(told, str(path)), file, notes=notes, is_bgr=is_bgr)


def _folder_record(path: Path) -> tuple[ModelRecord | None, str]:
    """The record in the ``config.json`` beside a file of weights, and why there is none although there is a file."""
    if not (path.parent / CONFIG).is_file():
        return None, ''
    try:
        record, weights = read_folder(path.parent)
    except (ValueError, OSError) as error:
        return None, f'{CONFIG} beside it is not used: {error}'
    return (record, '') if weights is not None and weights.name == path.name else (None, '')


def _complete(found: Found, name: str | None, kwargs: Mapping[str, Any], shown: Mapping[str, Any]) -> ModelRecord:
    """The record with the name, the arguments and what is shown as the user gives them."""
    record = found.record
    refused = [key for key in record.model_kwargs if key in FACTORY_ARGUMENTS]
    if refused:
        raise ValueError(f"'{found.source.text}': model_kwargs.{refused[0]} is no argument of a model; drop it")
    record = replace(
        record,
        # A name with a tag says which of timm's configurations is meant.
        model=check_model_name(name if name is not None and _is_same(name, record.model) else record.model),
        model_kwargs={**record.model_kwargs, **kwargs},
    )
    if not shown:
        return record
    plain = {key: list(value) if isinstance(value, (list, tuple)) else value for key, value in shown.items()}
    size = plain.get('input_size')
    if isinstance(size, int) and not isinstance(size, bool):
        plain['input_size'] = [record.model_kwargs.get('in_chans', 3), size, size]
    elif isinstance(size, list) and len(size) == 2:
        plain['input_size'] = [record.model_kwargs.get('in_chans', 3), *size]
    if 'input_size' in plain and record.input_size and not record.crop_pct:
        plain.setdefault('crop_pct', 1.0)  # as at the size that the model was trained at
    return ModelRecord.from_json({**record.to_json(), **plain}, found.source.text)


def _is_same(name: str, other: str) -> bool:
    """Whether two names are of one architecture."""
    return name.partition('.')[0] == other.partition('.')[0]


def _check_name(name: str | None, record: ModelRecord, where: str) -> None:
    """Check that a name that is given is that of the record."""
    if name is not None and not _is_same(name, record.model):
        check_model_name(name)
        raise ValueError(f'{where} holds {record.model} and not {name}; change either')


def check_model_name(name: str) -> str:
    """Return the name of a model if timm's registry has it.

    Raises:
        ValueError: The registry has no such name; the message has the closest ones.
    """
    if own.is_own(name):
        raise own.nameless(name)
    base, _, tag = name.partition('.')
    if timm.is_model(base):
        tagged = timm.list_pretrained(f'{base}.*') if tag else []
        if tag and name not in tagged:
            raise ValueError(f"model '{name}' is unknown; choose from {', '.join([base, *tagged])}")
        return name
    if Path(name).is_dir():
        raise ValueError(
            f"model '{name}' is unknown, and the folder of this name has no config.json as timm's models have"
        )
    close = difflib.get_close_matches(name, timm.list_models(), n=4, cutoff=0.5)
    hint = f'did you mean {", ".join(close)}?' if close else 'see timm.list_models()'
    raise ValueError(f"model '{name}' is unknown; {hint}")


def unnamed(path: Path, problem: str = '') -> str:
    """The error about a checkpoint whose model nothing names, which says how to name it."""
    because = f' ({problem})' if problem else ''
    return (
        f"no model is given, and nothing in or beside checkpoint '{path}' names it{because}; "
        f"give 'NAME@{path}' with timm's name of the model, in a config model='NAME'"
    )
