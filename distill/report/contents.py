"""The contents of the report: sections of blocks in their order, computed from the results."""

from collections.abc import Collection

from distill.report.blocks import Block, Gallery, Paragraph, Picture, Plot, Section, Verdict
from distill.report.entries import backbone, downstream
from distill.report.explained import explain_blocks
from distill.report.fingerprint import (
    downstream_run_table,
    problem_table,
    provenance_tables,
    run_tables,
    suite_run_table,
    unlabelled_table,
)
from distill.report.headline import headline
from distill.report.ledger import ledger_sentences, ledger_table
from distill.report.ledger_scenes import scene_chains, scene_ledger_sentences, scene_ledger_table
from distill.report.scores import (
    corrupted_suites,
    judged_runs,
    seen_kinds,
    suite_label,
    suite_names,
    suite_values,
    transfers,
)
from distill.report.tables import Table, subset_table, summary_table, transfer_table
from distill.report.tables_downstream import detection_tables, segmentation_tables
from distill.report.tables_metrics import metric_tables
from distill.results.entries import Results, Sample

SAMPLES_SHOWN = 6
PICTURES_SHOWN = 8
CAPTIONS = {
    'transfer': 'Top-1 accuracy by suite. Whiskers: 95 % interval.',
    'radar': 'Top-1 accuracy in percent by suite, from 0 in the centre; of many runs the seven with the highest OOD '
    'mean.',
    'scatter': 'Top-1 accuracy on each shifted suite against clean top-1, both axes logit-scaled. On the solid line, '
    'where it is in sight, nothing is lost to the shift; above the dashed fit a run is more robust than its clean '
    'accuracy explains. Whiskers: 95 % interval.',
    'severity': 'Error against severity by corruption.',
    'heat_map': 'Top-1 accuracy by corruption, mean over the five severities.',
    'ledger': 'Top-1 accuracy by suite from the first to the last stage. Thick: a measurable change; ring: the student '
    'trained alone.',
    'shape_bias': 'Shape bias by class: the share of shape decisions among the cue-conflict images that were decided '
    'for the shape or the texture. Vertical lines: all classes together.',
}
SCENES = (
    ' Of detectors and segmenters: the score on clean and on corrupted images, and the share of the first that is left '
    'in the second.'
)
"""Added to the ledger's caption where it has any."""
MARKER_ROLES = ' Diamond: teacher; ring: student alone; disc: student distilled'
LINE_ROLES = ' Dashed: teachers; dotted: alone; solid: distilled.'
ROLES = {
    'transfer': f'{MARKER_ROLES}, with an arrow from one to the other.',
    'radar': LINE_ROLES,
    'scatter': f'{MARKER_ROLES}.',
    'severity': LINE_ROLES,
    'shape_bias': f'{MARKER_ROLES}.',
}
"""Added to the captions where a run was distilled."""


def sections(results: Results, figures: Collection[str]) -> list[Section]:
    """Put together all sections for which the results hold numbers or pictures.

    Args:
        results: Checked results, paths relative to the report's folder.
        figures: Names of the figures that were drawn.
    """
    pairs = transfer_table(results)
    plots = {
        name: [Plot(name, _caption(results, name), narrow=name == 'ledger')] if name in figures else []
        for name in CAPTIONS
    }
    metrics = metric_tables(results)
    told = [*ledger_sentences(results), *scene_ledger_sentences(results)]
    ledger = [Paragraph(text) for text in told]
    ledgers = [ledger_table(results), scene_ledger_table(results)]
    parts = [
        Section('answer', '', headline(results)),
        Section('transfer', 'What was transferred', [pairs, *plots['transfer']] if pairs else []),
        Section(
            'runs',
            'All runs',
            [summary_table(results), *([] if pairs else plots['transfer']), *plots['radar'], subset_table(results)],
        ),
        Section(
            'ledger',
            'From the teacher to the artefact',
            [*ledger, *plots['ledger'], *ledgers],
        ),
        Section('shift', 'Clean against shifted', [*plots['scatter'], *metrics['shift']]),
        Section('corruptions', 'Corruptions', _corruptions(results, figures, metrics['corruptions'])),
        Section('shape', 'Shape or texture', plots['shape_bias']),
        Section('calibration', 'Calibration', metrics['calibration']),
        Section('comparisons', 'Run against run', metrics['comparisons']),
        Section('samples', 'Example images', sample_galleries(results)),
        Section('explain', 'What the models look at', list(explain_blocks(results, figures))),
        Section('detection', 'Object detection', _with_pictures(results, 'detection', detection_tables(results))),
        Section(
            'segmentation',
            'Semantic segmentation',
            _with_pictures(results, 'segmentation', segmentation_tables(results)),
        ),
        Section('provenance', 'Fingerprint', _fingerprint(results)),
    ]
    parts = [Section(part.name, part.title, [block for block in part.blocks if block]) for part in parts]
    return [part for part in parts if part.blocks]


def _corruptions(results: Results, figures: Collection[str], tables: list[Table]) -> list[Block]:
    """The error tables, then the figures of each corrupted suite, which name the suite where there are several."""
    blocks: list[Block] = list(tables)
    suites = corrupted_suites(results)
    for suite in suites:
        which = f'{suite_label(suite)}. ' if len(suites) > 1 else ''
        for name in ('severity', 'heat_map'):
            if f'{name}_{suite}' in figures:
                marks = _extra_kinds(results, suite) + (_seen_kinds(results, suite) if name == 'heat_map' else '')
                blocks.append(Plot(f'{name}_{suite}', which + _caption(results, name) + marks))
    return blocks


def _caption(results: Results, name: str) -> str:
    if name == 'ledger' and scene_chains(results):
        return CAPTIONS[name] + SCENES
    return CAPTIONS[name] + (ROLES.get(name, '') if transfers(results) else '')


def _extra_kinds(results: Results, suite: str) -> str:
    has_extra = any(suite_values(results, suite, 'extra_cells').values())
    return ' A plus marks the extra kinds, which are part of no mean.' if has_extra else ''


def _seen_kinds(results: Results, suite: str) -> str:
    saw = any(seen_kinds(results, run, suite) for run in judged_runs(results))
    return ' A star marks kinds that the run saw in training.' if saw else ''


def _fingerprint(results: Results) -> list[Block]:
    return [
        *run_tables(results),
        suite_run_table(results),
        downstream_run_table(results),
        unlabelled_table(results),
        problem_table(results),
        *provenance_tables(results),
    ]


def sample_galleries(results: Results) -> list[Block]:
    """The first sample images of each suite; those on which the runs disagree go first."""
    samples = results.get('samples', [])
    suites = [*suite_names(results), *(sample['suite'] for sample in samples)]
    galleries = []
    for suite in dict.fromkeys(suites):
        chosen = [sample for sample in samples if sample['suite'] == suite]
        chosen.sort(key=_disagreement, reverse=True)
        if chosen:
            galleries.append(Gallery(suite_label(suite), [_sample(sample) for sample in chosen[:SAMPLES_SHOWN]]))
    if not galleries:
        return []
    note = 'Images on which the runs disagree come first, so these are not a fair draw. ✓ right, ✗ wrong.'
    return [Paragraph(note, 'note'), *galleries]


def _disagreement(sample: Sample) -> tuple[bool, int]:
    """How well a sample tells the runs apart: whether it was chosen for that, then the number of different answers."""
    answers = {prediction['label'] for prediction in sample['predictions'].values()}
    return sample.get('disagreement', False), len(answers)


def _sample(sample: Sample) -> Picture:
    target, texture = sample['target'], sample.get('texture')
    verdicts = tuple(
        Verdict(
            run,
            prediction['label'],
            prediction['label'] == target,
            prediction.get('confidence'),
            'texture' if prediction['label'] == texture != target else '',
        )
        for run, prediction in sample['predictions'].items()
    )
    detail = f'texture of {texture}' if texture else sample.get('note')
    return Picture(sample['image'], f'{target}, {detail}' if detail else target, verdicts)


def _with_pictures(results: Results, section: str, tables: list[Table]) -> list[Block]:
    """Scores, then the pictures of each entry."""
    blocks: list[Block] = list(tables)
    for entry in downstream(results, section):
        pictures = [Picture(path, '') for path in entry.get('pictures', [])[:PICTURES_SHOWN]]
        if pictures:
            name = backbone(entry)
            blocks.append(Gallery(f'Predictions with {name}' if name else 'Predictions', pictures, large=True))
    return blocks


def shown_tables(results: Results) -> list[Table]:
    """The tables for a terminal: the transfers, or all runs where there is no transfer, then the downstream scores."""
    main = transfer_table(results) or summary_table(results)
    tables = (main, *detection_tables(results)[:1], *segmentation_tables(results)[:1])
    return [table for table in tables if table]
