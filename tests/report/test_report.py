"""The contents of the report: intervals, differences and tables by hand, the schema, and merging."""

import hashlib
import json
import math
import re

import pytest
from report_results import CNN, RUNS, enrich, make_results, put, run_entry, save

from distill.report.collect import collect
from distill.report.contents import sample_galleries, sections
from distill.report.fingerprint import problem_table
from distill.report.headline import default_title, three_sentences
from distill.report.scores import (
    Fit,
    ood_difference,
    ood_score,
    shape_bias,
    suite_difference,
    suite_fit,
    transfers,
    wilson_score,
)
from distill.report.tables import summary_table, transfer_table
from distill.report.tables_metrics import metric_tables
from distill.report.write import write_report
from distill.results.schema import SECTIONS, validate


def texts(row: list) -> list[str]:
    return [cell.text for cell in row]


def headline_text(results: dict) -> str:
    return ' '.join(getattr(block, 'text', '') for block in sections(results, ())[0].blocks)


# Numbers


def test_intervals_equal_published_ones():
    # Newcombe, Statistics in Medicine 17 (1998): 81/263 from pp. 857-872, 56/70 - 48/80 by method 10 from pp. 873-890.
    score = wilson_score(100 * 81 / 263, 263)
    assert (score.low, score.high) == pytest.approx((25.53, 36.62), abs=0.01)
    change = wilson_score(80, 70) - wilson_score(60, 80)
    assert (change.value, change.low, change.high) == pytest.approx((20, 5.24, 33.39), abs=0.01)
    assert change.sign == 1
    assert (wilson_score(60, 80) - wilson_score(61, 80)).sign == 0
    assert wilson_score(0, 10).low == 0
    assert wilson_score(100, 10).high == 100


def test_transfer_table_by_hand(tmp_path):
    table = transfer_table(make_results(tmp_path))
    cnn, vit = table.groups
    assert texts(cnn[0]) == ['deit_teacher', '96.4', '58.2', '71.0', '80.3', '66.8', '52.7', '65.8', '61.0']
    assert texts(cnn[1])[0] == 'robust_alone'
    assert texts(cnn[2])[0] == 'robust_from_deit'
    # 92.2 - 91.0, 46.6 - 38.0, ...; OOD: 290.1 / 5 - 265.0 / 5 = 5.02
    assert texts(cnn[3]) == ['transferred', '+1.2', '+8.6', '+3.7', '+4.9', '+5.2', '+2.7', '+5.0', '+8.5']
    assert [cell.mark for cell in cnn[3]] == ['', '', 'gain', '', '', '', '', 'gain', '']
    assert texts(vit[3]) == ['transferred', '+0.8', '−0.6', '+1.1', '+0.6', '−1.8', '−0.7', '−0.3', '−0.9']
    assert not any(cell.mark for cell in vit[3])


def test_summary_marks_the_best_and_warns_of_uneven_counts(tmp_path):
    results = make_results(tmp_path)
    results['classification']['deit_alone']['sketch']['images'] = 400
    del results['classification']['robust_alone']['adversarial']
    table = summary_table(results)
    best = {
        column.label: [row[0].text for row in table.groups[0] if row[i].mark == 'best']
        for i, column in enumerate(table.columns)
    }
    assert best['Stylized'] == best['Shape bias'] == ['deit_teacher']
    assert any('Sketch has different image counts' in note for note in table.notes)
    for run, data in (('deit_alone', 'aa'), ('robust_alone', 'bb')):
        results['classification'][run]['stylized']['fingerprint'] = {'data': data}
        results['classification'][run]['corruption']['frost'] = data
    notes = ' '.join(summary_table(results).notes)
    assert 'Stylized has different images' in notes
    assert 'Corruption has different frost (robust_alone bb, deit_alone aa)' in notes
    # No mean over fewer suites than the others have.
    assert ood_score(results, 'robust_alone') is None
    assert ood_score(results, 'deit_alone').value == pytest.approx(53.2)


def test_reference_is_the_same_model_that_teaches_nobody(tmp_path):
    runs = {name: run_entry(name) for name in RUNS}
    runs['robust_teacher'] |= {'model_kwargs': CNN[1]}
    by_student = {pair.student: pair for pair in transfers({'runs': runs})}
    assert by_student['robust_from_deit'].reference == 'robust_alone'
    del runs['robust_alone']
    assert transfers({'runs': runs})[0].reference == 'robust_teacher'
    runs['robust_from_deit']['model_kwargs'] = {'dims': [1, 2, 3, 4]}
    assert transfers({'runs': runs})[0].reference is None


def test_students_of_several_teachers_have_one_reference_and_the_headline_counts_each():
    scores = dict(deit_teacher=50, broad_teacher=90, robust_alone=60, robust_from_deit=50, robust_from_broad=80)
    runs = {name: run_entry(name if name in RUNS else 'robust_from_deit') for name in scores}
    runs['broad_teacher'] |= {'model_kwargs': {'dims': [9, 9, 9, 9]}, 'teacher': None}
    runs['robust_from_broad'] |= {'teacher': 'broad_teacher'}
    results = {
        'runs': runs,
        'classification': {name: {'sketch': {'top1_pct': top1, 'images': 1000}} for name, top1 in scores.items()},
    }
    pairs = {pair.student: (pair.teacher, pair.reference) for pair in transfers(results)}
    assert pairs == {
        'robust_from_deit': ('deit_teacher', 'robust_alone'),
        'robust_from_broad': ('broad_teacher', 'robust_alone'),
    }
    verdict, telling, _ = three_sentences(results)
    assert 'passed on in 1 of 2 distillations (broad_teacher → robust_from_broad +20.0 points)' in verdict
    assert 'lost in 1 (deit_teacher → robust_from_deit −10.0 points)' in verdict
    assert telling.startswith('Distilling broad_teacher into robust_from_broad: mean OOD accuracy rose by 20.0 points')
    text = headline_text(results)
    assert text.count('Distilling broad_teacher') == text.count('Distilling deit_teacher') == 1


@pytest.mark.parametrize(
    ('clean_gain', 'words'),
    [
        (10, ('in 1 of 1 distillations', 'rose by 10.0 points', 'led by 20.0 points; 50 % of that')),
        (-10, ('in 0 of 1 distillations, and measurably lost', 'fell by 10.0 points', 'none of that')),
        (0, ('in 0 of 1 distillations.', 'changed by 0.0 points, not distinguishable')),
    ],
)
def test_headline_says_what_the_numbers_say(clean_gain, words):
    names = ('deit_teacher', 'robust_alone', 'robust_from_deit')
    scores = (60, 40, 40 + clean_gain)
    results = {
        'runs': {name: run_entry(name) for name in names},
        'classification': {
            name: {'sketch': {'top1_pct': score, 'images': 1000}} for name, score in zip(names, scores, strict=True)
        },
    }
    text = headline_text(results)
    for word in words:
        assert word in text


def test_clean_accuracy_alone_claims_no_robustness(tmp_path):
    results = make_results(tmp_path, ('deit_teacher', 'robust_alone', 'robust_from_deit'), ('clean',))
    assert texts(transfer_table(results).groups[0][3]) == ['transferred', '+1.2']
    reason = 'Student and reference were not both judged on all shifted suites: no OOD mean to compare.'
    assert reason in headline_text(results)


def test_paired_comparisons_take_the_place_of_independent_intervals(tmp_path):
    results = enrich(make_results(tmp_path), tmp_path)
    change = suite_difference(results, 'robust_from_deit', 'robust_alone', 'stylized')
    assert (change.value, change.low, change.high) == (8.6, 6.6, 10.5)  # The other way round in the file.
    assert transfer_table(results).groups[0][3][2].note == '+6.6 to +10.5'
    # Newcombe's interval from the file's own ±4 of either run: √32 on both sides.
    change = suite_difference(results, 'robust_from_deit', 'robust_alone', 'sketch')
    assert (change.low, change.high) == pytest.approx((5.2 - 32**0.5, 5.2 + 32**0.5))
    assert ood_difference(results, 'robust_from_deit', 'robust_alone').value == pytest.approx(5.02)


def test_fit_is_linear_between_logits(tmp_path):
    results = make_results(tmp_path)
    runs = list(results['classification'])
    for run, clean in zip(runs, (50, 80, 90, 95, 20, 60), strict=True):
        odds = (clean / (100 - clean)) ** 0.5 / 2  # Half the slope, and ln 2 less.
        results['classification'][run]['clean']['top1_pct'] = clean
        results['classification'][run]['sketch']['top1_pct'] = 100 * odds / (1 + odds)
        results['classification'][run]['adversarial'] = {'top1_pct': 0, 'images': 500}
    fit = suite_fit(results, 'sketch')
    assert (fit.slope, fit.intercept) == pytest.approx((0.5, -math.log(2)))
    assert not fit.baseline
    assert suite_fit(results, 'adversarial') is None  # 0 % has no logit.
    for run in runs[2:]:
        del results['classification'][run]['sketch']
    assert suite_fit(results, 'sketch') is None  # Two runs.
    results['baseline_fit'] = {'sketch': {'slope': 1.0, 'intercept': 0.0, 'space': 'logit', 'runs': ['resnet50']}}
    assert suite_fit(results, 'sketch') == Fit(1.0, 0.0, ('resnet50',), baseline=True)


def test_shape_bias_is_of_the_cue_conflict_set_where_there_is_one(tmp_path):
    results = make_results(tmp_path)
    assert shape_bias(results, 'deit_alone') == 45.0
    results['classification']['deit_alone']['cue_conflict'] = {'top1_pct': 50, 'images': 9, 'shape_bias_pct': 22.0}
    assert shape_bias(results, 'deit_alone') == 22.0
    assert shape_bias(results, 'robust_alone') is None


def test_metric_tables_by_hand(tmp_path):
    results = enrich(make_results(tmp_path), tmp_path)
    tables = metric_tables(results)
    (errors,) = tables['corruptions']
    assert texts(errors.groups[0][0]) == ['deit_teacher', '29.0', '50.0', '60.0', '500', 'on-the-fly']
    assert [cell.mark for cell in errors.groups[0][0]] == ['', 'best', 'best', 'best', '', '']
    assert [column.note for column in errors.columns[1:4]] == ['unnormalised', '÷ AlexNet', '÷ AlexNet']
    (robustness,) = tables['shift']
    assert texts(robustness.groups[0][4]) == ['deit_alone'] + ['−1.0'] * 5
    assert texts(tables['calibration'][0].groups[0][1]) == ['robust_teacher'] + ['3.0'] * 6
    ahead, agreed = tables['comparisons']
    assert texts(ahead.groups[0][0]) == ['robust_alone', 'robust_from_deit', '−8.6']
    assert ahead.groups[0][0][2].mark == 'loss'
    assert texts(agreed.groups[0][0]) == ['robust_alone', 'robust_from_deit', '71.0']


def test_problems_of_several_runs_are_one_row(tmp_path):
    results = enrich(make_results(tmp_path), tmp_path)
    results['classification']['deit_alone']['sketch']['problems']['nan_logits'] = 1_000
    results['unlabelled'] = {'deit_alone': {'photos': {'images': 9, 'problems': {'cmyk_images': 1}}}}
    assert [texts(row) for row in problem_table(results).groups[0]] == [
        ['Sketch', 'grayscale images', '3', ', '.join(RUNS)],
        ['Sketch', 'nan logits', '2', ', '.join(run for run in RUNS if run != 'deit_alone')],
        ['Sketch', 'nan logits', '1,000', 'deit_alone'],
        ['photos', 'cmyk images', '1', 'deit_alone'],
    ]


def test_samples_of_disagreement_come_first(tmp_path):
    results = make_results(tmp_path, ('deit_alone', 'robust_alone'))
    one = results['samples'][0]
    other = one['predictions'] | {'deit_alone': {'label': 'moon'}}
    results['samples'] = [
        {**one, 'image': 'agreed.png'},
        {**one, 'image': 'by_chance.png', 'predictions': other},
        {**one, 'image': 'chosen.png', 'predictions': other, 'disagreement': True},
    ]
    gallery = sample_galleries(results)[1]
    assert [picture.path for picture in gallery.pictures] == ['chosen.png', 'by_chance.png', 'agreed.png']


def test_without_a_student_the_headline_ranks(tmp_path):
    results = enrich(make_results(tmp_path, ('deit_teacher', 'robust_alone', 'deit_alone')), tmp_path)

    # OOD means by hand: 329 / 5, 265 / 5 and 266 / 5.
    best = 'deit_teacher has the highest mean OOD accuracy of 3 runs, 65.8 %, 12.6 points ahead of deit_alone'
    assert best in headline_text(results)
    assert default_title(results) == 'Robustness'
    del results['classification']['deit_teacher']
    text = headline_text(results)
    assert 'deit_alone has the highest mean OOD accuracy of 2 runs, 53.2 %, 0.2 points ahead' in text
    assert 'not distinguishable from zero here' in text


# Schema


def test_the_fixture_is_valid(tmp_path):
    results = enrich(make_results(tmp_path), tmp_path)
    validate(results)
    SECTIONS['explain'](results['explain'], 'explain')


@pytest.mark.parametrize(
    ('place', 'value', 'message'),
    [
        ('schema_version', 2, 'schema_version: expected 1, found 2'),
        ('runs.deit_alone.params', 'many', "params: expected a whole number of at least 1, found 'many'"),
        ('runs.deit_alone.mean', [0.5], 'runs.deit_alone.mean: expected a list of 3, found [0.5]'),
        ('runs.deit_alone.weights_sha256', 'abc', "weights_sha256: expected 64 hexadecimal digits, found 'abc'"),
        (
            'classification.deit_alone.clean.top1_pct',
            101,
            'deit_alone.clean.top1_pct: expected a number from 0 to 100, found 101',
        ),
        ('classification.deit_alone.clean.top1_pct', float('nan'), 'expected a number from 0 to 100, found nan'),
        (
            'classification.deit_alone.clean.images',
            True,
            'clean.images: expected a whole number of at least 1, found True',
        ),
        (
            'classification.deit_alone.corruption.top1_pct',
            70,
            'corruption.top1_pct: expected 61.00, the mean of the cells, found 70',
        ),
        ('classification.deit_alone.corruption.mean_error_pct', 61, 'mean_error_pct: expected 39.00, found 61'),
        ('classification.nobody', {}, "classification: expected a run listed under 'runs' (deit_teacher, "),
        ('detection.bbox_mAP', 41.2, 'detection.bbox_mAP: expected a number from -1 to 1, found 41.2'),
        ('segmentation', {'images': 1}, 'segmentation.mIoU: expected a value, found nothing'),
        (
            'samples.0.predictions.deit_alone',
            'star',
            "samples[0].predictions.deit_alone: expected an object, found 'star'",
        ),
    ],
)
def test_what_breaks_the_schema_is_named(tmp_path, place, value, message):
    results = make_results(tmp_path)
    put(results, place, value)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        validate(results, 'some/results.json')
    assert str(error.value).startswith('some/results.json: ')
    assert '\n' not in str(error.value)


# Merging


def test_merging_rewrites_paths_and_unites_samples(tmp_path):
    first, second, out = tmp_path / 'a', tmp_path / 'b', tmp_path / 'reports' / 'both'
    make_results(first, ('deit_teacher', 'robust_alone'), ('clean', 'stylized'))
    other = make_results(second, ('deit_teacher', 'robust_from_deit'), ('clean', 'stylized'))
    other['detection']['bbox_mAP'] = 0.3
    save(second, other)
    before = [(folder / 'results.json').read_bytes() for folder in (first, second)]
    _, paths = write_report([first, second], out)

    merged = json.loads(paths['results'].read_text())
    validate(merged)
    assert list(merged['runs']) == ['deit_teacher', 'robust_alone', 'robust_from_deit']
    assert merged['runs']['robust_from_deit']['checkpoint'] == '../../b/robust_from_deit/student_best.pth'
    assert [set(sample['predictions']) for sample in merged['samples']] == [set(merged['runs'])] * 2
    assert [sample['image'] for sample in merged['samples']] == ['../../a/samples/0.png', '../../a/samples/1.png']
    assert [entry['bbox_mAP'] for entry in merged['detection']['others']] == [0.3]
    assert (out / merged['detection']['others'][0]['pictures'][0]).is_file()
    assert len(merged['provenance']['merged_from']) == 2
    assert before == [(folder / 'results.json').read_bytes() for folder in (first, second)]
    assert 'missing picture' not in paths['html'].read_text()

    # A merged file reads like any other, and merging again may replace it, but nothing else.
    assert collect([out], out) == merged
    write_report([first, second], out)
    with pytest.raises(ValueError, match='is not overwritten; give another --out'):
        write_report([first, second])
    assert not (first / 'report.html').exists()


@pytest.mark.parametrize(
    ('place', 'value', 'message'),
    [
        ('runs.deit_alone.weights_sha256', 'f' * 64, "run 'deit_alone' has weights 1bd4a57"),
        ('runs.deit_alone.model', 'vit', "runs.deit_alone.model is 'deit_tiny_patch16_224' and 'vit'"),
        ('classification.deit_alone.clean.top1_pct', 12, 'clean.top1_pct is 89.6 and 12'),
        ('classification.deit_alone.corruption.source', 'disk', "corruption.source is 'on-the-fly' and 'disk'"),
    ],
)
def test_contradictions_are_refused(tmp_path, place, value, message):
    results = make_results(tmp_path / 'a', ('deit_alone',))
    put(results, place, value)
    save(tmp_path / 'b', results)
    expected = hashlib.sha256(b'deit_alone').hexdigest()[:7]
    with pytest.raises(ValueError, match=re.escape(message.replace('1bd4a57', expected))):
        collect([tmp_path / 'a', tmp_path / 'b'], tmp_path)


def test_comparisons_fits_and_explained_pairs_are_united(tmp_path):
    first = enrich(make_results(tmp_path / 'a'), tmp_path / 'a')
    second = enrich(make_results(tmp_path / 'b'), tmp_path / 'b')
    second['comparisons'].append({**second['comparisons'][0], 'suite': 'sketch'})
    second['baseline_fit']['stylized'] = second['baseline_fit']['sketch']
    for folder, results in (('a', first), ('b', second)):
        save(tmp_path / folder, results)
    merged = collect([tmp_path / 'a', tmp_path / 'b'], tmp_path)
    assert [entry['suite'] for entry in merged['comparisons']] == ['stylized', 'sketch']
    assert merged['baseline_fit'] == second['baseline_fit']
    assert [pair['figures']['cka'] for pair in merged['explain']] == ['a/explain/cka.png', 'b/explain/cka.png']
    second['baseline_fit']['sketch'] = {**second['baseline_fit']['sketch'], 'slope': 2.0}
    save(tmp_path / 'b', second)
    with pytest.raises(ValueError, match=r'baseline_fit.sketch.slope is 0.9 and 2.0'):
        collect([tmp_path / 'a', tmp_path / 'b'], tmp_path)
    second['explain'][0]['images'] = 0
    save(tmp_path / 'b', second)
    with pytest.raises(ValueError, match=r'explain\[0\].images: expected a whole number of at least 1, found 0'):
        collect([tmp_path / 'b'], tmp_path)


def test_sources_of_corruptions_are_never_mixed(tmp_path):
    results = make_results(tmp_path, ('deit_alone', 'robust_alone'))
    results['classification']['deit_alone']['corruption']['source'] = 'disk'
    save(tmp_path, results)
    with pytest.raises(ValueError, match=r"'disk' \(run 'deit_alone'\), 'on-the-fly' \(run 'robust_alone'\)"):
        collect([tmp_path], tmp_path)
