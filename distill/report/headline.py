"""The headline of the report: the answer in a few sentences that are computed from the numbers."""

from distill.report.blocks import Block, Paragraph, Tile, Tiles
from distill.report.entries import backbone, downstream
from distill.report.scores import (
    Score,
    Transfer,
    judged_runs,
    ood_difference,
    ood_score,
    subtract,
    suite_difference,
    suite_label,
    suite_names,
    suite_values,
    transfers,
)
from distill.report.tables import signed
from distill.results.entries import Results

TRANSFERS_LISTED = 4
"""More transfers are counted in the headline, and listed in the table only."""
DOWNSTREAM_METRICS = (('detection', 'bbox_mAP', 'box mAP'), ('segmentation', 'mIoU', 'mIoU'))
QUESTION = (
    'Does out-of-distribution robustness pass between a vision transformer and a CNN when one teaches the '
    'other, and what is the resulting backbone worth downstream?'
)


def default_title(results: Results) -> str:
    """The heading of a report whose user gives none."""
    return 'Robustness transfer' if transfers(results) else 'Robustness'


def headline(results: Results) -> list[Block]:
    """The question, the answer in a few sentences, and its key numbers."""
    tiles = _tiles(results)
    sentences = three_sentences(results)
    listed = [_transfer_sentence(results, pair) for pair in _listed_transfers(results)]
    sentences[2:2] = [text for text in listed if text and text not in sentences]
    kinds = ['answer', *[''] * len(sentences)]
    return [
        *([Paragraph(QUESTION, 'question')] if transfers(results) else []),
        *([Tiles(tiles)] if tiles else []),
        *(Paragraph(text, kind) for text, kind in zip(sentences, kinds, strict=False) if text),
        *([Paragraph(_scope(results), 'note')] if suite_names(results) else []),
    ]


def three_sentences(results: Results) -> list[str]:
    """The answer, the case that says most about it, and what the backbone is worth; '' for what is not known."""
    verdict = _verdict_sentence(results) if suite_names(results) else ''
    return [verdict, _most_telling_sentence(results), _downstream_sentence(results)]


def _most_telling_sentence(results: Results) -> str:
    """The sentence of the transfer with the largest measured change, else of that with the largest change."""
    gains = [(pair, gain) for pair in transfers(results) if (gain := _gain(results, pair))]
    if not gains:
        return ''
    return _transfer_sentence(results, max(gains, key=lambda known: (known[1].sign != 0, abs(known[1].value)))[0])


def _listed_transfers(results: Results) -> list[Transfer]:
    pairs = transfers(results)
    return pairs if len(pairs) <= TRANSFERS_LISTED else []


def _gain(results: Results, pair: Transfer) -> Score | None:
    """OOD mean of the distilled student minus that of the same model trained alone, in points."""
    return ood_difference(results, pair.student, pair.reference)


def _verdict_sentence(results: Results) -> str:
    """The answer in one sentence."""
    gains = {f'{pair.teacher} → {pair.student}': _gain(results, pair) for pair in transfers(results)}
    gains = {name: gain for name, gain in gains.items() if gain}
    if not gains:
        return _no_transfer(results)
    gained, lost = (
        [f'{name} {signed(gain.value)}' for name, gain in gains.items() if gain.sign == sign] for sign in (1, -1)
    )
    text = f'Robustness was measurably passed on in {len(gained)} of {len(gains)} distillations'
    if len(gains) > TRANSFERS_LISTED:
        return f'{text}, and measurably lost in {len(lost)}.'
    text += f' ({", ".join(gained)} points)' if gained else ''
    return text + (f', and measurably lost in {len(lost)} ({", ".join(lost)} points).' if lost else '.')


def _change(score: Score) -> str:
    """A difference in words, which claim a direction only where the interval supports it."""
    interval = f'95 % interval {signed(score.low)} to {signed(score.high)}'
    if score.sign:
        verb = 'rose' if score.sign > 0 else 'fell'
        return f'{verb} by {abs(score.value):.1f} points ({interval})'
    return f'changed by {signed(score.value)} points, not distinguishable from zero here ({interval})'


def _transfer_sentence(results: Results, pair: Transfer) -> str:
    alone, distilled, teacher = (ood_score(results, run) for run in (pair.reference, pair.student, pair.teacher))
    change = _gain(results, pair)
    if change is None:
        return ''
    text = (
        f'Distilling {pair.teacher} into {pair.student}: mean OOD accuracy {_change(change)}: '
        f'{distilled.value:.1f} %, against {alone.value:.1f} % of {pair.reference}, the same model alone.'
    )
    clean = suite_difference(results, pair.student, pair.reference, 'clean')
    if clean:
        text += f' Clean accuracy moved by {signed(clean.value)}.'
    lead = subtract(teacher, alone)
    if lead and lead.value <= 0:
        text += f' The teacher had no lead to pass on: its OOD mean is {teacher.value:.1f} %.'
    elif lead and change.value > 0:
        share_pct = 100 * change.value / lead.value
        text += f' The teacher led by {lead.value:.1f} points; {share_pct:.0f} % of that was passed on.'
    elif lead:
        text += f' The teacher led by {lead.value:.1f} points; none of that was passed on.'
    return text


def _no_transfer(results: Results) -> str:
    """A sentence for results without a comparison: the reason, or a ranking."""
    pairs = transfers(results)
    if not pairs:
        return _ranking_sentence(results)
    missing = [pair.student for pair in pairs if pair.reference is None]
    if missing:
        return (
            f'The same model trained without a teacher is missing for {", ".join(missing)}: '
            'scores are shown, but not what was transferred.'
        )
    return 'Student and reference were not both judged on all shifted suites: no OOD mean to compare.'


def _ranking_sentence(results: Results) -> str:
    """The best run, where no run was distilled."""
    scores = {run: score for run in judged_runs(results) if (score := ood_score(results, run))}
    if not scores:
        return ''
    best, *others = sorted(scores, key=lambda run: -scores[run].value)
    if not others:
        interval = f'95 % interval {scores[best].low:.1f} to {scores[best].high:.1f}'
        return f'{best} has a mean OOD accuracy of {scores[best].value:.1f} % ({interval}).'
    lead = ood_difference(results, best, others[0])
    text = f'{best} has the highest mean OOD accuracy of {len(scores)} runs, {scores[best].value:.1f} %'
    interval = f'95 % interval {signed(lead.low)} to {signed(lead.high)}'
    doubt = '' if lead.sign else ', not distinguishable from zero here'
    return f'{text}, {lead.value:.1f} points ahead of {others[0]} ({interval}{doubt}).'


def _downstream_sentence(results: Results) -> str:
    parts = []
    for section, metric, label in DOWNSTREAM_METRICS:
        for entry in downstream(results, section):
            name = backbone(entry)
            parts.append(f'{entry[metric]:.3f} {label} in {section}' + (f' with {name}' if name else ''))
    return f'As a backbone: {"; ".join(parts)}.' if parts else ''


def _scope(results: Results) -> str:
    counts = {
        suite_label(suite): set(suite_values(results, suite, 'images').values()) for suite in suite_names(results)
    }
    images = ', '.join(f'{suite} {"/".join(map(str, sorted(count)))}' for suite, count in counts.items())
    runs = len(judged_runs(results))
    return (
        f'{runs} {"run" if runs == 1 else "runs"}; images: {images}. '
        'Intervals cover the choice of test images, not of the training seed.'
    )


def _tiles(results: Results) -> list[Tile]:
    tiles = []
    for pair in _listed_transfers(results):
        change = _gain(results, pair)
        if change:
            mark = {1: 'gain', -1: 'loss', 0: ''}[change.sign]
            note = f'{pair.teacher} → {pair.student}'
            tiles.append(Tile(signed(change.value), 'OOD points transferred', note, mark))
    for section, metric, label in DOWNSTREAM_METRICS:
        for entry in downstream(results, section):
            tiles.append(Tile(f'{entry[metric]:.3f}', label, backbone(entry)))
    return tiles
