"""Train what a config describes: a distillation, a detector or a segmenter."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from torch import nn

from backbones.record import ModelRecord
from distill.api.brief import BriefRunner, without_library_warnings
from distill.api.checks import check_trackers
from distill.api.configs import DataRoot, experiment_of
from distill.api.networks import Given, networks
from distill.api.session import call
from distill.api.train_result import NOT_SCORES, TrainResult
from distill.base.files import remove_leftovers
from distill.base.processes import default_device, unwrap
from distill.downstream.complete import complete
from distill.training.experiment import (
    build_runner,
    check_numbers,
    check_sections,
    load_config,
    resume_from,
    trains_classifier,
)
from distill.training.hooks.save_student import SaveStudentHook
from distill.training.options import places
from distill.training.resume import latest_checkpoint
from distill.training.runner import Runner
from distill.training.tracking import track as follow


@call
def train(
    config: str | os.PathLike | Config | Mapping,
    data_root: DataRoot | None = None,
    work_dir: str | os.PathLike | None = None,
    *,
    student: Given | None = None,
    teacher: Given | Sequence[Given] | None = None,
    resume: bool | str | os.PathLike = False,
    amp: bool = False,
    auto_scale_lr: bool = False,
    shifts: int | None = None,
    track: str | Sequence[str] = (),
    launcher: str = 'none',
    verbose: bool = False,
    cfg_options: Mapping[str, Any] | None = None,
    **overrides: Any,
) -> TrainResult:
    """Train a student, a detector or a segmenter, and save it.

    The same as ``robust-backbones train``, with the same results. The process is left as it was, see
    `distill.api.session.session`: random generators, environment, and what mmengine keeps from run to run.

    Args:
        config: A name of ``robust-backbones configs``, of which a unique part suffices; the path of a config; or the
            config itself, mmengine's or a dictionary, which is not changed.
        data_root: Folder of the data, in place of the config's; for images without labels also a list of sets, or a
            dictionary with the weight of each.
        work_dir: Folder of logs and checkpoints; ``work_dirs/<config name>`` if neither the call nor the config says.
        student: In place of the config's student: timm's name, a file of weights, a network of your own, or a
            dictionary ``dict(model=network, mean=…, std=…, classes=…)``. A network is copied, and the copy is trained.
        teacher: In place of the config's teacher: timm's name, any source of `backbones.load`, a network of your own,
            or a dictionary ``dict(model=network, mean=…, std=…, classes=…, input_size=…)``; a list of these answers
            with the mean of all. Of a network only ``forward(images [B, 3, H, W]) -> logits [B, K]`` is called; it
            stays as it is. Where the config's teachers give features, so does the network: by timm's functions if it
            has them, and otherwise ``forward`` gives embeddings [B, D]; a list then has one for each teacher.
        resume: Go on from the newest checkpoint of the work directory, or from a checkpoint that is named.
        amp: Train in mixed precision, which needs an accelerator.
        auto_scale_lr: Scale the learning rate with the size of a step.
        shifts: Score a student on the shifted sets of ``data_root`` every so many epochs.
        track: Experiment trackers that follow the run: ``tensorboard``, ``wandb``, ``mlflow``, ``aim``, see
            `distill.training.tracking`.
        launcher: How the processes were started: ``none``, ``pytorch`` (torchrun), ``slurm`` or ``mpi``.
        verbose: Print all that goes to the log file, the environment and the config too.
        cfg_options: Settings in place of the config's by mmengine's dotted keys, as the command's ``--cfg-options``:
            ``{'optim_wrapper.optimizer.weight_decay': 0.1}``.
        **overrides: Settings in place of the config's: nested dictionaries, ``train_cfg=dict(val_interval=1)``, or
            dotted keys as above. Shortcuts: ``epochs`` or ``iters`` (length of the training, with the ends of its
            schedules), ``batch_size`` (images of a step in each process), ``lr``, ``num_workers`` (of each loader) and
            ``seed``. The log says what they have set.

    Returns:
        Where the run is, how far it came, its scores and its course.

    Raises:
        FileNotFoundError: The config, the data or a checkpoint does not exist.
        ValueError: A keyword, a setting, a model or the data does not fit; the message says what, and the way out.
    """
    trackers = [track] if isinstance(track, str) else list(track)
    check_trackers(trackers)
    options = {**(cfg_options or {}), **overrides}
    for name, given in (('student', student), ('teacher', teacher)):
        if twice := [key for key in places(options) if given is not None and f'{key}.'.startswith(f'model.{name}.')]:
            raise ValueError(f'{name} and {twice[0]} set the same; drop one')
    experiment = experiment_of(config, data_root, work_dir, options, launcher)
    settings, notes = load_config(experiment)
    check_sections(settings, 'training', 'train_dataloader.dataset', 'train_cfg', 'optim_wrapper')
    check_numbers(settings)
    _set_precision(settings, amp)
    _set_scaling(settings, auto_scale_lr)
    hooks = _shift_hooks(settings, shifts)
    with without_library_warnings(verbose), networks(settings, student, teacher) as lines:
        remove_leftovers(settings.work_dir)
        if resume:
            choice = 'auto' if resume is True else os.fspath(resume)
            settings.resume, settings.load_from = resume_from(choice, settings.work_dir)
        hooks += follow(settings, trackers, resume=bool(resume))
        kind = Runner if verbose else BriefRunner
        runner = build_runner(settings, hooks, [*notes, *lines, *complete(settings)], kind)
        runner.train()
        given = student['model'] if isinstance(student, Mapping) and 'model' in student else student
        network = getattr(given, 'network', given)
        return _result(runner, network if isinstance(network, nn.Module) else None)


def _set_precision(config: Config, amp: bool) -> None:
    if not amp:
        return
    if default_device() == 'cpu':
        raise ValueError('--amp needs an accelerator and there is only the CPU; drop it')
    config.optim_wrapper.type = 'AmpOptimWrapper'
    config.optim_wrapper.setdefault('loss_scale', 'dynamic')


def _set_scaling(config: Config, auto_scale_lr: bool) -> None:
    if not auto_scale_lr:
        return
    if 'base_batch_size' not in config.get('auto_scale_lr', {}):
        raise ValueError(f'{config.filename} has no auto_scale_lr.base_batch_size; set it or drop --auto-scale-lr')
    config.auto_scale_lr.enable = True


def _shift_hooks(config: Config, interval: int | None) -> list[Hook]:
    """The hook that scores a student on shifted images.

    Args:
        config: The training config.
        interval: Epochs from one score to the next; None for no hook.

    Raises:
        ValueError: The config trains no student, or the interval is below 1.
    """
    if interval is None:
        return []
    if interval < 1:
        raise ValueError(f'shifts is {interval}; give 1 or more')
    if not trains_classifier(config):
        raise ValueError(f'{config.filename} trains no classifier; drop --shifts and use tools/test.py --corruptions')
    if 'teachers' in config.model:
        raise ValueError(f'{config.filename} trains a student without classes, which no shift can count; drop --shifts')
    from distill.training.hooks.shift_scores import ShiftScoresHook

    return [ShiftScoresHook(config.data_root, interval=interval)]


def _result(runner: Runner, network: nn.Module | None) -> TrainResult:
    """What the runner has come to; ``network`` is the student of a user's own that was copied, if there was one."""
    scalars = runner.message_hub.log_scalars
    named = {key.removeprefix('val/'): buffer for key, buffer in scalars.items() if key.startswith('val/')}
    named = {key: buffer for key, buffer in named.items() if key.rpartition('/')[2] not in NOT_SCORES}
    best = {key: float(buffer.data[0].max()) for key, buffer in named.items() if len(buffer.data[0])}
    path = SaveStudentHook.path(runner)
    record = ModelRecord.read(path) if hasattr(unwrap(runner.model), 'student') and path.is_file() else None
    checkpoint = latest_checkpoint(runner.work_dir)
    return TrainResult(
        Path(runner.cfg.work_dir),
        runner.epoch,
        runner.iter,
        {key: float(buffer.current()) for key, buffer in named.items()},
        {**best, **record.scores} if record is not None else best,
        path if record is not None else None,
        Path(checkpoint) if checkpoint is not None else None,
        network,
    )
