"""The names of a model's classes, as far as something tells them."""

from collections.abc import Mapping, Sequence
from typing import Literal

IMAGENET_CLASSES = 1000


def known_classes(recorded: Sequence[str] | None, config: Mapping, num_classes: int) -> list[str] | None:
    """The names of a model's classes in the order of its logits, or None if nothing tells them.

    Args:
        recorded: Names in the record beside the checkpoint, which come first.
        config: timm's ``pretrained_cfg``, whose ``label_names`` are a list or a dict by index.
        num_classes: Number of the logits; names of another number are another model's.
    """
    names = recorded or config.get('label_names') or ()
    if isinstance(names, Mapping):
        names = [name for _, name in sorted(names.items(), key=lambda item: int(item[0]))]
    names = list(map(str, names))
    return names if len(names) == num_classes and (recorded or not _describe_imagenet(names)) else None


def classes_or_imagenet(
    told: Sequence[str] | None, num_classes: int
) -> tuple[list[str] | None, Literal['told', 'assumed'] | None]:
    """The names of a model's classes, and where they are from.

    Args:
        told: What `known_classes` has found, or None.
        num_classes: Number of the logits. A model of 1,000 that tells no names is taken for one of ImageNet's classes
            in their own order, which is said wherever the names are used.

    Returns:
        ImageNet's names are WordNet ids, as in the data. ``told`` or ``assumed``; None twice if nothing is known.
    """
    if told is not None:
        return list(told), 'told'
    if num_classes != IMAGENET_CLASSES:
        return None, None
    from timm.data import ImageNetInfo

    return list(ImageNetInfo().label_names()), 'assumed'


def _describe_imagenet(names: Sequence[str]) -> bool:
    """Whether names are words for ImageNet's classes in their order, where data has WordNet ids."""
    if len(names) != IMAGENET_CLASSES:
        return False
    from timm.data import ImageNetInfo

    words = [name.partition(',')[0].casefold() for name in ImageNetInfo().label_descriptions()]
    return sum(name.partition(',')[0].casefold() == word for name, word in zip(names, words, strict=True)) > 500
