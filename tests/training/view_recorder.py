"""A hook that writes down what a run has seen: configs name this module in ``custom_imports``."""

from pathlib import Path

from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class RecordViewsHook(Hook):
    """Write the epoch, image and view of every sample, a line each, to ``views_<rank>.txt`` in the work directory."""

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        _, _, indices, views, _ = data_batch
        with open(Path(runner.work_dir, f'views_{runner.rank}.txt'), 'a') as file:
            for index, view in zip(indices.tolist(), views.tolist(), strict=True):
                file.write(f'{runner.epoch} {index} {view}\n')
