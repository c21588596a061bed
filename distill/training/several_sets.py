"""Several sets of images without labels in place of a config's one."""

from collections.abc import Mapping, Sequence

from mmengine.config import Config

ONE_SET = ('root', 'split', 'name')
"""Settings of a data set that name one set."""


def set_sources(config: Config, sources: Sequence[Mapping]) -> None:
    """Train on several sets in place of the config's one, see `distill.data.views.Views`.

    Args:
        config: A training config, which is changed in place.
        sources: For each set ``dict(root=…)``, with ``weight`` for all or for none.

    Raises:
        ValueError: The config trains on labelled images, on a stream, or on nothing.
    """
    dataset = (config.get('train_dataloader') or {}).get('dataset')
    if not isinstance(dataset, Mapping) or dataset.get('labels', True):
        raise ValueError(
            f'{config.filename} trains on images with labels, of which there is one set; name it as the data root, or '
            'take a config of `robust-backbones configs foundation`'
        )
    if dataset.get('type') == 'StreamViews':
        raise ValueError(f'{config.filename} reads one stream; name it as the data root, or set dataset.type=Views')
    for name in ONE_SET:
        dataset.pop(name, None)
    dataset.sources = [dict(source) for source in sources]
