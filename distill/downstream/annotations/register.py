"""Importing this module has mmdet read COCO files by this project's rules, in data sets and in evaluators.

Configs of detectors name it in ``custom_imports``. From then on, for mmdet's `CocoDataset` and its subclasses, and for
its `CocoMetric` and its subclasses:

- A class's label is its place in ``metainfo.classes``. mmdet takes the place in the file's list of categories, so that
  two files with the same categories in another order give the same label to two classes.
- `distill.downstream.annotations.mending` mends or refuses what a file holds, and the log says so.
- Scores of single classes (``classwise``) stand beside their own names whatever the order of the category ids.
- Detections are written to their file as one text, the same in a fifth of the time.

Intact files whose categories stand in the order of ``metainfo.classes`` are read as mmdet reads them. Data sets that
read files in other ways, as those of LVIS and of panoptic segmentation do, are left alone.
"""

import difflib
from collections.abc import Sequence
from functools import partial

import backbones.openmmlab  # noqa: F401 - before anything imports mmcv's operators

# isort: split
from mmdet.datasets import CocoDataset, api_wrappers, objects365
from mmdet.evaluation.metrics import coco_metric
from mmengine.fileio import dump, put_text
from mmengine.logging import MMLogger

from backbones.openmmlab.fast_coco import by_name
from distill.base.classes import first
from distill.downstream.annotations.mending import mend
from distill.downstream.annotations.reading import read_coco

__all__ = ['Coco']


class Coco(api_wrappers.COCO):
    """mmdet's reader of COCO files, which mends a file, and finds categories in the order of the names asked for.

    Args:
        annotation_file: The file; None for an empty reader, which `loadRes` fills.
        dataset: The data set that reads the file. None for an evaluator, which knows neither images nor masks.
    """

    def __init__(self, annotation_file: str | None = None, dataset: CocoDataset | None = None):
        super().__init__()
        self.where = f"annotations '{getattr(dataset, 'ann_file', annotation_file)}'"
        self.trains = dataset is not None
        if annotation_file is None:
            return
        self.dataset = read_coco(annotation_file, self.where)
        folder = None
        if dataset is not None and not dataset.backend_args:
            folder = (dataset.data_prefix or {}).get('img') or ''
        masked = needs_masks(dataset)
        for line in mend(self.dataset, self.where, masked or dataset is None, masked, folder):
            say(line)
        self._check_sizes()
        self.createIndex()
        # mmdet's names of these are set by its constructor.
        self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs

    def get_cat_ids(
        self, cat_names: Sequence[str] = (), sup_names: Sequence[str] = (), cat_ids: Sequence[int] = ()
    ) -> list:
        """Ids of categories, in the order of ``cat_names`` if these are given.

        Raises:
            ValueError: The file has no category of one of the names.
        """
        if isinstance(cat_names, str):
            raise ValueError(f"metainfo.classes is the text '{cat_names}', not a list: write ('{cat_names}',)")
        if not len(cat_names):
            return super().get_cat_ids(cat_names, sup_names, cat_ids)
        ids = {category['name']: category['id'] for category in self.dataset['categories']}
        missing = [name for name in cat_names if name not in ids]
        if missing:
            raise ValueError(
                f"{self.where} lack the class '{missing[0]}' ({len(missing)} such) of metainfo.classes; they have "
                f'{first(list(ids), 6)}{near(missing[0], list(ids))}: set metainfo.classes to these'
            )
        wanted = set(super().get_cat_ids([], sup_names, cat_ids))
        found = [ids[name] for name in cat_names if ids[name] in wanted]
        if found != [key for key in ids.values() if key in set(found)]:
            say(
                f'{self.where} list the categories in another order ({first(list(ids))}) than metainfo.classes '
                f'({first(cat_names)}); labels follow metainfo.classes'
            )
        self._say_left_out(cat_names)
        return found

    def _check_sizes(self) -> None:
        """Stop at an image without a size whose file was not looked up, because it lies on a remote storage."""
        lacking = [image for image in self.dataset['images'] if not image.get('width')] if self.trains else []
        if lacking:
            raise ValueError(
                f"{self.where} lack width and height of '{lacking[0]['file_name']}' ({len(lacking)} such), which are "
                'not looked up on a remote storage; write them into the file'
            )

    def _say_left_out(self, names: Sequence[str]) -> None:
        """Say how many objects are of classes that are not asked for; that is how mmdet trains on some classes only."""
        left_out = {category['id']: category['name'] for category in self.dataset['categories']}
        left_out = {key: name for key, name in left_out.items() if name not in set(names)}
        objects = [annotation['category_id'] for annotation in self.dataset['annotations'] if left_out]
        objects = [category for category in objects if category in left_out]
        if objects and self.trains:
            others = [left_out[key] for key in dict.fromkeys(objects)]
            say(
                f'{self.where}: {len(objects)} of {len(self.dataset["annotations"])} objects are left out, being of '
                f'{len(others)} classes that metainfo.classes does not have: {first(others)}'
            )


def near(name: str, names: Sequence[str]) -> str:
    """A name that is meant, for a message: one that differs by case or blanks, or by little."""
    plain = {''.join(other.split()).casefold(): other for other in names}
    found = difflib.get_close_matches(''.join(name.split()).casefold(), plain, 1)
    return f" (for '{name}' perhaps '{plain[found[0]]}')" if found else ''


def say(line: str) -> None:
    """Write a line to the log; an evaluator that reads the file again does not repeat it."""
    MMLogger.get_current_instance().warning(line)


def needs_masks(dataset: CocoDataset | None) -> bool:
    """Whether a data set's pipeline loads masks."""
    steps = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    return any(getattr(step, 'with_mask', False) for step in steps)


class ForDataset:
    """The attribute ``COCOAPI`` of a data set's class: reading through a data set, the reader knows that data set."""

    def __get__(self, dataset: CocoDataset | None, kind: type):
        return Coco if dataset is None else partial(Coco, dataset=dataset)


def write_at_once(content: object, file: str) -> None:
    """Write JSON as mmengine's `dump` does, whose way to a file goes through Python for each number."""
    put_text(dump(content, file_format='json'), file)


def install() -> None:
    """Put the readers and evaluators into mmdet; a second time changes nothing."""
    for kind in (CocoDataset, objects365.Objects365V1Dataset, objects365.Objects365V2Dataset):
        kind.COCOAPI = ForDataset()
    coco_metric.COCO, coco_metric.dump = Coco, write_at_once
    for name in ('COCOeval', 'COCOevalMP'):
        setattr(coco_metric, name, by_name(getattr(coco_metric, name)))


install()
