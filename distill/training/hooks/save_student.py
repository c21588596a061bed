"""Save the best student alone, as a model that timm loads."""

from pathlib import Path

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from backbones.checkpoint import save_model
from backbones.record import ModelRecord
from distill.base.files import to_plain
from distill.base.processes import unwrap


@HOOKS.register_module()
class SaveStudentHook(Hook):
    """Save the best student alone, as a model that timm loads.

    ``student_best.pth`` and ``student_best.json`` go to the work directory after each validation with a better score
    than all before.

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

    def before_train(self, runner) -> None:
        """Take over the best score of the run that is resumed."""
        record = ModelRecord.read(self.path(runner)) if runner._resume else None
        if record is not None and record.epoch is not None and record.epoch <= runner.epoch:
            self.best = record.scores.get(self.metric, self.best)

    @staticmethod
    def path(runner) -> Path:
        """The file of the weights."""
        return Path(runner.work_dir) / 'student_best.pth'

    @master_only
    def after_val_epoch(self, runner, metrics: dict | None = None) -> None:
        """Save the student if it is the best so far."""
        score = metrics[self.metric]
        if score <= self.best:
            return
        self.best = score
        model = unwrap(runner.model)
        preprocessor, dataset = model.data_preprocessor, runner.train_dataloader.dataset
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
            scores={self.metric: score},
        )
        save_model(self.path(runner), model.student, record)
        runner.logger.info(f'student_best.pth: {self.metric} {score:.2f} at epoch {runner.epoch}')
