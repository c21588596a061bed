"""The ledger of detectors and segmenters: the share of a score that is kept under corruption, down to the artefact.

Top-1, mAP and mIoU do not compare; the share of each that is left under corruption does, in percent of the clean score.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from distill.base.records import SEVERITIES, Cell, cells_of
from distill.report.entries import DOWNSTREAM, backbone, downstream
from distill.report.scores import suite_cells, suite_score
from distill.report.tables import Cell as TableCell
from distill.report.tables import Column, Table, difference_cell, number_cell
from distill.results.entries import ArtefactChange, Results
from distill.results.per_image import PerImage, cell_key, paired_bootstrap, read_per_image
from distill.results.statistics import Score

METRICS = {'detection': 'bbox_mAP', 'segmentation': 'mIoU'}
LABELS = {'detection': 'box mAP', 'segmentation': 'mIoU'}
STAGES = {'detection': 'detector', 'segmentation': 'segmenter'}
PER_IMAGE = 'P', 'mPC'


@dataclass(frozen=True)
class Exported:
    """A detector or segmenter, and its artefact.

    Attributes:
        section: ``detection`` or ``segmentation``.
        model: The entry of the model.
        artefact: The entry of the artefact.
    """

    section: str
    model: dict
    artefact: dict

    @property
    def name(self) -> str:
        """Name of the artefact's file."""
        return Path(self.artefact['checkpoint']).name


def exported(results: Results) -> Iterator[Exported]:
    """Every artefact of a detector or segmenter, with the model that it was exported from."""
    for section in DOWNSTREAM:
        entries = downstream(results, section)
        for entry in entries:
            source = entry.get('artefact', {}).get('weights_sha256')
            for model in entries:
                if source is not None and 'artefact' not in model and model.get('weights_sha256') == source:
                    yield Exported(section, model, entry)


def artefact_changes(results: Results, out: Path) -> list[ArtefactChange]:
    """Compare each artefact with its model image by image, on clean images and on the mean over the cells.

    Args:
        results: Results whose paths start at a folder.
        out: That folder.

    Raises:
        ValueError: A file of scores by image is damaged.
    """
    changes: list[ArtefactChange] = []
    for pair in exported(results):
        for score in PER_IMAGE:
            records = [_records(entry, score, out) for entry in (pair.artefact, pair.model)]
            if not all(records) or records[0].keys() != records[1].keys():
                continue
            new, old = (list(record.values()) for record in records)
            if any(list(one.images) != list(new[0].images) for one in (*new, *old)):
                continue  # Tests of other images, which have no pairs.
            change = paired_bootstrap(new, old)
            changes.append(
                {
                    'section': pair.section,  # type: ignore[typeddict-item]
                    'model': pair.model['checkpoint'],
                    'artefact': pair.artefact['checkpoint'],
                    'score': score,  # type: ignore[typeddict-item]
                    'difference_points': change.value,
                    'ci95_points': [change.low, change.high],
                    'images': len(new[0].images),
                }
            )
    return changes


def _records(entry: dict, score: str, out: Path) -> dict[str, PerImage]:
    """What was found on each image in the cells of a score; empty where a file is missing."""
    if 'per_image' not in entry:
        return {}
    cells: list[Cell | None] = [None]
    if score == 'mPC':
        under = entry.get('corruption', {})
        cells = [*cells_of(under.get('kinds', ()), under.get('severities', ()))]
    paths = {str(cell): out / entry['per_image'] / f'{cell_key(cell)}.npz' for cell in cells}
    return {key: read_per_image(path) for key, path in paths.items() if path.is_file()}


def scene_ledger_table(results: Results) -> Table | None:
    """Backbone, model and artefact: clean score, score under corruption, and the share of one in the other."""
    groups = []
    for pair in exported(results):
        rows = [_row(pair.section, entry) for entry in (pair.model, pair.artefact)]
        rows[1][3:5] = [
            _change(results, pair, score, cell) for score, cell in zip(PER_IMAGE, rows[1][3:5], strict=True)
        ]
        groups.append([*_backbone_row(results, pair.model), *rows])
    if not groups:
        return None
    texts = [Column(label, number=False) for label in ('Model', 'Stage', 'Score')]
    columns = [*texts, Column('Clean', '%'), Column('Corrupted', '%'), Column('Kept', '% of clean')]
    notes = [
        'Corrupted: mean over the same kinds and severities. Below the scores of an artefact the points since its '
        'model, with the 95 % interval of a bootstrap over the images that both were tested on (`test --per-image`).'
    ]
    return Table('From the backbone to the artefact', columns, groups, notes)


def _backbone_row(results: Results, model: dict) -> list[list[TableCell]]:
    """A backbone as a classifier, in the cells of its detector's or segmenter's test; none if it was not judged."""
    name, under = backbone(model), model.get('corruption', {})
    clean, known = suite_score(results, name, 'clean'), suite_cells(results, name, 'corruption')
    if clean is None:
        return []
    places = [SEVERITIES.index(severity) for severity in under.get('severities', ())]
    values = [known[kind][place] for kind in under.get('kinds', ()) if kind in known for place in places]
    measured = bool(values) and len(values) == len(under['kinds']) * len(places)
    corrupted = sum(values) / len(values) if measured else None
    kept = 100 * corrupted / clean.value if corrupted is not None and clean.value else None
    numbers = [number_cell(value) for value in (clean.value, corrupted, kept)]
    return [[TableCell(name, run=name), TableCell('backbone'), TableCell('top-1'), *numbers]]


def _row(section: str, entry: dict) -> list[TableCell]:
    under = entry.get('corruption', {}).get(METRICS[section], {})
    clean = 100 * entry[METRICS[section]]
    corrupted = 100 * under['mPC'] if under else None
    artefact = entry.get('artefact')
    stage = f'{artefact["engine"]} {artefact["precision"]}' if artefact else STAGES[section]
    name = Path(entry['checkpoint'] or entry['config']).name
    values = number_cell(clean), number_cell(corrupted), number_cell(under.get('rPC_pct'))
    return [TableCell(name), TableCell(stage), TableCell(LABELS[section]), *values]


def _change(results: Results, pair: Exported, score: str, cell: TableCell) -> TableCell:
    """The cell of an artefact's score, with the points since its model below it where they are known."""
    for change in results.get('artefact_changes', []):
        known = change['model'], change['artefact'], change['score']
        if known == (pair.model['checkpoint'], pair.artefact['checkpoint'], score):
            points = difference_cell(Score(change['difference_points'], *change['ci95_points']))
            return TableCell(cell.text, cell.sort, f'{points.text} [{points.note}]', points.mark)
    return cell
