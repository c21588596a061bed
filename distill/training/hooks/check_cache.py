"""A teacher's cache and the run's views, compared before training."""

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from distill.base.processes import unwrap
from distill.teachers.cached import CachedTeacher


@HOOKS.register_module()
class CheckCacheHook(Hook):
    """Stop before training if a teacher's cache was not written for this run's views, and say what differs."""

    def before_train(self, runner) -> None:
        """Compare data, views, batch augmentation and versions with the manifest.

        Raises:
            ValueError: Something differs.
        """
        model = unwrap(runner.model)
        loader = runner.train_dataloader
        for teacher in getattr(model.teacher, 'teachers', [model.teacher]):
            if isinstance(teacher, CachedTeacher):
                teacher.check(loader.dataset, loader.sampler, model.data_preprocessor)
