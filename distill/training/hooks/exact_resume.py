"""Resume a run at the very batch that its checkpoint was written before."""

from mmengine.registry import HOOKS

from distill.data.sampler import ViewSampler
from distill.data.stream_views import StreamSampler
from distill.training.resume import MidEpochHook, Place, WithoutPast, is_epoch_based, other_steps, step_size


@HOOKS.register_module()
class ExactResumeHook(MidEpochHook):
    """Resume a run at the very batch and validation that its checkpoint was written before.

    A checkpoint from the middle of an epoch (``default_hooks.checkpoint.by_epoch=False``) is resumed in the middle: the
    views that the run has seen are passed over unread, where mmengine would show the whole epoch again. A run that was
    stopped between a checkpoint and the end of the validation after it makes up for that validation, so that the best
    student is the best of all epochs.
    """

    # The last hook, since the validation that it may run needs every other hook ready for training.
    priority = 'LOWEST'

    def before_train(self, runner) -> None:
        """Find the place of the checkpoint, and run the validation after it, which may not have ended.

        Raises:
            ValueError: The checkpoint is from the middle of an epoch, where steps of this size cannot go on; or a
                stream is to be trained by epochs.
        """
        loop = runner.train_loop
        is_stream = isinstance(loop.dataloader.sampler, StreamSampler)
        if is_stream and is_epoch_based(runner):
            raise ValueError(
                f"stream '{loop.dataloader.dataset.where}' has no length, and so no epochs; train by iterations: "
                'train_cfg=dict(by_epoch=False, max_iters=…, val_interval=…)'
            )
        if is_epoch_based(runner):
            self.find_place(runner, self.takes_other_steps(runner))
        elif is_stream:
            self.find_place_in_stream(runner)
        if not runner._resume or not runner.epoch or self.done or runner.val_loop is None:
            return
        due = runner.epoch % loop.val_interval == 0 or runner.epoch == loop.max_epochs
        if due and runner.epoch >= loop.val_begin:
            runner.val_loop.run()

    def find_place_in_stream(self, runner) -> None:
        """Have a stream begin at the sample at which the run goes on; mmengine would load all before it.

        Raises:
            ValueError: The samples that are done are no whole pairs of each process.
        """
        loop, place, now = runner.train_loop, self.place, step_size(runner)
        if place is None:
            return
        self.start, self.before = runner.iter, runner.iter * now.samples
        if place.step is not None and place.samples is not None:
            self.before = place.samples
        if self.before % (2 * now.processes):
            step = place.step or now
            raise ValueError(other_steps(Place(self.before, None, step), now, takes_other_steps=False))
        loop.dataloader.sampler.start = self.before
        # The loop made its iterator before it knew of the past.
        fresh = type(loop.dataloader_iterator)(loop.dataloader)
        forwards = not getattr(loop, 'fast_forward_on_resume', False)
        loop.dataloader_iterator = WithoutPast(fresh, runner.iter) if forwards else fresh

    def takes_other_steps(self, runner) -> bool:
        """Whether the loader's sampler deals whole pairs of views, both as it did and as it does now."""
        place, now = self.place, step_size(runner)
        is_dealt = isinstance(runner.train_loop.dataloader.sampler, ViewSampler)
        if not is_dealt or place is None or place.step is None or place.samples is None:
            return False
        dealt = [place.samples // step.processes for step in (place.step, now) if place.samples % step.processes == 0]
        return place.step.processes == now.processes or (len(dealt) == 2 and not any(views % 2 for views in dealt))

    def before_train_epoch(self, runner) -> None:
        """Have the sampler pass over the views of the epoch that the run has seen.

        Raises:
            ValueError: A checkpoint from the middle of an epoch is resumed, and the sampler cannot start there.
        """
        loader = runner.train_loop.dataloader
        if not is_epoch_based(runner):
            return
        done = self.begin_epoch(runner)
        if isinstance(loader.sampler, ViewSampler):
            loader.sampler.skip = done * loader.batch_size
        elif done:
            raise ValueError(
                f'the checkpoint is from the middle of an epoch, where a {type(loader.sampler).__name__} cannot start; '
                'resume one from the end of an epoch or use a ViewSampler'
            )
