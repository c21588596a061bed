"""Checkpoints of whole runs: read safely, and checked before training or a test goes on from them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from backbones.weights.checkpoint_file import read_checkpoint
from backbones.weights.fit import check_finite
from backbones.weights.names import find_weights, first_of, unwrap_names
from distill.base.processes import barrier, rank_and_count

WEIGHTS_ALONE = 'train from its weights: --cfg-options load_from={}, without --resume'


def read_safely() -> None:
    """Have mmengine read every checkpoint of this process by `backbones.weights.checkpoint_file.read_checkpoint`.

    mmengine reads them by ``torch.load``, which refuses what mmengine itself has written; onedl-mmengine falls back to
    loading that runs any code of the file.
    """
    CheckpointLoader.register_scheme(prefixes='', loader=load_from_local, force=True)
    CheckpointLoader.register_scheme(prefixes=('http://', 'https://'), loader=load_from_http, force=True)


def load_from_local(filename: str, map_location: Any = None) -> Any:
    """Read a checkpoint; mmengine calls this function."""
    return read_checkpoint(Path(filename).expanduser(), 'cpu' if map_location is None else map_location)


def load_from_http(filename: str, map_location: Any = None, **options) -> Any:
    """Download a checkpoint into torch's cache, unless it is there, and read it; mmengine calls this function."""
    path = Path(torch.hub.get_dir(), 'checkpoints', Path(urlparse(filename).path).name)
    if rank_and_count()[0] == 0 and not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(filename, str(path))
    barrier()
    return load_from_local(str(path), map_location)


def prepare(checkpoint: Any, model: nn.Module, source: str, resume: bool) -> dict:
    """Check what a run is about to take from a checkpoint, and give its weights the names of the model.

    Args:
        checkpoint: What was read.
        model: Will take the weights.
        source: Names the checkpoint in errors and advice.
        resume: Whether the run goes on where the checkpoint was written, or takes its weights alone.

    Returns:
        The checkpoint as mmengine takes it.

    Raises:
        ValueError: The checkpoint has no weights, none that fits, or not all that it takes to resume.
    """
    weights = find_weights(checkpoint, f"checkpoint '{source}'")
    if resume:
        _check_resumable(checkpoint, source)
    is_run = isinstance(checkpoint, dict) and {'meta', 'state_dict'} <= checkpoint.keys()
    checkpoint = checkpoint if is_run else {'state_dict': weights}
    own = model.state_dict()
    if not own.keys() <= checkpoint['state_dict'].keys():
        fitting, _ = unwrap_names(weights, own, f"checkpoint '{source}'")
        checkpoint['state_dict'] = fitting if len(own.keys() & fitting.keys()) > len(own.keys() & weights) else weights
    if isinstance(checkpoint.get('meta'), dict):
        # mmengine would run this text as a program, to compare the number of devices.
        checkpoint['meta'].pop('config', None)
    same = [key for key, value in checkpoint['state_dict'].items() if key in own and own[key].shape == value.shape]
    if own and not same:
        raise ValueError(
            f"checkpoint '{source}' has no weight of this model (it has {first_of(sorted(weights))}; the model has "
            f'{first_of(sorted(own))}); a backbone alone is given by model.backbone.checkpoint'
        )
    check_finite(checkpoint['state_dict'], model, f"checkpoint '{source}'")
    return checkpoint


def _check_resumable(checkpoint: Any, source: str) -> None:
    """Check that a checkpoint holds all that a run goes on with.

    Raises:
        ValueError: Something is missing.
    """
    meta = checkpoint.get('meta') if isinstance(checkpoint, Mapping) else None
    advice = WEIGHTS_ALONE.format(source)
    if not isinstance(meta, dict) or 'state_dict' not in checkpoint:
        raise ValueError(f"checkpoint '{source}' holds weights and no state of a run to resume; {advice}")
    if 'mmcv_version' in meta or 'message_hub' not in checkpoint:
        raise ValueError(f"checkpoint '{source}' is not from mmengine's runner and cannot be resumed; {advice}")
    if not all(type(meta.get(key)) is int and meta[key] >= 0 for key in ('epoch', 'iter')):
        raise ValueError(f"checkpoint '{source}' does not say at which epoch and iteration it was written; {advice}")
    for key, option in (('optimizer', 'save_optimizer'), ('param_schedulers', 'save_param_scheduler')):
        if key not in checkpoint:
            raise ValueError(
                f"checkpoint '{source}' has no {key} (default_hooks.checkpoint.{option}=False), without which training "
                f'cannot go on as before; {advice}'
            )


def leave_out_average(checkpoint: dict) -> bool:
    """Give a run that keeps no average the weights that it was training.

    `EMAHook` writes the averaged weights as ``state_dict``, and those that were trained in the average's place.

    Returns:
        Whether the checkpoint has an average.
    """
    average = checkpoint.get('ema_state_dict') or {}
    trained = {name.removeprefix('module.'): value for name, value in average.items() if name.startswith('module.')}
    checkpoint['state_dict'].update(trained)
    return bool(trained)


def report_taken(checkpoint: Mapping, model: nn.Module) -> str | None:
    """A line about weights that a model does not take from a checkpoint or does not find there; None if all fit.

    Args:
        checkpoint: What `prepare` has returned.
        model: Takes the weights.
    """
    own, weights = model.state_dict(), checkpoint['state_dict']
    missing = [key for key in own if key not in weights]
    shapes = [key for key in own if key in weights and own[key].shape != weights[key].shape]
    unused = [key for key in weights if key not in own]
    problems = [
        f'{len(names)} {what} ({first_of(names)})'
        for names, what in (
            (missing, 'are not there and stay as they were made'),
            (shapes, 'have another shape and stay as they were made'),
            (unused, 'are not used'),
        )
        if names
    ]
    taken = len(own) - len(missing) - len(shapes)
    return f'{taken} of {len(own)} weights of the model are taken: {"; ".join(problems)}' if problems else None


def check_optimizer(model_state: Mapping, source: str) -> None:
    """Check that the averages of an optimizer have the shapes of what they are averages of.

    Args:
        model_state: ``state`` of a torch optimizer, by parameter.
        source: Names the checkpoint in the error.

    Raises:
        ValueError: One has another shape; torch would notice at the first step.
    """
    for parameter, state in model_state.items():
        for key in ('exp_avg', 'exp_avg_sq', 'momentum_buffer'):
            value = state.get(key) if isinstance(state, Mapping) else None
            if isinstance(value, torch.Tensor) and value.shape != parameter.shape:
                raise ValueError(
                    f"checkpoint '{source}' has an optimizer of another model: {key} is {tuple(value.shape)} where the "
                    f'parameter is {tuple(parameter.shape)}; resume with the config it was trained with'
                )
