"""Tables of detection and segmentation."""

from distill.report.entries import backbone, downstream
from distill.report.tables import BACKBONE, IMAGES, Cell, Column, Table, backbone_cell, mark_best, number_cell
from distill.results.entries import Results
from distill.results.schema import PRECISIONS


def detection_tables(results: Results) -> list[Table]:
    """Average precisions of every detector; none where there is no detector."""
    return [table for table in (_detection_table(results),) if table]


def segmentation_tables(results: Results) -> list[Table]:
    """Means over classes and pixels, then IoU by class; none where there is no segmenter."""
    return [table for table in (_segmentation_table(results), _class_table(results)) if table]


def _detection_table(results: Results) -> Table | None:
    entries = downstream(results, 'detection')
    if not entries:
        return None
    keys = [
        (f'{kind}_{name}', label + ' ' + (name if name == 'mAP' else 'AP' + name.removeprefix('mAP_')))
        for kind, label in (('bbox', 'box'), ('segm', 'mask'))
        for name in PRECISIONS
    ]
    keys = [(key, label) for key, label in keys if any(key in entry for entry in entries)]
    columns = [BACKBONE, *(Column(label, best='max') for _, label in keys), IMAGES]
    rows = []
    for entry in entries:
        # COCO's -1: no object of that size in the set.
        values = [entry.get(key, -1) for key, _ in keys]
        cells = [number_cell(None if value < 0 else value, '{:.3f}') for value in values]
        rows.append([backbone_cell(entry), *cells, number_cell(entry['images'], '{:,}')])
    notes = ['COCO average precision as a fraction; AP50 and AP75 at one IoU, APs, APm, APl by object size.']
    return Table('Object detection', columns, [mark_best(columns, rows)], notes)


def _segmentation_table(results: Results) -> Table | None:
    entries = downstream(results, 'segmentation')
    if not entries:
        return None
    keys = ('mIoU', 'mAcc', 'aAcc')
    columns = [BACKBONE, *(Column(key, best='max') for key in keys), IMAGES]
    rows = []
    for entry in entries:
        cells = [number_cell(entry.get(key), '{:.3f}') for key in keys]
        rows.append([backbone_cell(entry), *cells, number_cell(entry['images'], '{:,}')])
    notes = ['Fractions: mean IoU over classes, mean accuracy over classes, accuracy over all pixels.']
    return Table('Semantic segmentation', columns, [mark_best(columns, rows)], notes)


def _class_table(results: Results) -> Table | None:
    entries = [entry for entry in downstream(results, 'segmentation') if entry.get('per_class_IoU')]
    if not entries:
        return None
    classes = list(dict.fromkeys(name for entry in entries for name in entry['per_class_IoU']))
    columns = [
        Column('Class', number=False),
        *(Column('IoU', backbone(entry)) for entry in entries),
    ]
    rows = [
        [Cell(name), *(number_cell(entry['per_class_IoU'].get(name), '{:.3f}') for entry in entries)]
        for name in classes
    ]
    return Table('IoU by class', columns, [rows])
