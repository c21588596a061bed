"""Compare an evaluator that reads annotations of its own, as COCO's do, with the data set that is evaluated."""

import os
from collections.abc import Sequence

from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger

from distill.base.classes import first
from distill.downstream.annotations.masks import mend_polygons

SETTINGS = {'validation': 'val_evaluator', 'test': 'test_evaluator'}
"""The config's key of the evaluator of a part."""


def check_evaluator(evaluator: Evaluator, datasets: list, part: str) -> None:
    """Check that every image of the data sets is in each evaluator's file, and score no other images than these.

    Args:
        evaluator: The evaluator of a loop.
        datasets: The data sets of the loop, out of their wrappers.
        part: ``validation`` or ``test``.

    Raises:
        ValueError: An evaluator's file lacks an image, has another image under its id, lacks masks that are scored, or
            has no object at all.
    """
    metrics = [metric for metric in evaluator.metrics if hasattr(getattr(metric, '_coco_api', None), 'imgs')]
    # An evaluator for several data sets at once gives each metric the results of one of them.
    if not metrics or hasattr(evaluator, 'dataset_prefixes'):
        return
    infos: dict = {}
    for dataset in datasets:
        for index in range(len(dataset)):
            info = dataset.get_data_info(index)
            other = infos.setdefault(info['img_id'], info)
            if other['img_path'] != info['img_path']:
                raise ValueError(
                    f"the {part} set has two images with the id {info['img_id']!r}, '{other['img_path']}' and "
                    f"'{info['img_path']}', which the evaluator cannot tell apart; number the images of all files apart"
                )
    for metric in metrics:
        check_images(metric, infos, f"the {part} set '{datasets[0].ann_file}'", SETTINGS[part])
        check_objects(metric, infos, datasets[0].metainfo['classes'], SETTINGS[part])


def check_images(metric, infos: dict, data: str, setting: str) -> None:
    """Compare one metric's images with those of the data, and have it score these.

    Args:
        metric: A metric with a reader of its file, as mmdet's `CocoMetric`.
        infos: What the data set knows of each image (`get_data_info`), by image id.
        data: The data set's name in messages.
        setting: The config's key of the evaluator.

    Raises:
        ValueError: An image is missing or another one.
    """
    known = metric._coco_api.imgs
    where = _name(metric, setting)
    advice = f"set {setting}.ann_file to the data set's file"
    missing = [image for image in infos if image not in known]
    if missing:
        raise ValueError(
            f'{where} lack {len(missing)} of the {len(infos)} images of {data}: ids {first(missing)}; '
            f'they have {first(list(known))}: {advice}'
        )
    for image, info in infos.items():
        name = known[image].get('file_name') or info['img_path']
        if os.path.basename(name) != os.path.basename(info['img_path']):
            raise ValueError(
                f"{where} have '{name}' under the id {image!r}, where {data} has '{info['img_path']}'; {advice}"
            )
        # Masks are drawn at the image's size, which the file may lack and the data set knows.
        if not known[image].get('width'):
            known[image].update(height=info.get('height'), width=info.get('width'))
    if metric.img_ids is None and len(known) > len(infos):
        metric.img_ids = [image for image in known if image in infos]
        MMLogger.get_current_instance().warning(
            f'{where}: scoring the {len(infos)} images of {data}, of {len(known)} in the file'
        )


def check_objects(metric, infos: dict, classes: Sequence[str], setting: str) -> None:
    """Check that there are objects to score, with masks if these are scored, and say which classes have none.

    Args:
        metric: A metric as above.
        infos: As above.
        classes: The classes that are scored.
        setting: The config's key of the evaluator.

    Raises:
        ValueError: There is no object, or one without a mask; or the file does not name a class.
    """
    where = _name(metric, setting)
    metric._coco_api.get_cat_ids(cat_names=classes)  # Refuses a file that lacks one; the metric asks after an epoch.
    objects = [found for image in infos for found in metric._coco_api.imgToAnns.get(image, ())]
    if 'segm' in metric.metrics:
        unmasked = [found['id'] for found in objects if mend_polygons(found.get('segmentation')) is None]
        if unmasked:
            raise ValueError(
                f'{where} have {len(unmasked)} objects without a mask, the first is annotation {unmasked[0]!r}; '
                f"add their masks, or set {setting}.metric='bbox'"
            )
    scored = {found['category_id'] for found in objects if not found['iscrowd']}
    names = {category['name'] for key, category in metric._coco_api.cats.items() if key in scored}
    absent = [name for name in classes if name not in names]
    if metric.format_only or not absent:
        return
    if len(absent) == len(classes):
        raise ValueError(
            f'{where} have no object of {first(classes)} in the {len(infos)} images, or crowds only; nothing can be '
            f"scored: set {setting}.ann_file to the data set's file"
        )
    MMLogger.get_current_instance().warning(
        f'{where} have no object of {len(absent)} of the {len(classes)} classes ({first(absent)}), which have no '
        'score; mAP is the mean of the others'
    )


def _name(metric, setting: str) -> str:
    """A metric's file in messages."""
    return f'{getattr(metric._coco_api, "where", "annotations")} of {setting} ({type(metric).__name__})'
