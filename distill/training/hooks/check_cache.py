"""Compare the run with the teacher's cache before training."""

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from distill.base.processes import unwrap


@HOOKS.register_module()
class CheckCacheHook(Hook):
    """Stop before training if a teacher's cache was not written for the views of this run, and say what differs."""

    def before_train(self, runner) -> None:
        """Compare data, views, batch augmentation and versions with the manifest.

        Raises:
            ValueError: Something differs.
        """
        model, loader = unwrap(runner.model), runner.train_dataloader
        for teacher in model.all_teachers:
            teacher.check_run(loader.dataset, loader.sampler, model.data_preprocessor)
