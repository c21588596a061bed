"""Read class folders in a tar file, by the same rules as class folders on disk."""

import os
import tarfile

import numpy as np
from timm.data.readers.reader_image_in_tar import ReaderImageInTar, extract_tarinfos

from distill.base.folders import (
    HIDDEN,
    LOOSE,
    OTHER_FILES,
    LeftOut,
    image_suffixes,
    is_image,
    is_visible,
    left_out_line,
    natural_key,
)
from distill.data.shards import NO_LABEL


class TarReader(ReaderImageInTar):
    """timm's reader of a tar file, or of a tar file of tar files, with this project's idea of a class folder.

    Differs from timm's: a class is a folder at the top, or below the one folder that holds all others (``train/``), and
    not the folder that holds the image; nothing hidden is an image. In a tar file of tar files each is a top folder.

    Args:
        root: The tar file.
        labels: Whether folders are classes; otherwise images may lie anywhere, and each has the label −1.

    Attributes:
        class_to_idx: Label of each class; of images without labels there is none.
        note: A line that counts what is left out, or None.

    Raises:
        ValueError: There is no class folder with an image, or without labels no image.
    """

    def __init__(self, root: str, labels: bool = True):
        # timm raises the error of an empty zip where it finds no image.
        try:
            samples, _, _, tarfiles = extract_tarinfos(root, extensions=image_suffixes())
        except ValueError:
            raise ValueError(
                f"'{root}' has no image; expected {'<class>/<image>' if labels else 'some'} in it"
            ) from None
        except tarfile.TarError as error:
            raise ValueError(f"tar file '{root}' is damaged ({error}); copy it again") from None
        self.root, self.cache_tarfiles = root, False
        # The workers of a loader would share an open file, and with it the place in the file that each reads from.
        self.root_is_tar, self.tar_state = True, tarfiles[0][1]
        left_out = LeftOut()
        places = [_folders_and_name(member, child) for member, _, child in samples]
        kept = [k for k, place in enumerate(places) if _belongs(place, left_out)]
        self.class_to_idx: dict[str, int] = {}
        targets = [NO_LABEL] * len(kept)
        if labels:
            kept, targets = self._labelled(places, kept, left_out)
        elif not kept:
            raise ValueError(f"'{root}' has no image; expected some in it")
        self.class_name_to_idx = self.class_to_idx
        self.class_idx_to_name = {label: name for name, label in self.class_to_idx.items()}
        self.samples, self.targets = samples[kept], np.array(targets)
        self.note = left_out_line(root, left_out)

    def _labelled(self, places: list[list[str]], kept: list[int], left_out: LeftOut) -> tuple[list[int], list[int]]:
        """The images of class folders, and their labels; finds the classes, and counts what is in none."""
        depth = _depth([places[k] for k in kept])
        for k in kept:
            if len(places[k]) < depth + 2:
                left_out.add(LOOSE, '/'.join(places[k]))
        kept = [k for k in kept if len(places[k]) >= depth + 2]
        if not kept:
            raise ValueError(
                f"'{self.root}' has no class folders; expected <class>/<image> in it, or set dataset.labels=False to "
                'train without labels'
            )
        classes = sorted({places[k][depth] for k in kept}, key=natural_key)
        self.class_to_idx = {name: label for label, name in enumerate(classes)}
        return kept, [self.class_to_idx[places[k][depth]] for k in kept]


def _folders_and_name(member, child) -> list[str]:
    """The folders that lead to an image, a tar file in the tar file among them, and the image's name."""
    parts = [part for part in member.path.split('/') if part not in ('', '.')]
    return parts if child is None else [os.path.splitext(os.path.basename(child.name))[0], *parts]


def _belongs(place: list[str], left_out: LeftOut) -> bool:
    """Whether an image is visible; counts what is not."""
    hidden = next((k for k, folder in enumerate(place[:-1]) if not is_visible(folder)), None)
    if hidden is not None:
        name = '/'.join(place[: hidden + 1])
        if name not in left_out.names.get(HIDDEN, ()):
            left_out.add(HIDDEN, name)
        return False
    if not is_image(place[-1]):
        left_out.add(OTHER_FILES, '/'.join(place))
        return False
    return True


def _depth(places: list[list[str]]) -> int:
    """How many folders lead to the class folders: each holds all of the rest, in more than one folder or alone."""
    depth = 0
    while places and len({place[depth] for place in places}) == 1:
        deeper = [place for place in places if len(place) > depth + 2]
        if not deeper or (len(deeper) < len(places) and len({place[depth + 1] for place in deeper}) < 2):
            break
        depth += 1
        places = deeper
    return depth
