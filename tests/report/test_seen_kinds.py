"""Kinds of corruption that a run saw in training are marked, and left out of a mean of their own."""

import numpy as np
import pytest
from report_results import make_results

from distill.report.contents import sections
from distill.report.plots import draw_heat_map
from distill.report.tables import seen_notes
from distill.report.tables_metrics import corruption_table
from distill.results.schema import validate
from distill.robustness.compare import derive


@pytest.fixture
def results(tmp_path) -> dict:
    """Results of two runs, of which one saw a kind of the benchmark, a further one, and a mixture."""
    found = make_results(tmp_path, ('robust_alone', 'robust_from_deit'))
    found['runs']['robust_from_deit']['seen_kinds'] = ['fog', 'speckle_noise', 'prime']
    cells = found['classification']['robust_from_deit']['corruption']['cells']
    cells['fog'] = [90.0, 80.0, 85.0, 75.0, 70.0]
    mean = float(np.mean(list(cells.values())))
    found['classification']['robust_from_deit']['corruption'].update(top1_pct=mean, mean_error_pct=100 - mean)
    derive(found, tmp_path)
    validate(found)
    return found


def test_the_mean_without_seen_kinds_is_that_of_the_others(results):
    entry = results['classification']['robust_from_deit']['corruption']
    others = [values for kind, values in entry['cells'].items() if kind != 'fog']
    assert entry['unseen_mean_error_pct'] == pytest.approx(100 - np.mean(others))
    assert entry['unseen_mean_error_pct'] > entry['mean_error_pct']
    assert 'unseen_mean_error_pct' not in results['classification']['robust_alone']['corruption']


def test_tables_and_heat_map_say_what_was_seen(results):
    line = 'robust_from_deit saw fog in training: its mean over Corruption is no test of these.'
    assert seen_notes(results) == [line]
    table = corruption_table(results, 'corruption')
    assert line in table.notes
    column = [column.note for column in table.columns].index('without seen kinds')
    assert [row[column].text for row in table.groups[0]] == ['–', '35.8']
    texts = [text.get_text() for text in draw_heat_map(results, 'corruption').axes[0].texts]
    assert [text for text in texts if text.endswith('*')] == ['80*']
    shown = [part for part in sections(results, ['heat_map_corruption']) if part.name == 'corruptions']
    assert 'A star marks kinds that the run saw in training.' in str(shown)


def test_of_a_student_that_saw_no_kind_of_the_benchmark_nothing_is_said(tmp_path):
    results = make_results(tmp_path, ('robust_alone', 'robust_from_deit'))
    results['runs']['robust_from_deit']['seen_kinds'] = ['speckle_noise', 'augmix']
    derive(results, tmp_path)
    assert 'unseen_mean_error_pct' not in results['classification']['robust_from_deit']['corruption']
    assert seen_notes(results) == []
