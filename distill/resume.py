"""What has a run that was stopped and resumed end where an uninterrupted one does."""

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop

from distill.data import ViewSampler


class MidEpochHook(Hook):
    """Know where in its epoch a checkpoint was written, and have gradients accumulate within an epoch only.

    The last step of an epoch takes what there is: a remainder that waits for the next epoch would be lost with a
    checkpoint between them.
    """

    def __init__(self):
        self.done = 0
        self.start = 0

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Note how many batches of its epoch a checkpoint comes after."""
        meta = checkpoint['meta']
        meta['batches_done'] = meta['iter'] - self.start if meta['epoch'] == runner.epoch else 0

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Read it again."""
        self.done = checkpoint.get('meta', {}).get('batches_done', 0) if runner._resume else 0

    def begin_epoch(self, runner) -> int:
        """Begin an epoch, or go on in it; returns how many of its batches are done."""
        done, self.done = self.done, 0
        self.start = runner.iter - done
        if runner.optim_wrapper._accumulative_counts > 1:
            runner.optim_wrapper.initialize_count_status(runner.model, done, len(runner.train_loop.dataloader))
        return done


@HOOKS.register_module()
class ExactResumeHook(MidEpochHook):
    """Go on at the very batch and validation that a checkpoint stands before.

    A checkpoint from the middle of an epoch (``default_hooks.checkpoint.by_epoch=False``) is resumed in the middle: the
    views that were shown are passed over unread, where mmengine would show the whole epoch again. A run that was
    stopped between a checkpoint and the end of the validation that follows it is validated there after all, so that
    the best student is the best.
    """

    # Validates when all other hooks are ready for training.
    priority = 'LOWEST'

    def before_train(self, runner) -> None:
        """Make up for a validation that may not have ended."""
        loop = runner.train_loop
        if not runner._resume or not runner.epoch or self.done or runner.val_loop is None:
            return
        due = runner.epoch % loop.val_interval == 0 or runner.epoch == loop.max_epochs
        if due and runner.epoch >= loop.val_begin:
            runner.val_loop.run()

    def before_train_epoch(self, runner) -> None:
        """Pass over what is done.

        Raises:
            ValueError: A checkpoint from the middle of an epoch is resumed, and the sampler cannot start there.
        """
        loader = runner.train_loop.dataloader
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            return
        done = self.begin_epoch(runner)
        if isinstance(loader.sampler, ViewSampler):
            loader.sampler.skip = done * loader.batch_size
        elif done:
            raise ValueError(
                f'the checkpoint is from the middle of an epoch, where a {type(loader.sampler).__name__} cannot start; '
                'resume one from the end of an epoch or use a ViewSampler'
            )
