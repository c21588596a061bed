"""mmengine's `Runner` with what this project needs of it beyond a config: CPU processes, and errors that name files."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mmengine.hooks import EMAHook
from mmengine.model import BaseTTAModel
from mmengine.runner import CheckpointLoader
from mmengine.runner import Runner as MMEngineRunner
from mmengine.runner.checkpoint import _load_checkpoint_to_model
from torch import nn
from torch.utils.data import DataLoader

from distill.base.processes import default_device, unwrap
from distill.training.checkpoints import (
    WEIGHTS_ALONE,
    check_optimizer,
    leave_out_average,
    prepare,
    report_taken,
)

MMENGINE_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')
"""Hooks that mmengine registers by itself, and that only a None in ``default_hooks`` keeps out."""


class Runner(MMEngineRunner):
    """mmengine's `Runner`, with four additions, none of which changes the config.

    - ``default_hooks.<name>=None`` switches off any hook; mmengine accepts None for its own hooks only.
    - Without an accelerator, a model is distributed over processes that speak gloo; mmengine expects a device.
    - A data set that cannot be read or that is empty is an error that names its file.
    - A checkpoint is checked before it is loaded or resumed; mmengine takes what fits and leaves the rest.
    """

    def load_checkpoint(
        self,
        filename: str,
        map_location: str | Callable = 'cpu',
        strict: bool = False,
        revise_keys: Sequence[tuple[str, str]] = ((r'^module\.', ''),),
    ) -> dict:
        """Load weights, or all that a run goes on with.

        Args:
            filename: Path or URL.
            map_location: As in ``torch.load``.
            strict: Whether all weights must fit, as they must where a run is resumed.
            revise_keys: Pairs of a pattern and a replacement for names, as in mmengine.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The checkpoint cannot be read, or does not fit.
        """
        checkpoint = CheckpointLoader.load_checkpoint(filename, map_location)
        model, bare = unwrap(self.model), bare_model(self.model)
        checkpoint = prepare(checkpoint, bare, filename, self._resume)
        keeps_average = any(isinstance(hook, EMAHook) for hook in self.hooks)
        if self._resume and not keeps_average and leave_out_average(checkpoint):
            self.logger.warning(f'{filename}: the average of the weights is left out, since the config has no EMAHook')
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        note = report_taken(checkpoint, bare)
        if note and not self._resume:
            self.logger.warning(f'{filename}: {note}')
        try:
            loaded = _load_checkpoint_to_model(model, checkpoint, strict or self._resume, revise_keys=list(revise_keys))
        except RuntimeError as error:
            raise ValueError(
                f"checkpoint '{filename}' does not fit the model: {note or error}; use the config it was trained with"
            ) from error
        self._has_loaded = True
        self.logger.info(f'Load checkpoint from {filename}')
        return loaded

    def resume(self, filename: str, *args, **kwargs) -> None:
        """Go on where a checkpoint was written.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The checkpoint does not hold all that it takes, or is of another run.
        """
        self._resume = True
        try:
            super().resume(filename, *args, **kwargs)
        except (KeyError, TypeError, AttributeError, AssertionError, IndexError, RuntimeError) as error:
            reason = ' '.join(f'{type(error).__name__}: {error}'.split())
            raise ValueError(
                f"checkpoint '{filename}' cannot be resumed ({reason}); resume with the config it was trained with, or "
                f'{WEIGHTS_ALONE.format(filename)}'
            ) from error
        optimizer = getattr(self.optim_wrapper, 'optimizer', None)
        if optimizer is not None:
            check_optimizer(optimizer.state, filename)

    def register_default_hooks(self, hooks: dict | None = None) -> None:
        """Register hooks by name, apart from those that are switched off."""
        super().register_default_hooks(
            hooks and {name: hook for name, hook in hooks.items() if hook is not None or name in MMENGINE_HOOKS}
        )

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Move a model to its device, and wrap it if there are several processes."""
        if model_wrapper_cfg is None and self.distributed and default_device() == 'cpu':
            model_wrapper_cfg = dict(
                device_ids=None,
                broadcast_buffers=False,
                find_unused_parameters=self.cfg.get('find_unused_parameters', False),
            )
        return super().wrap_model(model_wrapper_cfg, model)

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict, seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """Build a data loader from its config.

        Raises:
            ValueError: The annotations are no whole JSON file, or no image is left after the data set's filter.
        """
        settings = dataloader.get('dataset') if isinstance(dataloader, dict) else None
        named = list(datasets_inside(settings)) if isinstance(settings, dict) else []
        for dataset in named:
            check_annotations(dataset)
        try:
            built = MMEngineRunner.build_dataloader(dataloader, seed, diff_rank_seed)
        except ValueError as error:
            if 'at least one array' not in str(error):  # numpy's message when mmengine joins no annotations at all.
                raise
            raise ValueError(empty_message(named)) from error
        if named and not len(built.dataset):
            raise ValueError(empty_message(named))
        return built


def check_annotations(dataset: dict) -> None:
    """Check both ends of a data set's annotation file, where it exists.

    mmdet would say where in the JSON text it stopped reading, but not in which file.

    Args:
        dataset: Config of a data set.

    Raises:
        ValueError: The file is no JSON object, or a part of one.
    """
    path = Path(dataset.get('data_root') or '', dataset.get('ann_file') or '')
    if path.suffix == '.json' and path.is_file():
        with open(path, 'rb') as file:
            start = file.read(64).strip()
            file.seek(max(0, path.stat().st_size - 64))
            end = file.read().strip()
        if not (start.startswith(b'{') and end.endswith(b'}')):
            raise ValueError(f"annotations '{path}' are no whole JSON file; download or write them again")


def datasets_inside(dataset: dict) -> Iterator[dict]:
    """The configs of data sets with a pipeline, out of the wrappers around them."""
    if 'pipeline' in dataset and 'dataset' not in dataset:
        yield dataset
    for inner in [dataset.get('dataset'), *dataset.get('datasets', ())]:
        if inner:
            yield from datasets_inside(inner)


def empty_message(datasets: Sequence[dict]) -> str:
    """The error about data sets without samples, given their configs."""
    dataset = datasets[0] if datasets else {}
    folder = dataset.get('data_root') or ''
    if not dataset.get('ann_file'):
        folder = os.path.join(folder, (dataset.get('data_prefix') or {}).get('img_path') or '')
        return f"data set '{folder}' has no image; set data_root, data_prefix and img_suffix to where images are"
    classes = ', '.join((dataset.get('metainfo') or {}).get('classes', ())[:4]) or 'of the data set'
    path = os.path.join(folder, dataset['ann_file'])
    return (
        f"data set '{path}' has no image with an object of the classes {classes}, …; "
        'set metainfo.classes and filter_cfg to what the annotations have'
    )


def bare_model(model: nn.Module) -> nn.Module:
    """The model itself, out of its wrappers for several devices and for test-time augmentation."""
    model = unwrap(model)
    return model.module if isinstance(model, BaseTTAModel) else model
