"""What this project adds to mmengine's training loop."""

import json
import os
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import master_only
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS

from backbones.checkpoint import atomic_write, read_description, save_model
from distill.data import seed_everything
from distill.teacher_cache import CachedTeacher


@register_backend('atomic', force=True)
class AtomicBackend(LocalBackend):
    """Local files that are never half written: `CheckpointHook(backend_args=dict(backend='atomic'))`."""

    def put(self, obj: bytes, filepath: str) -> None:
        """Write bytes to a temporary file, then rename it."""
        with atomic_write(filepath) as temporary:
            temporary.write_bytes(obj)


@HOOKS.register_module()
class PlainCheckpointHook(Hook):
    """Keep Python objects out of checkpoints, so that they load with weights only.

    mmengine stores its log as `HistoryBuffer` objects, whose pickle torch ≥ 2.6 refuses to load. They are written
    as two lists each, and become objects again when training resumes.
    """

    priority = 'VERY_LOW'

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Turn everything but tensors into plain values."""
        scalars = checkpoint['message_hub']['log_scalars']
        checkpoint['message_hub']['log_scalars'] = {k: v.data for k, v in scalars.items()}
        for key in checkpoint:
            if key not in ('state_dict', 'ema_state_dict', 'optimizer'):
                checkpoint[key] = to_plain(checkpoint[key])

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Make the log's objects again."""
        scalars = checkpoint.get('message_hub', {}).get('log_scalars', {})
        for key, value in scalars.items():
            if not isinstance(value, HistoryBuffer):
                history, counts = value
                scalars[key] = HistoryBuffer(history, counts)


def to_plain(value):
    """Turn numpy values into Python's, and containers into dicts, lists and tuples of such."""
    if isinstance(value, dict):
        return {k: to_plain(v) for k, v in value.items()}
    if isinstance(value, tuple):
        return tuple(to_plain(v) for v in value)
    if isinstance(value, (list, set)):
        return [to_plain(v) for v in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return value


@HOOKS.register_module()
class SeedIterationHook(Hook):
    """Seed all generators before each training step from (seed, iteration, rank).

    Drop path, mixing and erasing then are the same in a resumed run as in an uninterrupted one, with no generator
    state in the checkpoint.
    """

    priority = 'VERY_HIGH'

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Seed CPU and accelerator."""
        seed_everything(runner.seed, runner.iter, runner.rank)
        if torch.cuda.is_available():
            torch.cuda.manual_seed(torch.initial_seed())


@HOOKS.register_module()
class CheckClassesHook(Hook):
    """Stop before training if data and model do not have the same number of classes."""

    def before_train(self, runner) -> None:
        """Compare the student with every data set.

        Raises:
            ValueError: The numbers differ.
        """
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        loaders = {
            'training': runner.train_dataloader,
            'validation': getattr(runner.val_loop, 'dataloader', None),
        }
        for part, loader in loaders.items():
            classes = getattr(getattr(loader, 'dataset', None), 'classes', None)
            if classes is not None and len(classes) != model.student.num_classes:
                named = ', '.join(classes[:4]) + (', …' if len(classes) > 4 else '')
                raise ValueError(
                    f'the {part} set has {len(classes)} classes ({named}) and the student {model.student.num_classes}; '
                    f'set model.student.num_classes={len(classes)}'
                )


@HOOKS.register_module()
class CheckCacheHook(Hook):
    """Stop before training if a teacher's cache was not written for this run's views, and say what differs."""

    def before_train(self, runner) -> None:
        """Compare data, views, batch augmentation and versions with the manifest.

        Raises:
            ValueError: Something differs.
        """
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        loader = runner.train_dataloader
        for teacher in getattr(model.teacher, 'teachers', [model.teacher]):
            if isinstance(teacher, CachedTeacher):
                teacher.check(loader.dataset, loader.sampler, model.data_preprocessor)


@HOOKS.register_module()
class SaveStudentHook(Hook):
    """Keep the best student alone, as a model that timm loads.

    Writes ``student_best.pth`` and ``student_best.json`` to the work directory after each validation that is better
    than all before. It runs before `EMAHook` gives the weights back, so what is saved is what was measured.

    Args:
        metric: The validation metric to compare, larger is better.
    """

    priority = 'HIGH'

    def __init__(self, metric: str = 'top1_pct'):
        self.metric = metric
        self.best = float('-inf')

    def before_train(self, runner) -> None:
        """Go on from the best student of the run that is resumed."""
        description = read_description(self.path(runner)) if runner._resume else None
        if description is not None and description['epoch'] <= runner.epoch:
            self.best = description[self.metric]

    @staticmethod
    def path(runner) -> Path:
        """Where the weights go."""
        return Path(runner.work_dir) / 'student_best.pth'

    @master_only
    def after_val_epoch(self, runner, metrics: dict | None = None) -> None:
        """Save the student if it is the best so far."""
        score = metrics[self.metric]
        if score <= self.best:
            return
        self.best = score
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        description = dict(model.student_config)
        description = {
            'model': description.pop('model', None) or model.student.pretrained_cfg['architecture'],
            'model_kwargs': {k: v for k, v in description.items() if k not in ('checkpoint', 'pretrained')},
            'teacher': model.teacher.source if model.teacher is not None else None,
            'classes': runner.train_dataloader.dataset.classes,
            'input_size': list(runner.val_dataloader.dataset[0][0].shape),
            'mean': [round(v, 6) for v in model.data_preprocessor.mean.flatten().tolist()],
            'std': [round(v, 6) for v in model.data_preprocessor.std.flatten().tolist()],
            'epoch': runner.epoch,
            self.metric: score,
            'seed': runner.seed,
        }
        save_model(self.path(runner), model.student, to_plain(description))
        runner.logger.info(f'student_best.pth: {self.metric} {score:.2f} at epoch {runner.epoch}')


def latest_checkpoint(work_dir: str | os.PathLike) -> str | None:
    """The newest ``epoch_*.pth`` or ``iter_*.pth`` of a work directory, by its number; None if there is none."""
    numbered = [
        (int(path.stem.partition('_')[2]), str(path))
        for path in Path(work_dir).glob('*.pth')
        if path.stem.partition('_')[0] in ('epoch', 'iter') and path.stem.partition('_')[2].isdigit()
    ]
    return max(numbered)[1] if numbered else None


def write_json(path: str | os.PathLike, content) -> None:
    """Write JSON in one piece."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(to_plain(content), indent=1) + '\n')
