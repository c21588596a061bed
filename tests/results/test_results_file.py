"""``results.json`` is checked when it is written and when it is read, and its types are its schema."""

import json
import re

import numpy as np
import pytest

from distill.base.records import KINDS, Cell
from distill.results import entries, schema
from distill.results.cells import cells_from_json, cells_to_json
from distill.results.files import new_results, read_results, write_results


def test_what_is_written_is_read_again_with_plain_numbers_and_lists(tmp_path):
    results = {**new_results(), 'scores': {'top1_pct': np.float32(12.5)}, 'notes': {'sizes': (1, np.int64(2))}}
    write_results(tmp_path / 'results.json', results)
    expected = {'schema_version': 1, 'scores': {'top1_pct': 12.5}, 'notes': {'sizes': [1, 2]}}
    assert read_results(tmp_path / 'results.json') == read_results(tmp_path) == expected


@pytest.mark.parametrize(
    ('section', 'value', 'message'),
    [
        ('scores', {'top1_pct': 'high'}, "scores.top1_pct: expected a number, found 'high'"),
        ('scores', {'top1_pct': float('nan')}, 'scores.top1_pct: expected a number, found nan'),
        (
            'detection',
            {'bbox_mAP': 41.2, 'images': 1},
            'detection.bbox_mAP: expected a number from -1 to 1, found 41.2',
        ),
        ('schema_version', 2, 'schema_version: expected 1, found 2'),
    ],
)
def test_results_that_break_the_schema_are_not_written_and_those_before_stay(tmp_path, section, value, message):
    path = tmp_path / 'results.json'
    write_results(path, new_results())
    before = path.read_bytes()
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        write_results(path, {**new_results(), section: value})
    assert '\n' not in str(error.value)
    assert path.read_bytes() == before
    path.write_text(json.dumps({**new_results(), section: value}))
    with pytest.raises(ValueError, match=re.escape(message) + '; write the file again, or correct it there'):
        read_results(path)


def test_numbers_that_json_does_not_know_are_null_under_keys_that_the_schema_does_not(tmp_path):
    # mmdet's average precision by class is NaN where the set has no such object.
    detection = {'bbox_mAP': 0.5, 'images': 2, 'star_precision': float('nan'), 'lists': [float('inf'), 1.0]}
    write_results(tmp_path / 'results.json', {**new_results(), 'detection': detection})
    content = json.loads((tmp_path / 'results.json').read_text(), parse_constant=pytest.fail)
    assert content['detection'] == {**detection, 'star_precision': None, 'lists': [None, 1.0]}


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / 'results.json').write_text('{"schema_version": 1')
    with pytest.raises(ValueError, match=r"results\.json' is not valid JSON .*; write it again"):
        read_results(tmp_path)


@pytest.mark.parametrize(
    ('entry', 'check'),
    [
        (entries.RunRecord, schema.RUN),
        (entries.UnlabelledEntry, schema.UNLABELLED),
        (entries.Sample, schema.SAMPLE),
        (entries.Comparison, schema.COMPARISON),
        (entries.BaselineFit, schema.BASELINE_FIT),
        (entries.Provenance, schema.PROVENANCE),
    ],
)
def test_a_type_has_the_keys_of_its_schema(entry, check):
    assert set(entry.__annotations__) == {*check.required, *check.optional}
    assert set(entry.__required_keys__) == set(check.required)


def test_the_entry_of_a_suite_has_the_keys_of_corruption_too():
    keys = {key for check in (schema.SUITE, schema.CORRUPTION) for key in (*check.required, *check.optional)}
    assert set(entries.SuiteEntry.__annotations__) == keys
    assert set(entries.SuiteEntry.__required_keys__) == set(schema.SUITE.required)
    assert set(entries.ShapeBias.__annotations__) < keys


def test_results_have_the_sections_of_the_schema():
    assert set(entries.Results.__annotations__) == {'schema_version', *schema.SECTIONS}


def test_cells_stand_by_kind_in_the_file_and_come_back():
    by_kind = {kind: [10 * place + severity for severity in range(1, 6)] for place, kind in enumerate(KINDS)}
    cells = cells_from_json(by_kind)
    assert (cells[Cell('gaussian_noise', 1)], cells[Cell('fog', 4)]) == (1, 94)
    assert cells_to_json(cells) == by_kind
    some = {Cell('fog', 5): 0.2, Cell('fog', 2): 0.4, Cell('snow', 5): 0.1, Cell('snow', 2): 0.3}
    assert cells_to_json(some) == {'fog': [0.2, 0.4], 'snow': [0.1, 0.3]}
    assert cells_from_json(cells_to_json(some), (5, 2)) == some
    with pytest.raises(ValueError, match='fog 4 values; expected 5, one for each severity'):
        cells_from_json({'fog': [1, 2, 3, 4], 'snow': [1, 2, 3, 4, 5]})
