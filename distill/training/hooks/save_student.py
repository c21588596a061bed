"""Save the best student alone, as a model that timm loads."""

from pathlib import Path

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import nn

from backbones.checkpoint import read_weights, save_model, weights_sha256, write_weights
from backbones.record import ModelRecord
from distill.base.files import to_plain
from distill.base.processes import unwrap
from distill.training.seen import seen_kinds


@HOOKS.register_module()
class SaveStudentHook(Hook):
    """Save the best student alone, as a model that timm loads.

    ``student_best.safetensors``, ``student_best.json`` and ``student_best.pth`` go to the work directory after each
    validation with a better score than all before. The record describes the weights of both files. It is written
    between the two, so that a run that is killed leaves one of them with a record that fits; the run that resumes it
    mends the other.

    Args:
        metric: Validation metric that is compared; larger is better.

    Attributes:
        best: The best score so far.
    """

    # Before EMAHook gives the weights back in place of their average: the weights that were validated are saved.
    priority = 'HIGH'

    def __init__(self, metric: str = 'top1_pct'):
        self.metric = metric
        self.best = float('-inf')

    @master_only
    def before_train(self, runner) -> None:
        """Take over the best score of the run that is resumed, and its weights as far as they are in one file."""
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
        """Save the student if it is the best so far."""
        score = metrics[self.metric]
        if score <= self.best:
            return
        self.best = score
        model = unwrap(runner.model)
        preprocessor, dataset = model.data_preprocessor, runner.train_dataloader.dataset
        # mmengine's own runner does not tell what a checkpoint has seen.
        seen_before = [*(model.student_record.seen_kinds or ()), *getattr(runner, 'seen_before', ())]
        record = ModelRecord(
            model=model.student_record.model,
            model_kwargs=to_plain(model.student_record.model_kwargs),
            teacher=to_plain(model.teacher.source) if model.teacher is not None else None,
            classes=dataset.classes if getattr(dataset, 'named', True) else None,
            input_size=list(runner.val_dataloader.dataset[0][0].shape),
            mean=[round(v, 6) for v in preprocessor.mean.flatten().tolist()],
            std=[round(v, 6) for v in preprocessor.std.flatten().tolist()],
            epoch=runner.epoch,
            seed=runner.seed,
            seen_kinds=seen_kinds(dataset, seen_before) or None,
            scores={self.metric: score},
        )
        save_student(self.path(runner), model.student, record)
        runner.logger.info(f'student_best: {self.metric} {score:.2f} at epoch {runner.epoch}')


def save_student(path: Path, student: nn.Module, record: ModelRecord) -> None:
    """Write a student's weights in both formats, and between the two the record that describes them.

    Args:
        path: The file in the format of safetensors.
        student: A timm model.
        record: Its record; the hash of the weights is added.
    """
    save_model(path, student, record)
    write_weights(path.with_suffix('.pth'), student.state_dict())


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
