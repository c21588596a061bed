"""The ledger: what is left of a teacher's accuracy on each suite, link by link, down to the file that is deployed.

A chain goes from the teacher to the distilled student and on to its artefacts, the most precise one first. The student
that was trained alone stands beside it. Each link has a difference of two runs on the same images.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from distill.report.scores import (
    Score,
    judged_runs,
    ood_difference,
    ood_score,
    run_entries,
    shifted_suites,
    suite_difference,
    suite_label,
    suite_names,
    suite_score,
    transfers,
)
from distill.report.tables import NAME, Cell, Column, Table, difference_cell, number_cell
from distill.results.entries import ArtefactRecord, Results

TEACHER, ALONE, STUDENT = 'teacher', 'student alone', 'student distilled'
MODEL = 'model'
"""The first stage of a chain without a teacher."""
TORCH, DEPLOYED = 'torch', 'deployed'
"""The engine that is torch itself, and the name of its stage."""
EXACT = 'fp32'
OOD_MEAN = 'OOD mean'


@dataclass(frozen=True)
class Stage:
    """A run in its place in a chain.

    Attributes:
        name: What it is: the teacher, the student, or engine and precision of an artefact.
        run: Its key in the results.
    """

    name: str
    run: str


@dataclass(frozen=True)
class Chain:
    """The stages from a teacher to an artefact.

    Attributes:
        stages: In order; each but the first is compared with the one before it.
        alone: The student trained without the teacher, or None.
    """

    stages: tuple[Stage, ...]
    alone: Stage | None

    @property
    def links(self) -> list[tuple[Stage, Stage]]:
        """Neighbouring stages."""
        return list(zip(self.stages, self.stages[1:], strict=False))


def chains(results: Results) -> list[Chain]:
    """A chain for each artefact of a judged model; that of fp32 is a stage before the less precise ones of its engine.

    An artefact belongs to the run with the weights that it was exported from. That of torch itself is the deployed
    form, a stage of every chain. The chain of a distilled student starts at its teacher.
    """
    judged, pairs = judged_runs(results), {pair.student: pair for pair in transfers(results)}
    runs = {run: entry for run, entry in run_entries(results).items() if run in judged}
    found = []
    for source, entry in runs.items():
        if 'artefact' in entry:
            continue
        made = {
            run: other['artefact']
            for run, other in runs.items()
            if 'artefact' in other and other['artefact'].get('weights_sha256') == entry['weights_sha256']
        }
        pair = pairs.get(source)
        start = [Stage(TEACHER, pair.teacher)] if pair and pair.teacher in judged else []
        start.append(Stage(STUDENT if pair else MODEL, source))
        alone = Stage(ALONE, pair.reference) if pair and pair.reference in judged else None
        deployed = [Stage(DEPLOYED, run) for run, artefact in made.items() if artefact['engine'] == TORCH]
        found += [Chain((*start, *deployed, *end), alone) for end in _ends(made)]
        if deployed and not _ends(made):
            found.append(Chain((*start, *deployed), alone))
    return found


def _ends(made: Mapping[str, ArtefactRecord]) -> list[tuple[Stage, ...]]:
    """The last stages of each chain: the fp32 artefact of an engine, and one that is less precise if there is any."""
    ends = []
    for engine in dict.fromkeys(artefact['engine'] for artefact in made.values() if artefact['engine'] != TORCH):
        stages = {
            run: Stage(f'{engine} {artefact["precision"]}', run)
            for run, artefact in made.items()
            if artefact['engine'] == engine
        }
        exact = tuple(stage for run, stage in stages.items() if made[run]['precision'] == EXACT)
        others = [stage for stage in stages.values() if stage not in exact]
        ends += [(*exact[:1], other) for other in others] or [exact[:1]]
    return ends


def measures(results: Results) -> list[str]:
    """What each stage is measured by: the suites, then `OOD_MEAN` where one of them is shifted."""
    return [*suite_names(results), *([OOD_MEAN] if shifted_suites(results) else [])]


def measure_score(results: Results, run: str, measure: str) -> Score | None:
    """Top-1 of a run by a measure; None if it was not judged on it."""
    return ood_score(results, run) if measure == OOD_MEAN else suite_score(results, run, measure)


def measure_change(results: Results, link: tuple[Stage, Stage], measure: str) -> Score | None:
    """Points gained along a link by a measure; None if one of its stages was not judged on it."""
    before, after = (stage.run for stage in link)
    difference = ood_difference if measure == OOD_MEAN else partial(suite_difference, suite=measure)
    return difference(results, after, before)


def ledger_table(results: Results) -> Table | None:
    """The stages of each chain, with the points gained or lost since the stage before as small print."""
    known = chains(results)
    if not known:
        return None
    names = measures(results)
    columns = [NAME, *(Column(OOD_MEAN if name == OOD_MEAN else suite_label(name)) for name in names)]
    groups = []
    for chain in known:
        before = dict(zip(chain.stages[1:], chain.stages, strict=False))
        shown = [chain.stages[0], *([chain.alone] if chain.alone else []), *chain.stages[1:]]
        rows = []
        for stage in shown:
            cells = [_stage_cell(results, before.get(stage), stage, name) for name in names]
            rows.append([Cell(stage.run, note=stage.name, run=stage.run), *cells])
        groups.append(rows)
    notes = [
        'Top-1 accuracy in percent; below it the points since the stage before, with their 95 % interval. ▲ and ▼ mark '
        'changes whose interval leaves out zero. A student that was trained alone stands beside its chain.'
    ]
    return Table('From the teacher to the artefact', columns, groups, notes)


def _stage_cell(results: Results, before: Stage | None, stage: Stage, measure: str) -> Cell:
    score = measure_score(results, stage.run, measure)
    change = measure_change(results, (before, stage), measure) if before else None
    if score is None or change is None:
        return number_cell(score.value if score else None)
    points = difference_cell(change)
    return Cell(f'{score.value:.1f}', score.value, f'{points.text} [{points.note}]', points.mark)


def ledger_sentences(results: Results) -> list[str]:
    """For each chain what it keeps, and the link on which most is lost; chains that are not known are left out."""
    return [text for chain in chains(results) if (text := _sentence(results, chain))]


def _sentence(results: Results, chain: Chain) -> str:
    measure = measures(results)[-1]
    first, last = (measure_score(results, chain.stages[index].run, measure) for index in (0, -1))
    links = [*chain.links, *_distillation(chain)]
    changes = {link: change for link in links if (change := measure_change(results, link, measure))}
    if not first or not last or len(changes) < len(links):
        return ''
    what = 'mean OOD accuracy' if measure == OOD_MEAN else f'{suite_label(measure).lower()} accuracy'
    text = (
        f'From {chain.stages[0].run} to {chain.stages[-1].run} {what} goes from {first.value:.1f} to {last.value:.1f} %'
    )
    losing = sorted((link for link in changes if changes[link].sign < 0), key=lambda link: changes[link].value)
    if not losing:
        return f'{text}; no link loses measurably.'
    most, *others = [_lost(link, changes[link]) for link in losing]
    rest = f'also {", ".join(others)}' if others else 'no other link loses measurably'
    return f'{text}. Most is lost {most}; {rest}.'


def _distillation(chain: Chain) -> list[tuple[Stage, Stage]]:
    """What distillation has done, as a link: from the student alone to the distilled one."""
    return [(chain.alone, stage) for stage in chain.stages if chain.alone and stage.name == STUDENT]


def _lost(link: tuple[Stage, Stage], change: Score) -> str:
    before, after = link
    interval = f'{-change.high:.1f} to {-change.low:.1f}'
    return f'from {before.name} to {after.name}: {-change.value:.1f} points (95 % interval {interval})'
