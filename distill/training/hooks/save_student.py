"""The best student alone, as a model that timm loads."""

from pathlib import Path

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS

from backbones.checkpoint import read_description, save_model
from distill.base.files import to_plain


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
