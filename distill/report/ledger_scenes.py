"""The ledger of detectors and segmenters: the share of a score that is kept under corruption, from teacher to artefact.

Top-1, mAP and mIoU do not compare; the share of each that is left under corruption does, in percent of the clean score.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from distill.base.records import SEVERITIES, Cell, cells_of
from distill.report.entries import DOWNSTREAM, backbone, downstream, scene_name
from distill.report.ledger import ALONE, STUDENT, TEACHER
from distill.report.scores import suite_cells, suite_score
from distill.report.tables import Cell as TableCell
from distill.report.tables import Column, Table, difference_cell, number_cell
from distill.results.entries import ArtefactChange, Results, StudentChange
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


@dataclass(frozen=True)
class Lesson:
    """A student among detectors or segmenters, and those that it is to be seen beside.

    Attributes:
        section: ``detection`` or ``segmentation``.
        student: The entry of the student that learned from a teacher.
        teacher: The entry of the teacher; None if it was not tested.
        alone: The entry of the same model on the same backbone without a teacher, if possible of the same seed and
            on the same images; None if there is none.
    """

    section: str
    student: dict
    teacher: dict | None
    alone: dict | None


def lessons(results: Results) -> Iterator[Lesson]:
    """Every detector or segmenter that learned from a teacher."""
    for section in DOWNSTREAM:
        models = [entry for entry in downstream(results, section) if 'artefact' not in entry]
        for student in models:
            if 'teacher' not in student:
                continue
            digest = student['teacher']['weights_sha256']
            teacher = next((model for model in models if model.get('weights_sha256') == digest), None)
            same = [
                model
                for model in models
                if model is not teacher
                and 'teacher' not in model
                and all(model.get(key) == student.get(key) for key in ('config', 'backbone'))
            ]
            alone = min(same, key=lambda model, student=student: _apart(model, student), default=None)
            yield Lesson(section, student, teacher, alone)


def _apart(model: dict, student: dict) -> tuple[bool, bool]:
    """Whether two entries are of other seeds, and of other corruptions in training."""
    seen = [entry.get('corruption', {}).get('seen_kinds', []) for entry in (model, student)]
    return model.get('seed') != student.get('seed'), seen[0] != seen[1]


def student_changes(results: Results, out: Path) -> list[StudentChange]:
    """Compare each student with its teacher image by image, as `artefact_changes` does."""
    changes: list[StudentChange] = []
    for lesson in lessons(results):
        if lesson.teacher is not None:
            names = {'teacher': lesson.teacher['checkpoint'], 'student': lesson.student['checkpoint']}
            for found in _changes(lesson.teacher, lesson.student, out):
                changes.append({'section': lesson.section, **names, **found})  # type: ignore[typeddict-item]
    return changes


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
        names = {'model': pair.model['checkpoint'], 'artefact': pair.artefact['checkpoint']}
        for found in _changes(pair.model, pair.artefact, out):
            changes.append({'section': pair.section, **names, **found})  # type: ignore[typeddict-item]
    return changes


def _changes(before: dict, after: dict, out: Path) -> Iterator[dict]:
    """What is gained or lost from one entry to another by each score, where both were tested on the same images."""
    for score in PER_IMAGE:
        records = [_records(entry, score, out) for entry in (after, before)]
        if not all(records) or records[0].keys() != records[1].keys():
            continue
        new, old = (list(record.values()) for record in records)
        if any(list(one.images) != list(new[0].images) for one in (*new, *old)):
            continue  # Tests of other images, which have no pairs.
        change = paired_bootstrap(new, old)
        yield {
            'score': score,
            'difference_points': change.value,
            'ci95_points': [change.low, change.high],
            'images': len(new[0].images),
        }


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
    """Backbone, teacher, student, artefact: clean score, score under corruption, and the share of one in the other."""
    groups, shown = [], []
    taught = {id(lesson.student): lesson for lesson in lessons(results)}
    for pair in exported(results):
        lesson = taught.get(id(pair.model))
        model = _student_rows(results, lesson) if lesson else [_row(pair.section, pair.model)]
        shown.append(id(pair.model))
        artefact = _with_changes(
            _row(pair.section, pair.artefact),
            results.get('artefact_changes', []),
            {'model': pair.model['checkpoint'], 'artefact': pair.artefact['checkpoint']},
        )
        groups.append([*_backbone_row(results, pair.model), *model, artefact])
    groups += [_student_rows(results, lesson) for key, lesson in taught.items() if key not in shown]
    if not groups:
        return None
    texts = [Column(label, number=False) for label in ('Model', 'Stage', 'Score')]
    columns = [*texts, Column('Clean', '%'), Column('Corrupted', '%'), Column('Kept', '% of clean')]
    notes = [
        'Corrupted: mean over the same kinds and severities. Below the scores of a student and of an artefact the '
        'points since its teacher and its model, with the 95 % interval of a bootstrap over the images that both were '
        'tested on (`test --per-image`).'
    ]
    return Table('From the teacher to the artefact', columns, groups, notes)


def _student_rows(results: Results, lesson: Lesson) -> list[list[TableCell]]:
    """The teacher, the student that was trained alone, and the student."""
    rows = [
        _row(lesson.section, entry, stage)
        for entry, stage in ((lesson.teacher, TEACHER), (lesson.alone, ALONE))
        if entry is not None
    ]
    student = _row(lesson.section, lesson.student, STUDENT)
    if lesson.teacher is None:
        return [*rows, student]
    names = {'teacher': lesson.teacher['checkpoint'], 'student': lesson.student['checkpoint']}
    return [*rows, _with_changes(student, results.get('student_changes', []), names)]


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


def _row(section: str, entry: dict, stage: str = '') -> list[TableCell]:
    under = entry.get('corruption', {}).get(METRICS[section], {})
    clean = 100 * entry[METRICS[section]]
    corrupted = 100 * under['mPC'] if under else None
    artefact = entry.get('artefact')
    own = f'{artefact["engine"]} {artefact["precision"]}' if artefact else STAGES[section]
    values = number_cell(clean), number_cell(corrupted), number_cell(under.get('rPC_pct'))
    return [TableCell(scene_name(entry)), TableCell(stage or own), TableCell(LABELS[section]), *values]


def _with_changes(row: list[TableCell], changes: Iterable[Mapping], names: Mapping[str, str]) -> list[TableCell]:
    """A row with the points since the stage before it below its two scores, where they are known."""
    for change in changes:
        if all(change[role] == name for role, name in names.items()):
            place = 3 + PER_IMAGE.index(change['score'])
            points = difference_cell(Score(change['difference_points'], *change['ci95_points']))
            cell = row[place]
            row[place] = TableCell(cell.text, cell.sort, f'{points.text} [{points.note}]', points.mark)
    return row
