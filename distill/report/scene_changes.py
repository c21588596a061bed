"""Detectors and segmenters beside their teachers and their artefacts, and the changes between them image by image."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from distill.base.records import Cell, cells_of
from distill.report.entries import DOWNSTREAM, downstream
from distill.results.entries import ArtefactChange, Results, StudentChange
from distill.results.per_image import PerImage, cell_key, paired_bootstrap, read_per_image

EXACT = 'fp32'
PER_IMAGE = 'P', 'mPC'
"""The scores that are compared: on clean images, and the mean over the cells."""


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

    def is_exact_form_of(self, other: 'Exported') -> bool:
        """Whether this is the fp32 artefact of an engine that a less precise one was made of."""
        mine, its = self.artefact['artefact'], other.artefact['artefact']
        return (
            self.model is other.model
            and mine['engine'] == its['engine']
            and mine['precision'] == EXACT != its['precision']
        )


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

    A less precise artefact is compared with the fp32 one of its engine, too.

    Args:
        results: Results whose paths start at a folder.
        out: That folder.

    Raises:
        ValueError: A file of scores by image is damaged.
    """
    changes: list[ArtefactChange] = []
    pairs = list(exported(results))
    for pair in pairs:
        for before in (pair.model, *(other.artefact for other in pairs if other.is_exact_form_of(pair))):
            names = {'model': before['checkpoint'], 'artefact': pair.artefact['checkpoint']}
            for found in _changes(before, pair.artefact, out):
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
