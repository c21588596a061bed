"""What a user names as a model: a timm name, a folder or a file of weights, with or without the model's name before it.

========================================  ===========================================================================
``resnet50.a1_in1k``                      a timm model with timm's weights
``hf-hub:REPO``, ``hf-hub:REPO@BRANCH``   a timm model on the Hugging Face hub
``FOLDER``, ``local-dir:FOLDER``          a folder as on that hub: ``config.json`` and ``model.safetensors``
``FILE``                                  weights that something in or beside the file names the model of
``NAME@FILE``                             weights and timm's name of their model
``NAME,num_classes=10,mean=[…]@FILE``     the same with arguments of the model, or of what it is shown
========================================  ===========================================================================

A path that exists is a path, whatever letters are in it.
"""

import ast
import contextlib
import logging
import os
import re
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backbones.hub.config import FACTORY_ARGUMENTS
from backbones.hub.folder import CONFIG, WEIGHTS_NAMES
from backbones.weights.checkpoint_file import ENDINGS

SHOWN = ('classes', 'input_size', 'mean', 'std', 'crop_pct', 'crop_mode', 'interpolation')
"""What can be told of a model beside the arguments that build it: fields of a `ModelRecord`."""

HUB = re.compile(r'hf[-_]hub:')
LOCAL = re.compile(r'local[-_]dir:')
NAME = re.compile(r'[\w.\-]+')


@dataclass(frozen=True)
class Source:
    """A model as a user names it.

    Attributes:
        text: What was given.
        model: timm's name, or None where the name must be found in or beside the file.
        arguments: What was given on the spot: arguments of the model, and of ``SHOWN``.
        path: A file or folder, or None for a timm name or the hub.
        repo: Name on the Hugging Face hub, or None.
    """

    text: str
    model: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None
    repo: str | None = None

    @classmethod
    def parse(cls, given: str | os.PathLike) -> 'Source':
        """Split what a user gives into its parts.

        Raises:
            ValueError: It is empty, or an argument in it has no name, no value, or is none of a model's.
        """
        text = str(given)
        if not text.strip():
            raise ValueError("the model's name is empty; give timm's name, a file or a folder")
        if HUB.match(text):
            return cls(text, repo=HUB.sub('', text, count=1))
        if LOCAL.match(text):
            return cls(text, path=Path(LOCAL.sub('', text, count=1)))
        if is_there(text):
            return cls(text, path=Path(text))
        named, path = split_named(text)
        if path is None and (Path(text).suffix in ENDINGS or set(text.partition(',')[0]) & set('/\\')):
            return cls(text, path=Path(text))
        name, arguments = _arguments(named, text)
        return cls(text, name, arguments, Path(LOCAL.sub('', path, count=1)) if path is not None else None)


def is_there(text: str) -> bool:
    """Whether a text is the path of a file, or of a folder that cannot be meant as timm's name."""
    path = Path(text)
    if path.is_dir():
        return (path / CONFIG).is_file() or NAME.fullmatch(text) is None or text in ('.', '..')
    return path.exists()


def split_named(text: str) -> tuple[str, str | None]:
    """Split ``NAME@FILE``, either of which may hold ``@`` too: the longest path that exists is the one that is meant.

    Returns:
        The name with its arguments, and the path, or None if there is no ``@`` after what can be a name.
    """
    places = [place for place, letter in enumerate(text) if letter == '@']
    readings: list[tuple[str, str | None]] = [(text[:place], text[place + 1 :]) for place in places]
    readings = [one for one in readings if NAME.fullmatch(one[0].partition(',')[0]) and one[1]]
    there = [one for one in readings if Path(LOCAL.sub('', str(one[1]), count=1)).exists()]
    return (there or readings or [(text, None)])[0]


def _arguments(named: str, text: str) -> tuple[str, dict[str, Any]]:
    """Split ``NAME,num_classes=10,mean=[0.5,0.5,0.5]``."""
    name, *parts = re.split(r',(?![^\[(]*[\])])', named)
    arguments = {}
    for part in parts:
        key, equals, value = part.strip().partition('=')
        if not (key.isidentifier() and equals and value):
            raise ValueError(f"'{part}' in '{text}' is no argument; write NAME,num_classes=10,mean=[0.5,0.5,0.5]@FILE")
        if key in FACTORY_ARGUMENTS:
            raise ValueError(f"'{key}' in '{text}' is no argument of a model; leave it out")
        try:
            arguments[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            arguments[key] = value
    return name.strip(), arguments


def split_shown(arguments: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split arguments into those of the model, and those of ``SHOWN`` that are not None."""
    model = {name: value for name, value in arguments.items() if name not in SHOWN}
    return model, {name: arguments[name] for name in SHOWN if arguments.get(name) is not None}


def fetch(repo: str, with_weights: bool = True) -> Path:
    """Bring a model of the Hugging Face hub into the hub client's cache.

    Args:
        repo: Its name there, with ``@`` and a branch, tag or commit if another than the newest is meant.
        with_weights: Whether to bring the weights too.

    Returns:
        The folder.

    Raises:
        ValueError: It is not there, or the hub cannot be reached and the cache does not have it.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    name, _, revision = repo.partition('@')

    def download(file: str) -> Path:
        return Path(hf_hub_download(name, file, revision=revision or None))

    try:
        with hub_client():
            folder = download(CONFIG).parent
            for weights in WEIGHTS_NAMES if with_weights else ():
                try:
                    download(weights)
                    break
                except LocalEntryNotFoundError:
                    raise
                except EntryNotFoundError:
                    continue
    except Exception as error:  # those of huggingface_hub and of what it stands on have no common class
        raise ValueError(f"'hf-hub:{repo}' cannot be fetched ({first_line(error)}); {NETWORK}") from None
    return folder


@contextlib.contextmanager
def hub_client() -> Iterator[None]:
    """Have the hub's client be silent about its tries, and try nothing but its cache where its host has no address."""
    from huggingface_hub import constants

    log, was_offline = logging.getLogger('huggingface_hub'), constants.HF_HUB_OFFLINE
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        if not was_offline and not urllib.request.getproxies():
            try:
                socket.getaddrinfo(urllib.parse.urlparse(constants.ENDPOINT).hostname, None)
            except socket.gaierror:
                constants.HF_HUB_OFFLINE = True
        yield
    finally:
        log.setLevel(level)
        constants.HF_HUB_OFFLINE = was_offline


NETWORK = 'check the name and the network, or copy the folder here and give its path'


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its kind."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip('.') if lines else type(error).__name__
