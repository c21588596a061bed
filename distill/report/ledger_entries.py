"""The ledger as an entry of ``results.json``: the stages and links of each chain, and its sentence."""

from collections.abc import Sequence

from distill.report.entries import backbone
from distill.report.ledger import Chain, Change, chain_sentence, chains, changes, losses, measures
from distill.report.ledger_scenes import CLEAN, CORRUPTED, scene_chains, scene_link_changes, scene_sentence
from distill.results.entries import LedgerChain, LedgerLink, LedgerStage, Results


def ledger_entries(results: Results) -> list[LedgerChain]:
    """Every chain: of classifiers, then of detectors and of segmenters."""
    found = []
    for chain in chains(results):
        known = changes(results, chain)
        main = measures(results)[-1] if known else ''
        found.append(_entry('classification', chain, known, main, chain_sentence(results, chain)))
    for one in scene_chains(results):
        known = scene_link_changes(results, one)
        main = CORRUPTED if any(change.measure == CORRUPTED for change in known) else CLEAN
        entry = _entry(one.section, one.chain, known, main, scene_sentence(results, one))
        if name := backbone(one.model):
            entry['backbone'] = name
        found.append(entry)
    return found


def _entry(section: str, chain: Chain, known: Sequence[Change], main: str, sentence: str) -> LedgerChain:
    """A chain.

    Args:
        section: Of ``results.json``, that its runs are in.
        chain: Its stages.
        known: What its links gain or lose.
        main: The measure that names the link on which most is lost.
        sentence: What is said of it.
    """
    stages: list[LedgerStage] = [{'stage': stage.name, 'run': stage.run} for stage in chain.stages]
    worst = losses(change for change in known if change.measure == main)
    entry: LedgerChain = {
        'section': section,  # type: ignore[typeddict-item]
        'stages': stages,
        'links': [_link(change) for change in known],
        'most_lost': _link(worst[0]) if worst else None,
        'sentence': sentence,
    }
    if chain.alone:
        entry['alone'] = chain.alone.run
    return entry


def _link(change: Change) -> LedgerLink:
    points = change.points
    return {
        'before': change.before.run,
        'after': change.after.run,
        'measure': change.measure,
        'difference_points': points.value,
        'ci95_points': [points.low, points.high],
    }
