"""Compare the classes of the data with those of the student before training."""

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from distill.base.processes import unwrap


@HOOKS.register_module()
class CheckClassesHook(Hook):
    """Stop before training if data and model do not have the same number of classes."""

    def before_train(self, runner) -> None:
        """Compare the student with the training and the validation set.

        Raises:
            ValueError: The numbers differ.
        """
        model = unwrap(runner.model)
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
