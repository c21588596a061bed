"""The schema of ``results.json``, version 1, as checks; ``docs/results_schema.md`` is the same in words.

Each function below makes a check of what a value may be; a check raises a one-line ValueError with the place.
Keys that the schema does not name may be there too and are carried along.
"""

import math
import re
from collections.abc import Callable, Mapping

SCHEMA_VERSION = 1
FILE_NAME = 'results.json'
SEVERITIES = 5

Check = Callable[[object, str], None]


def _fail(where: str, expected: str, found: object) -> None:
    shown = 'nothing' if found is _ABSENT else repr(found)
    shown = shown if len(shown) <= 60 else shown[:57] + '...'
    raise ValueError(f'{where}: expected {expected}, found {shown}')


_ABSENT = object()


def number(low: float, high: float = math.inf, whole: bool = False) -> Check:
    """A finite number from ``low`` to ``high``; not a truth value, not NaN."""
    kind = 'a whole number' if whole else 'a number'
    expected = f'{kind} from {low:g} to {high:g}' if math.isfinite(high) else f'{kind} of at least {low:g}'

    def check(value: object, where: str) -> None:
        right_type = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
        if not right_type or not math.isfinite(value) or not low <= value <= high:
            _fail(where, expected, value)

    return check


def text(pattern: str = '.*', expected: str = 'a text') -> Check:
    """A string that matches the whole of ``pattern``."""

    def check(value: object, where: str) -> None:
        if not isinstance(value, str) or not re.fullmatch(pattern, value, re.DOTALL):
            _fail(where, expected, value)

    return check


def nullable(item: Check) -> Check:
    """``null``, or what ``item`` accepts."""
    return lambda value, where: None if value is None else item(value, where)


def list_of(item: Check, length: int | None = None) -> Check:
    """A list, of ``length`` entries where given."""

    def check(value: object, where: str) -> None:
        if not isinstance(value, list) or (length is not None and len(value) != length):
            _fail(where, 'a list' if length is None else f'a list of {length}', value)
        for index, entry in enumerate(value):
            item(entry, f'{where}[{index}]')

    return check


def map_of(item: Check) -> Check:
    """An object with any keys."""

    def check(value: object, where: str) -> None:
        if not isinstance(value, dict):
            _fail(where, 'an object', value)
        for key, entry in value.items():
            item(entry, _join(where, key))

    return check


def fields(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """An object with the required keys; keys that neither mapping names are let through."""

    def check(value: object, where: str) -> None:
        if not isinstance(value, dict):
            _fail(where, 'an object', value)
        for key, item in required.items():
            if key not in value:
                _fail(_join(where, key), 'a value', _ABSENT)
            item(value[key], _join(where, key))
        for key, item in (optional or {}).items():
            if key in value:
                item(value[key], _join(where, key))

    return check


def _join(where: str, key: str) -> str:
    return f'{where}{key}' if where.endswith(': ') else f'{where}.{key}'


def truth(value: object, where: str) -> None:
    """True or false."""
    if not isinstance(value, bool):
        _fail(where, 'true or false', value)


def anything(value: object, where: str) -> None:
    """No condition."""


PERCENT = number(0, 100)
FRACTION = number(0, 1)
COUNT = number(1, whole=True)
OCCURRENCES = number(0, whole=True)
POINTS = number(-100, 100)
"""A difference of two percentages."""
AVERAGE_PRECISION = number(-1, 1)
"""COCO's own convention: -1 where the set holds no such object."""

RUN = fields(
    {
        'model': text(),
        'model_kwargs': map_of(anything),
        'teacher': nullable(text()),
        'params': COUNT,
        'checkpoint': nullable(text()),
        'weights_sha256': text('[0-9a-f]{64}', '64 hexadecimal digits'),
        'input_size': list_of(COUNT, 3),
        'mean': list_of(number(-math.inf), 3),
        'std': list_of(number(0), 3),
    },
    {'clean_subset_top1_pct': map_of(PERCENT)},
)
SUITE_REQUIRED = {'top1_pct': PERCENT, 'images': COUNT}
SUITE_OPTIONAL = {
    'top5_pct': PERCENT,
    'classes': COUNT,
    'top1_ci95_pct': list_of(PERCENT, 2),
    'ece_pct': PERCENT,
    'shape_bias_pct': nullable(PERCENT),
    'shape_bias_by_class': map_of(PERCENT),
    'shape_bias_counts': map_of(OCCURRENCES),
    'clean_subset_top1_pct': PERCENT,
    'effective_robustness_pct': POINTS,
    'problems': map_of(COUNT),
    'input_size': list_of(COUNT, 2),
    'fingerprint': map_of(anything),
}
SUITE = fields(SUITE_REQUIRED, SUITE_OPTIONAL)
MCE_KEYS = ('mce_pct', 'relative_mce_pct')
CORRUPTION = fields(
    {
        **SUITE_REQUIRED,
        'mean_error_pct': PERCENT,
        'source': text(),
        'cells': map_of(list_of(PERCENT, SEVERITIES)),
    },
    SUITE_OPTIONAL
    | {key: number(-math.inf) for key in MCE_KEYS}
    | {'mce_normaliser': text(), 'extra_cells': map_of(list_of(PERCENT, SEVERITIES))}
    | {'frost': text(), 'definition': text()},
)
SAMPLE = fields(
    {
        'suite': text(),
        'image': text(),
        'target': text(),
        'predictions': map_of(fields({'label': text()}, {'confidence': FRACTION})),
    },
    {'texture': text(), 'note': text(), 'disagreement': truth},
)
BASELINE_FIT = fields(
    {
        'slope': number(-math.inf),
        'intercept': number(-math.inf),
        'space': text('logit', "'logit'"),
        'runs': list_of(text()),
    }
)
COMPARISON = fields(
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
UNLABELLED = fields({'images': COUNT}, {'problems': map_of(COUNT), 'agreement_pct': map_of(PERCENT)})
UNDER_CORRUPTION_SCORE = fields(
    {
        'P': AVERAGE_PRECISION,
        'mPC': AVERAGE_PRECISION,
        'rPC_pct': nullable(number(-math.inf)),
        'cells': map_of(list_of(AVERAGE_PRECISION)),
    }
)
UNDER_CORRUPTION = fields(
    {'kinds': list_of(text()), 'severities': list_of(number(1, SEVERITIES, whole=True)), 'images': COUNT},
    {
        **dict.fromkeys(('bbox_mAP', 'segm_mAP', 'mIoU'), UNDER_CORRUPTION_SCORE),
        'source': text(),
        'frost': text(),
        'seed': number(0, whole=True),
        'versions': map_of(text()),
    },
)
DOWNSTREAM_OPTIONAL = {
    'config': text(),
    'checkpoint': nullable(text()),
    'backbone': text(),
    'pictures': list_of(text()),
    'corruption': UNDER_CORRUPTION,
}
PRECISIONS = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')
DETECTION = fields(
    {'bbox_mAP': AVERAGE_PRECISION, 'images': COUNT},
    DOWNSTREAM_OPTIONAL | {f'{kind}_{name}': AVERAGE_PRECISION for kind in ('bbox', 'segm') for name in PRECISIONS},
)
SEGMENTATION = fields(
    {'mIoU': FRACTION, 'images': COUNT},
    DOWNSTREAM_OPTIONAL | {'mAcc': FRACTION, 'aAcc': FRACTION, 'per_class_IoU': map_of(nullable(FRACTION))},
)
PROVENANCE = fields(
    {},
    {
        'command': text(),
        'created': text(),
        'seed': nullable(number(0, whole=True)),
        'versions': map_of(text()),
        'data': map_of(fields({}, {'root': text(), 'images': COUNT})),
    },
)


def _classification(value: object, where: str) -> None:
    map_of(map_of(anything))(value, where)
    for run, suites in value.items():
        for suite, entry in suites.items():
            (CORRUPTION if suite == 'corruption' else SUITE)(entry, _join(_join(where, run), suite))


EXPLAINED_MODEL = fields(
    {
        'name': text(),
        'model': text(),
        'weights_sha256': text('[0-9a-f]{64}', '64 hexadecimal digits'),
        'input_size': list_of(COUNT, 3),
        'stages': list_of(text()),
        'attribution': text(),
        'receptive_field': list_of(
            fields({'stage': text(), 'side_50_pct': number(0, 100), 'side_95_pct': number(0, 100)})
        ),
    }
)
EXPLAINED_PAIR = fields(
    {
        'a': EXPLAINED_MODEL,
        'b': EXPLAINED_MODEL,
        'images': COUNT,
        'cka': list_of(list_of(nullable(number(-math.inf)))),
        'figures': map_of(text()),
    },
    {'root': text(), 'seed': number(0, whole=True)},
)


SECTIONS = {
    'runs': map_of(RUN),
    'classification': _classification,
    'baseline_fit': map_of(BASELINE_FIT),
    'comparisons': list_of(COMPARISON),
    'unlabelled': map_of(map_of(UNLABELLED)),
    'samples': list_of(SAMPLE),
    'explain': list_of(EXPLAINED_PAIR),
    'detection': DETECTION,
    'segmentation': SEGMENTATION,
    'provenance': PROVENANCE,
}


def validate(results: object, name: str = FILE_NAME) -> None:
    """Check results against schema version 1.

    Args:
        results: What was read from the file.
        name: Path of the file, for the messages.

    Raises:
        ValueError: In one line: file, key path, what was expected and what was found.
    """
    where = f'{name}: '
    if not isinstance(results, dict):
        _fail(where + 'the file', 'an object', results)
    if results.get('schema_version') != SCHEMA_VERSION:
        _fail(where + 'schema_version', str(SCHEMA_VERSION), results.get('schema_version', _ABSENT))
    fields({}, SECTIONS)(results, where)
    for section in ('detection', 'segmentation'):
        others = results.get(section, {}).get('others', [])
        list_of(SECTIONS[section])(others, f'{where}{section}.others')
    for run, suites in results.get('classification', {}).items():
        if run not in results.get('runs', {}):
            known = ', '.join(results.get('runs', {})) or 'none'
            _fail(f'{where}classification', f"a run listed under 'runs' ({known})", run)
        if 'corruption' in suites:
            _check_corruption(suites['corruption'], f'{where}classification.{run}.corruption')


def _check_corruption(entry: dict, where: str) -> None:
    """The summary must follow from the cells; 0.1 points are left for rounding."""
    cells = [top1_pct for row in entry['cells'].values() for top1_pct in row]
    if not cells:
        _fail(f'{where}.cells', 'at least one corruption', entry['cells'])
    mean_pct = sum(cells) / len(cells)
    if abs(entry['top1_pct'] - mean_pct) > 0.1:
        _fail(f'{where}.top1_pct', f'{mean_pct:.2f}, the mean of the cells', entry['top1_pct'])
    if abs(entry['mean_error_pct'] + entry['top1_pct'] - 100) > 0.1:
        _fail(f'{where}.mean_error_pct', f'{100 - entry["top1_pct"]:.2f}', entry['mean_error_pct'])
    for key in MCE_KEYS:
        if key in entry and 'mce_normaliser' not in entry:
            _fail(f'{where}.mce_normaliser', f'the model that {key} is normalised by', _ABSENT)
