"""The ledger: what is left of a teacher's accuracy on each suite, link by link, down to the file that is deployed.

A chain goes from the teacher to the distilled student and on to its artefacts, the most precise one first. The student
that was trained alone stands beside it. Each link has a difference of two runs on the same images.
"""

from collections.abc import Iterable, Mapping, Sequence
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
SHOWN_POINTS = 0.05
"""The least loss that is told: rounded to tenths, a smaller one is none."""


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
        found += [Chain((*start, *end), alone) for end in ends(made)]
    return found


def ends(made: Mapping[str, ArtefactRecord]) -> list[tuple[Stage, ...]]:
    """The last stages of each chain: the deployed form, the fp32 artefact of an engine, and a less precise one if any.

    Args:
        made: The artefacts of one model, by what they are called.
    """
    deployed = tuple(Stage(DEPLOYED, run) for run, artefact in made.items() if artefact['engine'] == TORCH)
    found = []
    for engine in dict.fromkeys(artefact['engine'] for artefact in made.values() if artefact['engine'] != TORCH):
        stages = {
            run: Stage(f'{engine} {artefact["precision"]}', run)
            for run, artefact in made.items()
            if artefact['engine'] == engine
        }
        exact = tuple(stage for run, stage in stages.items() if made[run]['precision'] == EXACT)
        others = [stage for stage in stages.values() if stage not in exact]
        found += [(*deployed, *exact[:1], other) for other in others] or [(*deployed, *exact[:1])]
    return found or ([deployed] if deployed else [])


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


@dataclass(frozen=True)
class Change:
    """What a link gains or loses.

    Attributes:
        before: The stage that it starts from.
        after: The stage that it leads to.
        measure: What both are measured by.
        points: Of the second minus the first.
    """

    before: Stage
    after: Stage
    measure: str
    points: Score


def links_of(chain: Chain) -> list[tuple[Stage, Stage]]:
    """The links of a chain, and the one from the student alone to the distilled one: what distillation has done."""
    return [*chain.links, *((chain.alone, stage) for stage in chain.stages if chain.alone and stage.name == STUDENT)]


def changes(results: Results, chain: Chain) -> list[Change]:
    """What each link of a chain gains or loses by each measure; what was not measured is left out."""
    return [
        Change(*link, measure, points)
        for measure in measures(results)
        for link in links_of(chain)
        if (points := measure_change(results, link, measure))
    ]


def losses(known: Iterable[Change]) -> list[Change]:
    """The changes that lose measurably, and more than reads as 0.0, the largest loss first."""
    losing = (one for one in known if one.points.sign < 0 and one.points.value <= -SHOWN_POINTS)
    return sorted(losing, key=lambda one: one.points.value)


def ledger_sentences(results: Results) -> list[str]:
    """For each chain what it keeps, and the link on which most is lost; chains that are not known are left out."""
    return [text for chain in chains(results) if (text := chain_sentence(results, chain))]


def chain_sentence(results: Results, chain: Chain) -> str:
    """What a chain keeps, and the link on which most is lost, on the mean of the shifts and on each; or nothing."""
    main, known = measures(results)[-1], changes(results, chain)
    first, last = (measure_score(results, chain.stages[index].run, main) for index in (0, -1))
    of_main = [one for one in known if one.measure == main]
    if not first or not last or len(of_main) < len(links_of(chain)):
        return ''
    what = 'mean OOD accuracy' if main == OOD_MEAN else f'{suite_label(main).lower()} accuracy'
    text = (
        f'From {chain.stages[0].run} to {chain.stages[-1].run} {what} goes from {first.value:.1f} to {last.value:.1f} %'
    )
    return text + most_lost(of_main) + _by_shift(results, known)


def most_lost(known: Sequence[Change]) -> str:
    """The end of a sentence about a chain: the link on which most is lost, and the others that lose.

    Args:
        known: The changes of its links by one measure.
    """
    losing = losses(known)
    if not losing:
        return '; no link loses measurably.'
    most, *others = [f'{_link(one)}: {_lost(one)} (95 % interval {_interval(one)})' for one in losing]
    rest = f'also {", ".join(others)}' if others else 'no other link loses measurably'
    return f'. Most is lost {most}; {rest}.'


def _by_shift(results: Results, known: Sequence[Change]) -> str:
    """The link on which most is lost on each shift; nothing for one shift, which the sentence before is about."""
    shifts = shifted_suites(results)
    worst = {name: losing[0] for name in shifts if (losing := losses(one for one in known if one.measure == name))}
    if len(shifts) < 2 or not worst:
        return ''
    on: dict[str, list[str]] = {}
    for name, one in worst.items():
        on.setdefault(_link(one), []).append(f'{suite_label(name).lower()} ({_lost(one)})')
    told = [f'{link} on {", ".join(names)}' for link, names in on.items()]
    return f' Shift by shift most is lost {"; ".join(told)}.'


def _link(change: Change) -> str:
    return f'from {change.before.name} to {change.after.name}'


def _lost(change: Change) -> str:
    return f'{-change.points.value:.1f} points'


def _interval(change: Change) -> str:
    return f'{-change.points.high:.1f} to {-change.points.low:.1f}'
