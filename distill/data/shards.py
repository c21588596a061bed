"""Read WebDataset shards by index instead of as a stream, so that a view is found again by its number."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from timm.data.readers.reader import Reader

from distill.base.folders import image_suffixes, is_visible

IMAGE_TYPES = ('jpg', 'jpeg', 'png', 'webp')
"""Kinds of images that come before others of the same key, which may be masks or thumbnails."""
LABEL_TYPE = 'cls'
NO_LABEL = -1


class ShardReader(Reader):
    """A timm reader of tar files in which ``<key>.jpg`` (or png, webp, …) stands beside ``<key>.cls``, the label.

    Headers and labels are read once, when the reader is built; an image is then one read at a known place.

    Shards have labels and no names of classes: the classes are called by their numbers.

    Args:
        root: Folder of the shards.
        split: Part of the shards' names (``train``), or a pattern that ends with ``.tar``
            (``imagenet-train-00*.tar``).
        labels: Whether images have labels; otherwise each has the label −1, whatever stands beside it.

    Raises:
        FileNotFoundError: There are no such shards.
        ValueError: A shard is damaged, an image has no label, a label is no class, or there is no image.
    """

    def __init__(self, root: str, split: str, labels: bool = True):
        super().__init__()
        self.root = root
        self.shards, pattern = find_shards(root, split), shard_pattern(split)
        found = [(number, *sample) for number, shard in enumerate(self.shards) for sample in _samples(shard, labels)]
        if not found:
            raise ValueError(f"shards '{root}/{pattern}' hold no images ({', '.join(IMAGE_TYPES)})")
        numbers, self.names, *places = zip(*found, strict=True)
        self.numbers, self.offsets, self.sizes, self.labels = map(np.array, (numbers, *places))
        self.class_to_idx = {str(label): label for label in range(int(self.labels.max()) + 1)}

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[io.BytesIO, int]:
        with self.shards[self.numbers[index]].open('rb') as shard:
            shard.seek(self.offsets[index])
            return io.BytesIO(shard.read(self.sizes[index])), int(self.labels[index])

    def _filename(self, index: int, basename: bool = False, absolute: bool = False) -> str:
        shard = self.shards[self.numbers[index]]
        return self.names[index] if basename else f'{shard if absolute else shard.name}/{self.names[index]}'


def shard_pattern(split: str) -> str:
    """The pattern of the shards of a part: one that is given, or for a part of their names."""
    return split if split.endswith('.tar') else f'*{split}*.tar' if split else '*.tar'


def find_shards(root: str, split: str) -> list[Path]:
    """The shards of a part, in the order of their names.

    Raises:
        FileNotFoundError: There are none.
    """
    found = sorted(Path(root).glob(shard_pattern(split)))
    if not found:
        raise FileNotFoundError(f"'{root}' has no shards '{shard_pattern(split)}'; correct root or split")
    return found


def _samples(shard: Path, labelled: bool) -> Iterator[tuple[str, int, int, int]]:
    """Name, offset, size and label of each image of a shard, in the order of the names."""
    images, labels = {}, {}
    kinds = {suffix.removeprefix('.') for suffix in image_suffixes()}
    try:
        with tarfile.open(shard, 'r:') as tar:
            for member in tar:
                folder, _, name = member.name.rpartition('/')
                stem, _, kind = name.partition('.')
                if not stem or not all(is_visible(part) for part in folder.split('/') if part != '.'):
                    continue
                if kind.lower() in IMAGE_TYPES or (kind.lower() in kinds and (folder, stem) not in images):
                    images[folder, stem] = (member.name, member.offset_data, member.size)
                elif labelled and kind == LABEL_TYPE and (label := tar.extractfile(member)) is not None:
                    labels[folder, stem] = _label(label.read(), member.name, shard)
    except tarfile.TarError as error:
        raise ValueError(f"shard '{shard}' is damaged ({error}); copy it again") from None
    for key, image in sorted(images.items()):
        if labelled and key not in labels:
            raise ValueError(
                f"'{image[0]}' in '{shard}' has no label; give it a .{LABEL_TYPE} beside it, or set "
                'dataset.labels=False to train without labels'
            )
        yield *image, labels.get(key, NO_LABEL)


def _label(content: bytes, name: str, shard: Path) -> int:
    """The label that a member of a shard holds."""
    try:
        label = int(content)
    except ValueError:
        label = -1
    if label < 0:
        raise ValueError(f"'{name}' in '{shard}' is {content[:20]!r}; expected the number of a class, from 0")
    return label
