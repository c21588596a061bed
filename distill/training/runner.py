"""mmengine's `Runner` with what this project needs of it beyond a config: CPU processes, and errors that name data."""

import os
from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.hooks import EMAHook
from mmengine.model import BaseTTAModel
from mmengine.runner import CheckpointLoader
from mmengine.runner import Runner as MMEngineRunner
from mmengine.runner.checkpoint import _load_checkpoint_to_model
from torch import nn
from torch.utils.data import DataLoader

from backbones.layers.depthwise import cpu_ways
from distill.base.folders import is_image
from distill.base.processes import default_device, rank_and_count, unwrap
from distill.base.suffixes import count_suffixes, files_inside
from distill.training.checkpoints import (
    WEIGHTS_ALONE,
    check_optimizer,
    leave_out_average,
    prepare,
    report_taken,
)
from distill.training.seen import SEEN, seen_kinds

MMENGINE_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')
"""Hooks that mmengine registers by itself, and that only a None in ``default_hooks`` keeps out."""

ENDLESS = {'InfiniteSampler', 'MultiSourceSampler', 'StreamSampler'}
"""Samplers, by name, that start again where their data set ends: every batch is full."""


WAYS_KEY = 'depthwise_ways'
"""Where a checkpoint's ``meta`` holds what `backbones.layers.depthwise.cpu_ways` has chosen."""


class Runner(MMEngineRunner):
    """mmengine's `Runner`, with some additions, none of which changes the config.

    - ``default_hooks.<name>=None`` switches off any hook; mmengine accepts None for its own hooks only.
    - Without an accelerator, a model is distributed over processes that speak gloo; mmengine expects a device.
    - A data set that cannot be read, that is empty or that is smaller than one batch is an error that names it.
    - A run that took no step is an error, not a success.
    - A checkpoint is checked before it is loaded or resumed; mmengine takes what fits and leaves the rest.
    - What was chosen by measuring is told, stands in checkpoints, and is taken up when a run is resumed.

    Attributes:
        seen_before: Corruptions that the network of a loaded checkpoint saw in training.
    """

    seen_before: Sequence[str] = ()
    _told_ways: frozenset[str] = frozenset()

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
        if self._resume:
            ways = (checkpoint.get('meta') or {}).get(WAYS_KEY)
            cpu_ways.take_up(ways if isinstance(ways, dict) else {})
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
        meta = checkpoint.get('meta')
        self.seen_before = list(meta.get(SEEN) or ()) if isinstance(meta, dict) else []
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

    def save_checkpoint(self, *args: Any, meta: dict | None = None, **kwargs: Any) -> None:
        """Write a checkpoint, as mmengine does, whose ``meta`` tells more.

        That is which corruptions the network saw in training, and the ways of gradients that were chosen by measuring.
        """
        more: dict = {}
        backbone = getattr(bare_model(self.model), 'backbone', None)
        before = [*self.seen_before, *(getattr(backbone, 'seen_kinds', None) or ())]
        if kinds := seen_kinds(self.train_dataloader.dataset, before):
            more[SEEN] = kinds
        if ways := cpu_ways.chosen():
            more[WAYS_KEY] = ways
        if new := ways.keys() - self._told_ways:
            self._told_ways |= new
            lines = '; '.join(f'{key}: {ways[key]}' for key in sorted(new))
            self.logger.info(f'weight gradients of depthwise convolutions ({cpu_ways.VARIABLE}): {lines}')
        super().save_checkpoint(*args, meta={**(meta or {}), **more} if more else meta, **kwargs)

    def train(self) -> nn.Module:
        """Train.

        Raises:
            ValueError: The run took no step, nor had the run that it resumes.
        """
        model = super().train()
        if not self.iter:
            settings = self.cfg.get('train_cfg') or {}
            limit = {key: settings[key] for key in ('max_epochs', 'max_iters') if key in settings}
            raise ValueError(f'the run took no step, with {limit}; give it more, or more images than a batch has')
        return model

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
            ValueError: The annotations are no whole JSON file, no image is left after the data set's filter, or there
                are fewer images than a batch has.
        """
        settings = dataloader.get('dataset') if isinstance(dataloader, dict) else None
        with named_data(settings) as named:
            built = MMEngineRunner.build_dataloader(dataloader, seed, diff_rank_seed)
            if named and not len(built.dataset):
                raise ValueError(empty_message(named))
        check_batches(built, settings if isinstance(settings, dict) else {})
        return built


def check_batches(loader: DataLoader, dataset: dict) -> None:
    """Check that a data loader has a batch; a run over none would end at once, as if it had succeeded.

    Args:
        loader: The data loader.
        dataset: Config of its data set, for the error.

    Raises:
        ValueError: It has none.
    """
    batches = loader.batch_sampler
    sampler = getattr(batches, 'sampler', loader.sampler)
    if not isinstance(sampler, Sized) or {kind.__name__ for kind in type(sampler).__mro__} & ENDLESS:
        return
    if not isinstance(batches, Sized) or len(batches):
        return
    paths = [str(dataset[key]) for key in ('data_root', 'root', 'split', 'ann_file') if dataset.get(key)]
    where = f" '{os.path.join(*paths)}'" if paths else ''
    processes = f' for each of {rank_and_count()[1]} processes' if rank_and_count()[1] > 1 else ''
    size = getattr(batches, 'batch_size', 'more')
    raise ValueError(
        f'data set{where} has {len(sampler)} images{processes} and a batch {size}, so '
        f'that there is no whole batch; set batch_size={max(len(sampler), 1)} or less, or drop_last=False'
    )


@contextmanager
def named_data(settings: dict | None) -> Iterator[list[dict]]:
    """Name the file or folder in the errors of building a data set.

    Args:
        settings: Config of a data set, or of a wrapper around others; anything else is left alone.

    Yields:
        Configs of the data sets that read files.

    Raises:
        FileNotFoundError: An annotation file or an image folder does not exist.
        ValueError: The annotations are no whole JSON file, or no image is left after the data set's filter.
    """
    named = list(datasets_inside(settings)) if isinstance(settings, dict) else []
    for dataset in named:
        check_annotations(dataset)
    try:
        yield named
    except ValueError as error:
        if 'at least one array' not in str(error):  # numpy's message when mmengine joins no annotations at all.
            raise
        raise ValueError(empty_message(named)) from error


def check_annotations(dataset: dict) -> None:
    """Check that a data set's annotation file and image folder exist, and both ends of a JSON file.

    What else a file can be, `distill.downstream.annotations` says for detectors.

    Args:
        dataset: Config of a data set.

    Raises:
        FileNotFoundError: One does not exist.
        ValueError: The file is a part of a JSON object.
    """
    root, name = dataset.get('data_root') or '', dataset.get('ann_file') or ''
    images = (dataset.get('data_prefix') or {}).get('img_path') or ''
    path, folder = Path(root, name), Path(root, images)
    local = '://' not in f'{root} {name} {images}' and not dataset.get('backend_args')
    for found, what, key in ((path, 'annotations', 'ann_file'), (folder, 'image folder', 'data_prefix.img_path')):
        if local and not found.exists():
            raise FileNotFoundError(f"{what} '{found}' does not exist; set data_root and {key} of the data set right")
    if path.suffix == '.json' and path.is_file():
        with open(path, 'rb') as file:
            start = file.read(64).strip()
            file.seek(max(0, path.stat().st_size - 64))
            end = file.read().strip()
        if start.startswith(b'{') and not end.endswith(b'}'):
            raise ValueError(f"annotations '{path}' are no whole JSON file; download or write them again")


def datasets_inside(dataset: dict) -> Iterator[dict]:
    """The configs of data sets with a pipeline, out of the wrappers around them."""
    if 'pipeline' in dataset and 'dataset' not in dataset:
        yield dataset
    for inner in [dataset.get('dataset'), *dataset.get('datasets', ())]:
        if inner:
            yield from datasets_inside(inner)


def type_name(settings: dict | None) -> str:
    """The name of the class that a config builds, which it gives as text, with or without scope, or as the class."""
    kind = (settings or {}).get('type', '')
    return getattr(kind, '__name__', str(kind)).rpartition('.')[2]


def empty_message(datasets: Sequence[dict]) -> str:
    """The error about data sets without samples, given their configs."""
    dataset = datasets[0] if datasets else {}
    folder = dataset.get('data_root') or ''
    if not dataset.get('ann_file'):
        folder = os.path.join(folder, (dataset.get('data_prefix') or {}).get('img_path') or '')
        return f"data set '{folder}' has no image{_other_endings(folder, dataset)}"
    if not dataset['ann_file'].endswith('.json'):
        return f"data set '{os.path.join(folder, dataset['ann_file'])}' names no image; list one a line, without suffix"
    classes = ', '.join((dataset.get('metainfo') or {}).get('classes', ())[:4]) or 'of the data set'
    path = os.path.join(folder, dataset['ann_file'])
    return (
        f"data set '{path}' has no image with an object of the classes {classes}, …; "
        'set metainfo.classes and filter_cfg to what the annotations have'
    )


def _other_endings(folder: str, dataset: dict) -> str:
    """The rest of the error about a folder without images, which may have some that end otherwise."""
    images = [name for name in files_inside(folder) if is_image(Path(name).name)]
    if not images:
        return '; set data_root, data_prefix and img_suffix to where images are'
    endings = {Path(name).suffix for name in images}
    advice = (
        f"set img_suffix='{endings.pop()}'" if len(endings) == 1 else 'give all one suffix and set img_suffix to it'
    )
    ends = f' that ends in {dataset.get("img_suffix", "its img_suffix")}'
    return f"{ends}; it has {count_suffixes(images)} (e.g. '{min(images)}'): {advice}"


def bare_model(model: nn.Module) -> nn.Module:
    """The model itself, out of its wrappers for several devices and for test-time augmentation."""
    model = unwrap(model)
    return model.module if isinstance(model, BaseTTAModel) else model
