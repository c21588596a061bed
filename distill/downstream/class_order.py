"""One order of classes for all data sets of a detector's config: that of its checkpoint, or of its training set.

A detector's labels are places in the list of classes that it was trained with. Where a config lists the same names in
another order, the config's lists are what can be put right; the weights stay as they are.
"""

from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

from backbones.weights.checkpoint_file import read_checkpoint
from distill.base.classes import first
from distill.downstream.checks.model import saved_classes
from distill.training.runner import datasets_inside, type_name

BY_NAME = ('CocoDataset', 'VOCDataset', 'XMLDataset')
"""Data sets whose labels are places in ``metainfo.classes``, whatever their files list."""
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def order_classes(config: Config) -> Iterator[str]:
    """Put the classes of a detector's data sets into the order of ``load_from``, or else of the training set.

    Args:
        config: A config of any task, which is changed in place. Lists that name other classes stay, and
            `distill.downstream.checks` refuses them.

    Yields:
        A line for each change.
    """
    found = [
        (name, dataset)
        for name in LOADERS
        for dataset in datasets_inside((config.get(name) or {}).get('dataset') or {})
        if config.get('default_scope') == 'mmdet' and type_name(dataset) in BY_NAME
    ]
    if not found:
        return
    source, order = f"checkpoint '{config.get('load_from')}'", _classes_of_checkpoint(config.get('load_from'))
    if order is None:
        source, order = found[0][0], classes_of(found[0][1], config)
    for name, dataset in found:
        classes = classes_of(dataset, config)
        if classes != order and sorted(classes) == sorted(order) and len(set(order)) == len(order):
            metainfo = dict(dataset.get('metainfo') or {}, classes=tuple(order))
            if len(metainfo.get('palette') or ()) == len(order):
                metainfo['palette'] = [metainfo['palette'][classes.index(name)] for name in order]
            dataset['metainfo'] = metainfo
            yield f'ordered metainfo.classes of {name} as in {source}: {first(order)}'


def classes_of(dataset: dict, config: Config) -> list[str]:
    """The classes of a data set's config; without any, those that its type has."""
    named = (dataset.get('metainfo') or {}).get('classes')
    if named is None:
        with DefaultScope.overwrite_default_scope(config.default_scope):
            kind = dataset['type'] if isinstance(dataset['type'], type) else DATASETS.get(dataset['type'])
        named = getattr(kind, 'METAINFO', {}).get('classes', ())
    return [named] if isinstance(named, str) else list(named)


def _classes_of_checkpoint(path: str | None) -> list[str] | None:
    """The classes that a checkpoint says it was trained with; None without a file, or where it does not say."""
    if not path or not Path(path).is_file():
        return None
    try:
        content = read_checkpoint(path)
    except (ValueError, OSError):
        # The command refuses the file in its own words when it loads the weights.
        return None
    meta = content.get('meta') if isinstance(content, dict) else None
    found = saved_classes(meta) if isinstance(meta, dict) else None
    return list(found) if found is not None else None
