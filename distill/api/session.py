"""What every call of `distill.api` leaves behind: its result and its files, and the process as it was.

mmengine's runner is made for a process of its own. It seeds the random generators, sets variables of the environment
and switches of torch, and keeps loggers, visualizers, message hubs and a default scope under names that the next run
finds again. In a notebook the next run is the next cell.
"""

import difflib
import functools
import inspect
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ParamSpec, TypeVar

import torch

from distill.base.extras import missing_extra
from distill.base.mistakes import config_mistake
from distill.base.processes import is_connected, leave_processes
from distill.base.seeding import kept_generators

P = ParamSpec('P')
T = TypeVar('T')


def call(function: Callable[P, T]) -> Callable[P, T]:
    """Make a function one of this project's calls: it runs in a `session`, and a keyword that it does not take is a
    ValueError with the nearest one that it does.
    """
    known = [name for name, one in inspect.signature(function).parameters.items() if one.kind is not one.VAR_KEYWORD]
    takes_others = len(known) < len(inspect.signature(function).parameters)

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> T:
        unknown = [] if takes_others else [name for name in kwargs if name not in known]
        if unknown:
            close = difflib.get_close_matches(unknown[0], known, n=1)
            hint = f'did you mean {close[0]}?' if close else f'choose from {", ".join(known)}'
            raise ValueError(f"{function.__name__} takes no '{unknown[0]}'; {hint}")
        with session():
            return function(*args, **kwargs)

    return called


@contextmanager
def session() -> Iterator[None]:
    """Leave the process as it was before the block, also after an exception or an interrupt.

    Put back are the states of all random generators, the environment, torch's and OpenCV's switches, how processes are
    started, and mmengine's current loggers, visualizers, message hubs, scopes and readers of checkpoints. Left are the
    other processes of a run, if the block has joined them. What a module registers when it is imported stays.

    Raises:
        ValueError: mmengine could not build what a config names; the message says why.
    """
    with ExitStack() as stack:
        for kept in (_connection, _generators, _environment, _switches, _instances, _readers):
            stack.enter_context(kept())
        try:
            yield
        except (ValueError, OSError):
            raise
        except Exception as error:
            if message := config_mistake(error):
                raise ValueError(message) from error
            if hint := missing_extra(error):
                error.add_note(hint)
            raise


@contextmanager
def _connection() -> Iterator[None]:
    before = is_connected()
    try:
        yield
    finally:
        if not before:
            leave_processes()


@contextmanager
def _generators() -> Iterator[None]:
    # Before the first use of a device its generator has no state to keep.
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        with kept_generators():
            yield
    finally:
        if devices is not None:
            torch.cuda.set_rng_state_all(devices)


@contextmanager
def _environment() -> Iterator[None]:
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update({name: value for name, value in before.items() if os.environ.get(name) != value})


@contextmanager
def _switches() -> Iterator[None]:
    cudnn = torch.backends.cudnn
    flags = cudnn.benchmark, cudnn.deterministic
    deterministic = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    start_method = multiprocessing.get_start_method(allow_none=True)
    cv2: Any = sys.modules.get('cv2')
    threads = cv2.getNumThreads() if cv2 else None
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = flags
        torch.use_deterministic_algorithms(deterministic[0], warn_only=deterministic[1])
        if start_method != multiprocessing.get_start_method(allow_none=True):
            multiprocessing.set_start_method(start_method, force=True)
        cv2 = sys.modules.get('cv2')
        if cv2:
            # Loaded within the block: OpenCV takes all again for a negative number.
            cv2.setNumThreads(-1 if threads is None else threads)


@contextmanager
def _instances() -> Iterator[None]:
    """Forget the loggers, visualizers, message hubs and scopes that mmengine has made, and close their files."""
    before = {kind: list(kind._instance_dict) for kind in _managers()}
    try:
        yield
    finally:
        for kind in _managers():
            for name in [name for name in kind._instance_dict if name not in before.get(kind, ())]:
                instance = kind._instance_dict.pop(name)
                for handler in getattr(instance, 'handlers', ()):
                    # The handler of the screen holds stdout, which is not closed with it.
                    handler.close()
                if hasattr(instance, 'close'):
                    instance.close()


def _managers() -> list[Any]:
    """mmengine's classes that keep their instances under names, if it is loaded."""
    manager = sys.modules.get('mmengine.utils.manager')
    found: list[Any] = [manager.ManagerMixin] if manager is not None else []
    for kind in found:
        found += [below for below in kind.__subclasses__() if below not in found]
    return found


@contextmanager
def _readers() -> Iterator[None]:
    """Put mmengine's readers of checkpoints back, of which this project's are stricter."""
    before = dict(_schemes())
    try:
        yield
    finally:
        schemes = _schemes()
        if before:
            schemes.clear()
            schemes.update(before)


def _schemes() -> dict:
    module = sys.modules.get('mmengine.runner.checkpoint')
    return module.CheckpointLoader._schemes if module is not None else {}
