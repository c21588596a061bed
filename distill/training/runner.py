"""mmengine's `Runner` with what this project needs of it beyond a config: CPU processes, and errors that name files."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mmengine.model import BaseTTAModel
from mmengine.runner import Runner as MMEngineRunner
from torch import nn
from torch.utils.data import DataLoader

from distill.base.processes import default_device, unwrap
from distill.base.suffixes import IMAGE_SUFFIXES, count_suffixes, files_inside

MMENGINE_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')
"""Hooks that mmengine registers by itself, and that only a None in ``default_hooks`` keeps out."""


class Runner(MMEngineRunner):
    """mmengine's `Runner`, with three additions, none of which changes the config.

    - ``default_hooks.<name>=None`` switches off any hook; mmengine accepts None for its own hooks only.
    - Without an accelerator, a model is distributed over processes that speak gloo; mmengine expects a device.
    - A data set that cannot be read or that is empty is an error that names its file.
    """

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
        with named_data(settings) as named:
            built = MMEngineRunner.build_dataloader(dataloader, seed, diff_rank_seed)
            if named and not len(built.dataset):
                raise ValueError(empty_message(named))
        return built


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

    mmdet would say where in the JSON text it stopped reading, but not in which file.

    Args:
        dataset: Config of a data set.

    Raises:
        FileNotFoundError: One does not exist.
        ValueError: The file is no JSON object, or a part of one.
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
    images = [name for name in files_inside(folder) if Path(name).suffix.lower() in IMAGE_SUFFIXES]
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
