"""What the report says, in order: sections of blocks computed from the results, whatever renders them."""

from collections.abc import Collection
from dataclasses import dataclass

from distill.report.collect import downstream
from distill.report.scores import (
    Score,
    Transfer,
    ood_score,
    subtract,
    suite_label,
    suite_names,
    suite_score,
    transfers,
)
from distill.report.tables import (
    Table,
    detection_tables,
    downstream_run_table,
    provenance_tables,
    run_tables,
    segmentation_tables,
    signed,
    subset_table,
    summary_table,
    transfer_table,
)

SAMPLES_SHOWN = 6
PICTURES_SHOWN = 8
TRANSFERS_TOLD = 4  # One by one in the headline; more are counted there and read in the table.
DOWNSTREAM_METRICS = (('detection', 'bbox_mAP', 'box mAP'), ('segmentation', 'mIoU', 'mIoU'))
QUESTION = (
    'Does out-of-distribution robustness pass between a vision transformer and a CNN when one teaches the '
    'other, and what is the resulting backbone worth downstream?'
)


@dataclass(frozen=True)
class Paragraph:
    """Plain text; ``kind`` is 'question', 'answer', 'note' or empty."""

    text: str
    kind: str = ''


@dataclass(frozen=True)
class Tile:
    """One number to take away; ``mark`` as in a table's cell."""

    value: str
    label: str
    note: str = ''
    mark: str = ''


@dataclass(frozen=True)
class Tiles:
    tiles: list[Tile]


@dataclass(frozen=True)
class Plot:
    """A figure drawn by `plots.draw_figures`, by its name there."""

    name: str
    caption: str


@dataclass(frozen=True)
class Verdict:
    """What one run said about a sample image; ``share`` is its confidence from 0 to 1."""

    run: str
    label: str
    right: bool
    share: float | None
    note: str = ''


@dataclass(frozen=True)
class Picture:
    """An image file relative to the results, and what to say below it."""

    path: str
    caption: str
    verdicts: tuple[Verdict, ...] = ()


@dataclass(frozen=True)
class Gallery:
    title: str
    pictures: list[Picture]
    large: bool = False


Block = Paragraph | Tiles | Table | Plot | Gallery


@dataclass(frozen=True)
class Section:
    """A part of the report; ``name`` is its anchor."""

    name: str
    title: str
    blocks: list[Block]


def heading(block: Block, section: Section) -> str:
    """What stands above a block: its title, unless it only repeats the section's."""
    title = getattr(block, 'title', '')
    return '' if title == section.title else title


def sections(results: dict, figures: Collection[str]) -> list[Section]:
    """All sections that the results have something for.

    Args:
        results: Checked results, paths relative to the report's folder.
        figures: Names of the figures that were drawn.
    """
    pairs, runs, subsets = transfer_table(results), summary_table(results), subset_table(results)
    detection = _with_pictures(results, 'detection', detection_tables(results))
    segmentation = _with_pictures(results, 'segmentation', segmentation_tables(results))
    evaluated = [*run_tables(results), downstream_run_table(results), *provenance_tables(results)]
    plots = {name: [Plot(name, caption)] if name in figures else [] for name, caption in CAPTIONS.items()}
    parts = [
        Section('answer', '', headline(results)),
        Section('transfer', 'What was transferred', [pairs, *plots['transfer']] if pairs else []),
        Section('runs', 'All runs', [runs, *([] if pairs else plots['transfer']), subsets]),
        Section('corruptions', 'Corruptions', plots['severity'] + plots['heat_map']),
        Section('samples', 'Example images', sample_galleries(results)),
        Section('detection', 'Object detection', detection),
        Section('segmentation', 'Semantic segmentation', segmentation),
        Section('provenance', 'Fingerprint', evaluated),
    ]
    parts = [Section(part.name, part.title, [block for block in part.blocks if block]) for part in parts]
    return [part for part in parts if part.blocks]


CAPTIONS = {
    'transfer': 'Top-1 accuracy by suite. Diamond: teacher; ring: student alone; disc: student distilled, '
    'with an arrow from one to the other. Whiskers: 95 % interval.',
    'severity': 'Error against severity by corruption. Dashed: teachers; dotted: alone; solid: distilled.',
    'heat_map': 'Top-1 accuracy by corruption, mean over the five severities.',
}


# The headline: sentences computed from the numbers, for whoever reads no further.


def headline(results: dict) -> list[Block]:
    """The question, the answer in a few sentences, and its key numbers."""
    tiles = _tiles(results)
    sentences = [_verdict_sentence(results)] if suite_names(results) else []
    sentences += [_transfer_sentence(results, pair) for pair in _told(results)]
    sentences.append(_downstream_sentence(results))
    kinds = ['answer', *[''] * len(sentences)]
    return [
        Paragraph(QUESTION, 'question'),
        *([Tiles(tiles)] if tiles else []),
        *(Paragraph(text, kind) for text, kind in zip(sentences, kinds, strict=False) if text),
        *([Paragraph(_scope(results), 'note')] if suite_names(results) else []),
    ]


def _told(results: dict) -> list[Transfer]:
    pairs = transfers(results)
    return pairs if len(pairs) <= TRANSFERS_TOLD else []


def _gain(results: dict, pair: Transfer) -> Score | None:
    """OOD mean of the distilled student minus that of the same model trained alone, in points."""
    return subtract(ood_score(results, pair.student), ood_score(results, pair.reference))


def _verdict_sentence(results: dict) -> str:
    """The answer in one sentence."""
    gains = {f'{pair.teacher} → {pair.student}': _gain(results, pair) for pair in transfers(results)}
    gains = {name: gain for name, gain in gains.items() if gain}
    if not gains:
        return _no_transfer(results)
    gained, lost = ([name for name, gain in gains.items() if gain.sign == sign] for sign in (1, -1))
    text = f'Robustness was measurably passed on in {len(gained)} of {len(gains)} distillations'
    if len(gains) > TRANSFERS_TOLD:
        return f'{text}, and measurably lost in {len(lost)}.'
    text += f' ({", ".join(gained)})' if gained else ''
    return text + (f', and measurably lost in {", ".join(lost)}.' if lost else '.')


def _change(score: Score) -> str:
    """A difference as words: the direction is only claimed where the interval supports it."""
    interval = f'95 % interval {signed(score.low)} to {signed(score.high)}'
    if score.sign:
        verb = 'rose' if score.sign > 0 else 'fell'
        return f'{verb} by {abs(score.value):.1f} points ({interval})'
    return f'changed by {signed(score.value)} points, not distinguishable from zero here ({interval})'


def _transfer_sentence(results: dict, pair: Transfer) -> str:
    alone, distilled, taught = (ood_score(results, run) for run in (pair.reference, pair.student, pair.teacher))
    change = _gain(results, pair)
    if change is None:
        return ''
    text = (
        f'Distilling {pair.teacher} into {pair.student}: mean OOD accuracy {_change(change)}: '
        f'{distilled.value:.1f} %, against {alone.value:.1f} % of {pair.reference}, the same model alone.'
    )
    clean = subtract(*(suite_score(results, run, 'clean') for run in (pair.student, pair.reference)))
    if clean:
        text += f' Clean accuracy moved by {signed(clean.value)}.'
    lead = subtract(taught, alone)
    if lead and lead.value <= 0:
        text += f' The teacher had no lead to pass on: its OOD mean is {taught.value:.1f} %.'
    elif lead and change.value > 0:
        share_pct = 100 * change.value / lead.value
        text += f' The teacher led by {lead.value:.1f} points; {share_pct:.0f} % of that was passed on.'
    elif lead:
        text += f' The teacher led by {lead.value:.1f} points; none of that was passed on.'
    return text


def _no_transfer(results: dict) -> str:
    """Why there is nothing to compare."""
    pairs = transfers(results)
    if not pairs:
        return 'No run here was distilled, so there is no transfer to judge.'
    missing = [pair.student for pair in pairs if pair.reference is None]
    if missing:
        return (
            f'The same model trained without a teacher is missing for {", ".join(missing)}: '
            'scores are shown, but not what was transferred.'
        )
    return 'Student and reference were not both judged on all shifted suites: no OOD mean to compare.'


def _downstream_sentence(results: dict) -> str:
    parts = []
    for section, metric, label in DOWNSTREAM_METRICS:
        for entry in downstream(results, section):
            backbone = f' with {entry["backbone"]}' if 'backbone' in entry else ''
            parts.append(f'{entry[metric]:.3f} {label} in {section}{backbone}')
    return f'As a backbone: {"; ".join(parts)}.' if parts else ''


def _scope(results: dict) -> str:
    counts = {}
    for suites in results['classification'].values():
        for suite, entry in suites.items():
            counts.setdefault(suite_label(suite).lower(), set()).add(entry['images'])
    images = ', '.join(f'{suite} {"/".join(map(str, sorted(count)))}' for suite, count in counts.items())
    runs = len(results['classification'])
    return (
        f'{runs} {"run" if runs == 1 else "runs"}; images: {images}. '
        'Intervals cover the choice of test images, not of the training seed.'
    )


def _tiles(results: dict) -> list[Tile]:
    tiles = []
    for pair in _told(results):
        change = _gain(results, pair)
        if change:
            mark = {1: 'gain', -1: 'loss', 0: ''}[change.sign]
            note = f'{pair.teacher} → {pair.student}'
            tiles.append(Tile(signed(change.value), 'OOD points transferred', note, mark))
    for section, metric, label in DOWNSTREAM_METRICS:
        for entry in downstream(results, section):
            tiles.append(Tile(f'{entry[metric]:.3f}', label, entry.get('backbone', '')))
    return tiles


# Pictures.


def sample_galleries(results: dict) -> list[Block]:
    """For each suite, the images on which the runs disagree first, then the others, as many as are shown."""
    samples = results.get('samples', [])
    suites = [*suite_names(results), *(sample['suite'] for sample in samples)]
    galleries = []
    for suite in dict.fromkeys(suites):
        mine = [sample for sample in samples if sample['suite'] == suite]
        mine.sort(key=lambda sample: len({its['label'] for its in sample['predictions'].values()}) < 2)
        if mine:
            galleries.append(Gallery(suite_label(suite), [_sample(it) for it in mine[:SAMPLES_SHOWN]]))
    if not galleries:
        return []
    note = 'Images on which the runs disagree come first, so these are not a fair draw. ✓ right, ✗ wrong.'
    return [Paragraph(note, 'note'), *galleries]


def _sample(sample: dict) -> Picture:
    target, texture = sample['target'], sample.get('texture')
    verdicts = tuple(
        Verdict(
            run,
            its['label'],
            its['label'] == target,
            its.get('confidence'),
            'texture' if its['label'] == texture != target else '',
        )
        for run, its in sample['predictions'].items()
    )
    detail = f'texture of {texture}' if texture else sample.get('note')
    return Picture(sample['image'], f'{target}, {detail}' if detail else target, verdicts)


def _with_pictures(results: dict, section: str, tables: list[Table]) -> list[Block]:
    """Scores, then the pictures of each entry."""
    blocks: list[Block] = list(tables)
    for entry in downstream(results, section):
        pictures = [Picture(path, '') for path in entry.get('pictures', [])[:PICTURES_SHOWN]]
        if pictures:
            title = f'Predictions with {entry["backbone"]}' if 'backbone' in entry else 'Predictions'
            blocks.append(Gallery(title, pictures, large=True))
    return blocks


def shown_tables(results: dict) -> list[Table]:
    """The tables for a terminal: what was transferred, else all runs, then the downstream scores."""
    main = transfer_table(results) or summary_table(results)
    tables = (main, *detection_tables(results)[:1], *segmentation_tables(results)[:1])
    return [table for table in tables if table]
