"""Save the best student alone, as a model that timm loads."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process, master_only
from mmengine.hooks import EMAHook, Hook
from mmengine.registry import HOOKS
from torch import Tensor, nn

from backbones.checkpoint import read_weights, save_weights, weights_sha256, write_weights
from backbones.record import ModelRecord
from distill.base.files import to_plain
from distill.base.processes import unwrap
from distill.training.seen import seen_kinds

LAST, KNN = 'last', 'knn/'
"""In place of a metric: the last student."""
VIEW_PX = 224
"""Side of a view where a data set's transform gives none: timm's default."""


@HOOKS.register_module()
class SaveStudentHook(Hook):
    """Save the best student alone, as a model that timm loads.

    ``student_best.safetensors``, ``student_best.json`` and ``student_best.pth`` go to the work directory after each
    validation with a better score than all before. The record describes the weights of both files. It is written
    between the two, so that a run that is killed leaves one of them with a record that fits; the run that resumes it
    mends the other.

    A run without labels has no such validation. ``metric='last'`` saves the student with each checkpoint instead: the
    last one, and its average if the run keeps one, as the checkpoint has it. ``metric='knn/student_top1_pct'`` or
    ``'knn/ema_top1_pct'`` saves the student, or its average, after each score of a
    `distill.training.hooks.knn_scores.KnnScoresHook` that is better than all before.

    Args:
        metric: Validation metric that is compared, larger is better; ``last``; or a score of the k-NN.

    Attributes:
        best: The best score so far.
    """

    # Before EMAHook gives the weights back in place of their average: the weights that were validated are saved.
    priority = 'HIGH'

    def __init__(self, metric: str = 'top1_pct'):
        self.metric = metric
        self.best = float('-inf')
        self.seen = 0
        if metric == LAST or metric.startswith(KNN):
            # After EMAHook has put its average into a checkpoint and StopOnBadLossHook has checked that, and after
            # KnnScoresHook; before CheckpointHook.
            self.priority = 80

    def before_train(self, runner) -> None:
        """Take over the best score of the run that is resumed, and its weights as far as they are in one file.

        Raises:
            ValueError: A score of the k-NN is compared, and no hook finds one.
        """
        is_scored = any(type(hook).__name__ == 'KnnScoresHook' for hook in runner.hooks)
        if self.metric.startswith(KNN) and not is_scored:
            raise ValueError(
                f"SaveStudentHook compares '{self.metric}', and no KnnScoresHook finds it; add one to custom_hooks, or "
                f'set metric={LAST!r}'
            )
        self.seen = len(_scores(runner, self.metric))
        if self.metric == LAST or not is_main_process():
            return
        if runner.val_loop is None and not self.metric.startswith(KNN):
            runner.logger.warning(
                f'the run has no validation, whose {self.metric} would tell the best student; set metric={LAST!r} of '
                'SaveStudentHook to save the last one'
            )
        path = self.path(runner)
        record = ModelRecord.read(path) if runner._resume else None
        if record is not None and record.epoch is not None and record.epoch <= runner.epoch and mend(path, record):
            self.best = record.scores.get(self.metric, self.best)

    @staticmethod
    def path(runner) -> Path:
        """The file of the weights that is written first."""
        return Path(runner.work_dir) / 'student_best.safetensors'

    @master_only
    def after_val_epoch(self, runner, metrics: dict | None = None) -> None:
        """Save the student if it is the best so far.

        Raises:
            ValueError: The validation has no such metric.
        """
        if self.metric == LAST or self.metric.startswith(KNN):
            return
        if self.metric not in (metrics or {}):
            known = ', '.join(metrics or {}) or 'none'
            raise ValueError(
                f"SaveStudentHook compares '{self.metric}', and the validation has {known}; set its metric to one of "
                f'them, or to {LAST!r}'
            )
        size = list(runner.val_dataloader.dataset[0][0].shape)
        self._keep_best(runner, (metrics or {})[self.metric], runner.epoch, unwrap(runner.model).student, size)

    def after_train_epoch(self, runner) -> None:
        """Save the student if the k-NN has found it to be the best so far."""
        self._look_at_neighbours(runner, runner.epoch + 1)

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs: dict | None = None) -> None:
        """Save the student if the k-NN has found it to be the best so far."""
        self._look_at_neighbours(runner, runner.epoch)

    @master_only
    def _look_at_neighbours(self, runner, epoch: int) -> None:
        if not self.metric.startswith(KNN):
            return
        scores = _scores(runner, self.metric)
        if len(scores) <= self.seen:
            return
        self.seen = len(scores)
        student = unwrap(runner.model).student
        for hook in runner.hooks:
            if isinstance(hook, EMAHook) and self.metric == f'{KNN}ema_top1_pct':
                student = hook.ema_model.module.student
        self._keep_best(runner, float(scores[-1]), epoch, student, _view_size(runner))

    def _keep_best(self, runner, score: float, epoch: int, student: nn.Module, size: list[int]) -> None:
        """Save a student if its score is better than all before."""
        if score <= self.best:
            return
        self.best = score
        save_student(
            self.path(runner), student.state_dict(), describe_student(runner, epoch, {self.metric: score}, size)
        )
        runner.logger.info(f'student_best: {self.metric} {score:.2f} at epoch {epoch}')

    @master_only
    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Save the student as the checkpoint has it, if the last one is wanted."""
        if self.metric != LAST:
            return
        weights = {
            name.removeprefix('student.'): value
            for name, value in checkpoint['state_dict'].items()
            if name.startswith('student.')
        }
        save_student(
            self.path(runner), weights, describe_student(runner, checkpoint['meta']['epoch'], {}, _view_size(runner))
        )


def _scores(runner, metric: str) -> Sequence[float]:
    """The scores of a metric that the log has, from the first one."""
    buffer = runner.message_hub.log_scalars.get(metric)
    return [] if buffer is None else buffer.data[0]


def describe_student(runner, epoch: int, scores: dict[str, float], size: list[int]) -> ModelRecord:
    """The record of the student of a run.

    Args:
        runner: The runner.
        epoch: Epochs that it was trained.
        scores: By name.
        size: Channels, height and width of the images that it is shown.
    """
    model, dataset = unwrap(runner.model), runner.train_dataloader.dataset
    preprocessor, sources = model.data_preprocessor, [teacher.source for teacher in model.all_teachers]
    # mmengine's own runner does not tell what a checkpoint has seen.
    seen_before = [*(model.student_record.seen_kinds or ()), *getattr(runner, 'seen_before', ())]
    has_names = model.classifies and getattr(dataset, 'named', True)
    return ModelRecord(
        model=model.student_record.model,
        model_kwargs=to_plain(model.student_record.model_kwargs),
        teacher=to_plain(sources[0] if len(sources) == 1 else sources) or None,
        classes=dataset.classes if has_names else None,
        input_size=size,
        mean=[round(v, 6) for v in preprocessor.mean.flatten().tolist()],
        std=[round(v, 6) for v in preprocessor.std.flatten().tolist()],
        epoch=epoch,
        seed=runner.seed,
        seen_kinds=seen_kinds(dataset, seen_before) or None,
        scores=scores,
    )


def _view_size(runner) -> list[int]:
    """Channels, height and width of the views that the student trains on."""
    size: Any = runner.train_dataloader.dataset.transform_config.get('input_size', VIEW_PX)
    return [3, size, size] if isinstance(size, int) else [3, *size][-3:]


def save_student(path: Path, weights: Mapping[str, Tensor], record: ModelRecord) -> None:
    """Write a student's weights in both formats, and between the two the record that describes them.

    Args:
        path: The file in the format of safetensors.
        weights: Of a timm model.
        record: Its record; the hash of the weights is added.
    """
    save_weights(path, weights, record)
    write_weights(path.with_suffix('.pth'), weights)


def mend(path: Path, record: ModelRecord) -> bool:
    """Write the best student's file that is not there, or holds other weights than its record says, from the other.

    Args:
        path: One of the two files.
        record: Their record.

    Returns:
        Whether the weights of the record were found.
    """
    found = {one: _weights(one, record) for one in (path, path.with_suffix('.pth'))}
    weights = next((weights for weights in found.values() if weights is not None), None)
    if weights is None:
        return False
    for one, there in found.items():
        if there is None:
            write_weights(one, weights)
    return True


def _weights(path: Path, record: ModelRecord) -> dict | None:
    """The weights in a file, or None if they are not those of a record."""
    try:
        weights = read_weights(path)
    except (OSError, ValueError):
        return None
    return weights if record.weights_sha256 in (None, weights_sha256(weights)) else None
