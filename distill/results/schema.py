"""The schema of ``results.json``, version 1, as checks.

``docs/results_schema.md`` says the same in words, and `distill.results.entries` as types. A file may have further keys,
which are carried along.
"""

from distill.base.records import SEVERITIES
from distill.results.checks import (
    ABSENT,
    Check,
    Fields,
    anything,
    fail,
    join,
    list_of,
    map_of,
    nullable,
    number,
    text,
    truth,
)

SCHEMA_VERSION = 1
FILE_NAME = 'results.json'

PERCENT = number(0, 100)
FRACTION = number(0, 1)
COUNT = number(1, whole=True)
OCCURRENCES = number(0, whole=True)
ANY_NUMBER = number()
POINTS = number(-100, 100)
"""A difference of two percentages."""
AVERAGE_PRECISION = number(-1, 1)
"""COCO's own convention: -1 where the set holds no such object."""
SHA256 = text('[0-9a-f]{64}', '64 hexadecimal digits')
BY_KIND = map_of(list_of(PERCENT, len(SEVERITIES)))
"""A percentage for each cell: kind → one for each severity."""

ARTEFACT = Fields(
    {'engine': text(), 'precision': text('fp32|bf16|fp16|int8', "'fp32', 'bf16', 'fp16' or 'int8'")},
    {
        'engine_version': text(),
        'weights_sha256': nullable(SHA256),
        'kept_in_fp32': list_of(text()),
        'calibration': nullable(map_of(anything)),
    },
)
PROBE = Fields(
    {
        'method': text('knn|linear|ridge', "'knn', 'linear' or 'ridge'"),
        'share': FRACTION,
        'seed': OCCURRENCES,
        'images': COUNT,
        'train_sha256': SHA256,
    },
    {'neighbours': COUNT, 'temperature': number(0)},
)
RUN = Fields(
    {
        'model': text(),
        'model_kwargs': map_of(anything),
        'teacher': nullable(text()),
        'params': COUNT,
        'checkpoint': nullable(text()),
        'weights_sha256': SHA256,
        'input_size': list_of(COUNT, 3),
        'mean': list_of(ANY_NUMBER, 3),
        'std': list_of(number(0), 3),
    },
    {
        'source': text(),
        'classes_from': text('told|assumed|data', "'told', 'assumed' or 'data'"),
        'clean_subset_top1_pct': map_of(PERCENT),
        'artefact': ARTEFACT,
        'seen_kinds': list_of(text()),
        'probe': PROBE,
        'learnt': map_of(nullable(ANY_NUMBER)),
    },
)
UNLABELLED = Fields(
    {'images': COUNT},
    {
        'classes': COUNT,
        'input_size': list_of(COUNT, 2),
        'fingerprint': map_of(anything),
        'problems': map_of(COUNT),
        'agreement_pct': map_of(PERCENT),
    },
)
SUITE = Fields(
    {'top1_pct': PERCENT, 'images': COUNT},
    {
        'classes': COUNT,
        'input_size': list_of(COUNT, 2),
        'fingerprint': map_of(anything),
        'problems': map_of(COUNT),
        'top1_ci95_pct': list_of(PERCENT, 2),
        'top5_pct': PERCENT,
        'ece_pct': PERCENT,
        'shape_bias_pct': nullable(PERCENT),
        'shape_bias_by_class': map_of(PERCENT),
        'shape_bias_counts': map_of(OCCURRENCES),
        'clean_subset_top1_pct': PERCENT,
        'effective_robustness_pct': POINTS,
    },
)
MCE_KEYS = ('mce_pct', 'relative_mce_pct')
CORRUPTION = Fields(
    {**SUITE.required, 'mean_error_pct': PERCENT, 'source': text(), 'cells': BY_KIND},
    {
        **SUITE.optional,
        **dict.fromkeys(MCE_KEYS, ANY_NUMBER),
        'mce_normaliser': text(),
        'extra_cells': BY_KIND,
        'unseen_mean_error_pct': PERCENT,
        'frost': text(),
        'definition': text(),
        'corrupted_on': text(),
    },
)
SAMPLE = Fields(
    {
        'suite': text(),
        'image': text(),
        'target': text(),
        'predictions': map_of(Fields({'label': text()}, {'confidence': FRACTION})),
    },
    {'texture': text(), 'note': text(), 'disagreement': truth},
)
BASELINE_FIT = Fields(
    {'slope': ANY_NUMBER, 'intercept': ANY_NUMBER, 'space': text('logit', "'logit'"), 'runs': list_of(text())}
)
COMPARISON = Fields(
    {
        'a': text(),
        'b': text(),
        'suite': text(),
        'difference_pct': POINTS,
        'ci95_pct': list_of(POINTS, 2),
        'agreement_pct': PERCENT,
        'images': COUNT,
    }
)
ARTEFACT_CHANGE = Fields(
    {
        'section': text('detection|segmentation', "'detection' or 'segmentation'"),
        'model': text(),
        'artefact': text(),
        'score': text('P|mPC', "'P' or 'mPC'"),
        'difference_points': POINTS,
        'ci95_points': list_of(POINTS, 2),
        'images': COUNT,
    }
)
STUDENT_CHANGE = Fields(
    {
        'section': text('detection|segmentation', "'detection' or 'segmentation'"),
        'teacher': text(),
        'student': text(),
        'score': text('P|mPC', "'P' or 'mPC'"),
        'difference_points': POINTS,
        'ci95_points': list_of(POINTS, 2),
        'images': COUNT,
    }
)
TAUGHT_BY = Fields({'checkpoint': text(), 'weights_sha256': SHA256})
UNDER_CORRUPTION_SCORE = Fields(
    {
        'P': AVERAGE_PRECISION,
        'mPC': AVERAGE_PRECISION,
        'rPC_pct': nullable(ANY_NUMBER),
        'cells': map_of(list_of(AVERAGE_PRECISION)),
    },
    {'mPC_unseen': AVERAGE_PRECISION},
)
UNDER_CORRUPTION = Fields(
    {'kinds': list_of(text()), 'severities': list_of(number(1, len(SEVERITIES), whole=True)), 'images': COUNT},
    {
        **dict.fromkeys(('bbox_mAP', 'segm_mAP', 'mIoU'), UNDER_CORRUPTION_SCORE),
        'source': text(),
        'frost': text(),
        'seen_kinds': list_of(text()),
        'seed': OCCURRENCES,
        'versions': map_of(text()),
    },
)
DOWNSTREAM: dict[str, Check] = {
    'config': text(),
    'checkpoint': nullable(text()),
    'weights_sha256': SHA256,
    'artefact': ARTEFACT,
    'backbone': text(),
    'teacher': TAUGHT_BY,
    'seed': OCCURRENCES,
    'pictures': list_of(text()),
    'per_image': text(),
    'corruption': UNDER_CORRUPTION,
}
PRECISIONS = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')
DETECTION = Fields(
    {'bbox_mAP': AVERAGE_PRECISION, 'images': COUNT},
    {**DOWNSTREAM, **{f'{kind}_{name}': AVERAGE_PRECISION for kind in ('bbox', 'segm') for name in PRECISIONS}},
)
SEGMENTATION = Fields(
    {'mIoU': FRACTION, 'images': COUNT},
    {**DOWNSTREAM, 'mAcc': FRACTION, 'aAcc': FRACTION, 'per_class_IoU': map_of(nullable(FRACTION))},
)
EXPLAINED_MODEL = Fields(
    {
        'name': text(),
        'model': text(),
        'weights_sha256': SHA256,
        'input_size': list_of(COUNT, 3),
        'stages': list_of(text()),
        'attribution': text(),
        'receptive_field': list_of(Fields({'stage': text(), 'side_50_pct': PERCENT, 'side_95_pct': PERCENT})),
    }
)
EXPLAINED_PAIR = Fields(
    {
        'a': EXPLAINED_MODEL,
        'b': EXPLAINED_MODEL,
        'images': COUNT,
        'cka': list_of(list_of(nullable(ANY_NUMBER))),
        'figures': map_of(text()),
    },
    {'root': text(), 'seed': OCCURRENCES},
)
LINK = Fields(
    {
        'before': text(),
        'after': text(),
        'measure': text(),
        'difference_points': POINTS,
        'ci95_points': list_of(ANY_NUMBER, 2),
    }
)
LEDGER_CHAIN = Fields(
    {
        'section': text('classification|detection|segmentation', "'classification', 'detection' or 'segmentation'"),
        'stages': list_of(Fields({'stage': text(), 'run': text()})),
        'links': list_of(LINK),
        'most_lost': nullable(LINK),
        'sentence': text(),
    },
    {'alone': text(), 'backbone': text()},
)
PROVENANCE = Fields(
    {},
    {
        'command': text(),
        'created': text(),
        'seed': nullable(OCCURRENCES),
        'device': text(),
        'versions': map_of(text()),
        'data': map_of(Fields({}, {'root': text(), 'images': COUNT, 'sha256': text()})),
    },
)


def _suites(value: object, where: str) -> None:
    """The scores of one run by suite, of which ``corruption`` has more keys than the others."""
    if not isinstance(value, dict):
        fail(where, 'an object', value)
    for suite, entry in value.items():
        (CORRUPTION if suite == 'corruption' else SUITE)(entry, join(where, suite))


SECTIONS: dict[str, Check] = {
    'runs': map_of(RUN),
    'classification': map_of(_suites),
    'baseline_fit': map_of(BASELINE_FIT),
    'comparisons': list_of(COMPARISON),
    'unlabelled': map_of(map_of(UNLABELLED)),
    'samples': list_of(SAMPLE),
    'scores': map_of(ANY_NUMBER),
    'explain': list_of(EXPLAINED_PAIR),
    'detection': DETECTION,
    'segmentation': SEGMENTATION,
    'artefact_changes': list_of(ARTEFACT_CHANGE),
    'student_changes': list_of(STUDENT_CHANGE),
    'ledger': list_of(LEDGER_CHAIN),
    'provenance': PROVENANCE,
}


def validate(results: object, name: str = FILE_NAME) -> None:
    """Check results against the schema.

    Args:
        results: What was read from the file, or is to be written.
        name: Path of the file, for the messages.

    Raises:
        ValueError: In one line: file, key path, what was expected and what was found.
    """
    where = f'{name}: '
    if not isinstance(results, dict):
        fail(where + 'the file', 'an object', results)
    if results.get('schema_version') != SCHEMA_VERSION:
        fail(where + 'schema_version', str(SCHEMA_VERSION), results.get('schema_version', ABSENT))
    Fields({}, SECTIONS)(results, where)
    for section in ('detection', 'segmentation'):
        others = results.get(section, {}).get('others', [])
        list_of(SECTIONS[section])(others, f'{where}{section}.others')
    for run, suites in results.get('classification', {}).items():
        if run not in results.get('runs', {}):
            known = ', '.join(results.get('runs', {})) or 'none'
            fail(f'{where}classification', f"a run listed under 'runs' ({known})", run)
        if 'corruption' in suites:
            _check_corruption(suites['corruption'], f'{where}classification.{run}.corruption')


def _check_corruption(entry: dict, where: str) -> None:
    """The summary must follow from the cells; 0.1 points are left for rounding."""
    cells = [top1_pct for row in entry['cells'].values() for top1_pct in row]
    if not cells:
        fail(f'{where}.cells', 'at least one corruption', entry['cells'])
    mean_pct = sum(cells) / len(cells)
    if abs(entry['top1_pct'] - mean_pct) > 0.1:
        fail(f'{where}.top1_pct', f'{mean_pct:.2f}, the mean of the cells', entry['top1_pct'])
    if abs(entry['mean_error_pct'] + entry['top1_pct'] - 100) > 0.1:
        fail(f'{where}.mean_error_pct', f'{100 - entry["top1_pct"]:.2f}', entry['mean_error_pct'])
    for key in MCE_KEYS:
        if key in entry and 'mce_normaliser' not in entry:
            fail(f'{where}.mce_normaliser', f'the model that {key} is normalised by', ABSENT)
