"""The ledger of detectors and segmenters: the share of a score that is kept under corruption, from teacher to artefact.

Top-1, mAP and mIoU do not compare; the share of each that is left under corruption does, in percent of the clean score.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from distill.base.records import SEVERITIES
from distill.report.entries import DOWNSTREAM, backbone, downstream, scene_name
from distill.report.ledger import ALONE, STUDENT, TEACHER, Chain, Change, Stage, ends, most_lost
from distill.report.scene_changes import PER_IMAGE, lessons
from distill.report.scores import suite_cells, suite_score
from distill.report.tables import Cell as TableCell
from distill.report.tables import Column, Table, difference_cell, number_cell
from distill.results.entries import Results
from distill.results.statistics import Score

METRICS = {'detection': 'bbox_mAP', 'segmentation': 'mIoU'}
LABELS = {'detection': 'box mAP', 'segmentation': 'mIoU'}
STAGES = {'detection': 'detector', 'segmentation': 'segmenter'}
BACKBONE = 'backbone'
CLEAN, CORRUPTED = PER_IMAGE


@dataclass(frozen=True)
class SceneChain:
    """The stages from a teacher, or from a detector or segmenter, to an artefact.

    Attributes:
        section: ``detection`` or ``segmentation``.
        chain: The stages; the run of each is its ``checkpoint``.
        entries: Their entries, by ``checkpoint``.
        model: The entry of the detector or segmenter.
    """

    section: str
    chain: Chain
    entries: Mapping[str, dict]
    model: dict

    def value(self, stage: Stage, score: str) -> float | None:
        """The score of a stage in percent, on clean or on corrupted images; None if it was not tested on them."""
        entry, metric = self.entries[stage.run], METRICS[self.section]
        if score == CLEAN:
            return 100 * entry[metric]
        under = entry.get('corruption', {}).get(metric)
        return 100 * under['mPC'] if under else None

    def kept(self, stage: Stage) -> float | None:
        """The share of the clean score that is left under corruption, in percent."""
        return self.entries[stage.run].get('corruption', {}).get(METRICS[self.section], {}).get('rPC_pct')


def scene_chains(results: Results) -> list[SceneChain]:
    """A chain for each artefact that no other is made of, and for each student that was not exported."""
    taught = {id(lesson.student): lesson for lesson in lessons(results)}
    found = []
    for section in DOWNSTREAM:
        known = downstream(results, section)
        for model in known:
            source, lesson = model.get('weights_sha256'), taught.get(id(model))
            made = {
                entry['checkpoint']: entry
                for entry in known
                if source is not None and entry.get('artefact', {}).get('weights_sha256') == source
            }
            if 'artefact' in model or not (made or lesson):
                continue
            stages = [Stage(STUDENT if lesson else STAGES[section], model['checkpoint'])]
            entries = {model['checkpoint']: model, **made}
            alone = None
            if lesson and lesson.teacher is not None:
                stages.insert(0, Stage(TEACHER, lesson.teacher['checkpoint']))
                entries[lesson.teacher['checkpoint']] = lesson.teacher
            if lesson and lesson.alone is not None:
                alone = Stage(ALONE, lesson.alone['checkpoint'])
                entries[alone.run] = lesson.alone
            artefacts = {path: entry['artefact'] for path, entry in made.items()}
            for end in ends(artefacts) or [()]:
                found.append(SceneChain(section, Chain((*stages, *end), alone), entries, model))
    return found


def scene_change(results: Results, before: str, after: str, score: str) -> Score | None:
    """The points from one checkpoint to another on the same images; None if they were not compared."""
    compared = [
        *((one, one['teacher'], one['student']) for one in results.get('student_changes', [])),
        *((one, one['model'], one['artefact']) for one in results.get('artefact_changes', [])),
    ]
    for one, first, second in compared:
        if (one['score'], first, second) == (score, before, after):
            return Score(one['difference_points'], *one['ci95_points'])
    return None


def scene_link_changes(results: Results, one: SceneChain) -> list[Change]:
    """What each link of a chain gains or loses, on clean and on corrupted images, where that is known."""
    return [
        Change(*link, score, points)
        for score in PER_IMAGE
        for link in one.chain.links
        if (points := scene_change(results, link[0].run, link[1].run, score))
    ]


def scene_ledger_sentences(results: Results) -> list[str]:
    """For each chain what it keeps, and the link on which most is lost."""
    return [scene_sentence(results, one) for one in scene_chains(results)]


def scene_sentence(results: Results, one: SceneChain) -> str:
    """What a chain keeps, and the link on which most is lost; then what its backbone keeps as a classifier."""
    stages = one.chain.stages
    measured = all(one.value(stage, CORRUPTED) is not None for stage in stages)
    score, where = (CORRUPTED, 'under corruption') if measured else (CLEAN, 'on clean images')
    first, last = (one.value(stages[place], score) for place in (0, -1))
    names = [scene_name(one.entries[stages[place].run]) for place in (0, -1)]
    label = LABELS[one.section]
    text = f'From {names[0]} to {names[1]} {label} {where} goes from {first:.1f} to {last:.1f} %'
    known = [change for change in scene_link_changes(results, one) if change.measure == score]
    if len(stages) == 1:
        text = f'{names[0]} has {first:.1f} % {label} {where}.'
    elif len(known) < len(one.chain.links):
        text += '; its links were not all compared image by image (test them with --per-image).'
    else:
        text += most_lost(known)
    return text + (_kept_sentence(results, one) if measured else '')


def _kept_sentence(results: Results, one: SceneChain) -> str:
    """What is kept under corruption by a backbone and by the detector or segmenter on it; or nothing."""
    scores, share = backbone_scores(results, one), one.kept(Stage('', one.model['checkpoint']))
    if scores is None or scores[2] is None or share is None:
        return ''
    return (
        f' Under the same corruptions its backbone {backbone(one.model)} keeps {scores[2]:.1f} % of its clean top-1, '
        f'and the {STAGES[one.section]} {share:.1f} % of its clean {LABELS[one.section]}.'
    )


def scene_ledger_table(results: Results) -> Table | None:
    """Backbone, teacher, student, artefact: clean score, score under corruption, and the share of one in the other."""
    groups = [_rows(results, one) for one in scene_chains(results)]
    if not groups:
        return None
    texts = [Column(label, number=False) for label in ('Model', 'Stage', 'Score')]
    columns = [*texts, Column('Clean', '%'), Column('Corrupted', '%'), Column('Kept', '% of clean')]
    notes = [
        'Corrupted: mean over the same kinds and severities. Below the scores of a student and of an artefact the '
        'points since the stage before, with the 95 % interval of a bootstrap over the images that both were '
        'tested on (`test --per-image`).'
    ]
    return Table('From the teacher to the artefact', columns, groups, notes)


def _rows(results: Results, one: SceneChain) -> list[list[TableCell]]:
    """The backbone, then the stages; the student that was trained alone stands before the distilled one."""
    scores = backbone_scores(results, one)
    rows = []
    if scores:
        name = backbone(one.model)
        numbers = [number_cell(value) for value in scores]
        rows.append([TableCell(name, run=name), TableCell(BACKBONE), TableCell('top-1'), *numbers])
    before: Stage | None = None
    for stage in one.chain.stages:
        if one.chain.alone and stage.name == STUDENT:
            rows.append(_row(results, one, one.chain.alone, None))
        rows.append(_row(results, one, stage, before))
        before = stage
    return rows


def _row(results: Results, one: SceneChain, stage: Stage, before: Stage | None) -> list[TableCell]:
    texts = scene_name(one.entries[stage.run]), stage.name, LABELS[one.section]
    cells = []
    for score in PER_IMAGE:
        cell = number_cell(one.value(stage, score))
        change = scene_change(results, before.run, stage.run, score) if before else None
        if change is not None:
            points = difference_cell(change)
            cell = TableCell(cell.text, cell.sort, f'{points.text} [{points.note}]', points.mark)
        cells.append(cell)
    return [*map(TableCell, texts), *cells, number_cell(one.kept(stage))]


def backbone_scores(results: Results, one: SceneChain) -> tuple[float | None, float | None, float | None] | None:
    """Top-1 of a backbone as a classifier in the cells of its detector's test: clean, corrupted, and the share kept.

    Returns:
        In percent; None for what was not measured, and for all if the backbone was not judged.
    """
    name, under = backbone(one.model), one.model.get('corruption', {})
    clean, known = suite_score(results, name, 'clean'), suite_cells(results, name, 'corruption')
    if clean is None:
        return None
    places = [SEVERITIES.index(severity) for severity in under.get('severities', ())]
    values = [known[kind][place] for kind in under.get('kinds', ()) if kind in known for place in places]
    measured = bool(values) and len(values) == len(under['kinds']) * len(places)
    corrupted = sum(values) / len(values) if measured else None
    return clean.value, corrupted, 100 * corrupted / clean.value if corrupted is not None and clean.value else None
