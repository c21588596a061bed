"""The ledger: chains from a teacher to artefacts, computed from invented results."""

import json

import numpy as np
import pytest
from report_results import make_results, run_entry, save, suite_entries

from distill.base.records import Cell
from distill.report.ledger import Change, chains, ledger_sentences, ledger_table, losses, measures
from distill.report.ledger_entries import ledger_entries
from distill.report.ledger_scenes import scene_ledger_sentences, scene_ledger_table
from distill.report.plots_ledger import draw_ledger, spread
from distill.report.scene_changes import artefact_changes, student_changes
from distill.report.scores import transfers
from distill.report.write import write_report
from distill.results.per_image import Regions, per_image_file, write_per_image
from distill.results.schema import validate
from distill.results.statistics import Score

STUDENT = 'robust_from_deit'


def add_artefact(results: dict, name: str, engine: str, precision: str, lost: float, source: str = STUDENT) -> None:
    """An artefact of a student, and its comparison with the student: so many points lost on each suite."""
    run = run_entry(source)
    artefact = {'engine': engine, 'precision': precision, 'weights_sha256': run['weights_sha256']}
    results['runs'][name] = {**run, 'teacher': None, 'weights_sha256': 'a' * 64, 'artefact': artefact}
    suites = suite_entries(source)
    for suite, entry in suites.items():
        entry['top1_pct'] -= lost
        if suite == 'corruption':
            entry['cells'] = {kind: [value - lost for value in row] for kind, row in entry['cells'].items()}
            entry['mean_error_pct'] += lost
        paired = {'difference_pct': -lost, 'ci95_pct': [-lost - 0.5, -lost + 0.5], 'agreement_pct': 99, 'images': 500}
        for other in (source, 'fp32'):
            if other in results['runs'] and other != name:
                results.setdefault('comparisons', []).append({'a': name, 'b': other, 'suite': suite, **paired})
    results['classification'][name] = suites


@pytest.fixture
def results(tmp_path):
    found = make_results(tmp_path)
    add_artefact(found, 'fp32', 'onnx', 'fp32', 0.0)
    add_artefact(found, 'int8', 'onnx', 'int8', 3.0)
    add_artefact(found, 'half', 'onnx', 'fp16', 0.0)
    add_artefact(found, 'other', 'openvino', 'fp32', 0.0, source='deit_alone')
    validate(found)
    return found


def test_a_chain_for_each_artefact_that_no_other_is_made_of(results):
    found = [[stage.run for stage in chain.stages] for chain in chains(results)]
    start = ['deit_teacher', STUDENT, 'fp32']
    assert found == [[*start, 'int8'], [*start, 'half'], ['deit_alone', 'other']]
    assert [chain.alone and chain.alone.run for chain in chains(results)] == ['robust_alone', 'robust_alone', None]
    # An artefact has its student's architecture, and is neither a student nor a baseline.
    assert {pair.reference for pair in transfers(results)} == {'robust_alone', 'deit_alone'}


def test_torchs_own_program_is_the_deployed_stage(results):
    add_artefact(results, 'program', 'torch', 'fp32', 0.0)
    assert [stage.name for stage in chains(results)[0].stages] == [
        'teacher',
        'student distilled',
        'deployed',
        'onnx fp32',
        'onnx int8',
    ]


def test_the_sentence_names_the_links_that_lose(results):
    int8, half, other = ledger_sentences(results)
    assert 'goes from 65.8 to 55.0 %' in int8
    assert 'Most is lost from teacher to student distilled: 7.8 points' in int8
    assert 'also from onnx fp32 to onnx int8: 3.0 points (95 % interval 2.8 to 3.2)' in int8
    assert 'no other link loses measurably. Shift by shift most is lost from teacher to student distilled on ' in half
    assert half.endswith(', sketch (6.4 points), adversarial (8.7 points).')
    stages = chains(results)[0].stages[:2]
    assert losses([Change(*stages, 'clean', Score(-0.04, -0.05, -0.01))]) == []
    assert len(losses([Change(*stages, 'clean', Score(-0.06, -0.08, -0.01))])) == 1
    assert other == 'From deit_alone to other mean OOD accuracy goes from 53.2 to 53.2 %; no link loses measurably.'


def test_each_stage_is_compared_with_the_one_before_it(results):
    table = ledger_table(results)
    teacher, alone, student, fp32, int8 = table.groups[0]
    assert [row[0].note for row in table.groups[0]][1:3] == ['student alone', 'student distilled']
    assert (teacher[1].note, alone[1].note) == ('', '')
    assert student[1].text == '92.2'
    assert student[1].note.startswith('−4.2 [')
    assert fp32[-1].note.startswith('0.0 [')
    assert (int8[1].text, int8[1].note, int8[1].mark) == ('89.2', '−3.0 [−3.5 to −2.5]', 'loss')


def test_the_figure_has_a_panel_a_chain_and_labels_that_do_not_touch(results):
    assert len(draw_ledger(results).axes) == 3
    assert draw_ledger({'schema_version': 1}) is None
    assert spread([50.0, 50.0, 10.0], 4.0) == [48.0, 52.0, 10.0]
    heights = spread([50.0, 53.0, 47.5, 49.0], 4.0)
    assert all(round(above - below, 6) >= 4 for below, above in zip(sorted(heights), sorted(heights)[1:], strict=False))


def test_a_segmenter_and_its_artefact_are_compared_on_the_same_images(results, tmp_path):
    union = np.full((30, 2), 100)
    for folder, share in (('model', 60), ('artefact', 50)):
        for cell in (None, Cell('fog', 2)):
            lost = 20 if cell else 0
            record = Regions(np.arange(30).astype(str), np.full((30, 2), share - lost), union)
            write_per_image(per_image_file(tmp_path / folder, cell), record)
    under = {'kinds': ['fog'], 'severities': [2], 'images': 30}
    common = {'images': 30, 'config': 'a.py', 'backbone': STUDENT}
    model, artefact = (
        common
        | {'mIoU': miou, 'checkpoint': f'{name}.pth', 'per_image': f'{name}/per_image', 'weights_sha256': digit * 64}
        | {'corruption': under | {'mIoU': {'P': miou, 'mPC': miou - 0.2, 'rPC_pct': 60.0, 'cells': {}}}}
        for name, miou, digit in (('model', 0.6, 'b'), ('artefact', 0.5, 'c'))
    )
    artefact['artefact'] = {'engine': 'onnx', 'precision': 'int8', 'weights_sha256': 'b' * 64}
    results['segmentation'] = model | {'others': [artefact]}
    results['artefact_changes'] = artefact_changes(results, tmp_path)
    validate(results)
    assert [(one['score'], round(one['difference_points'], 9)) for one in results['artefact_changes']] == [
        ('P', -10),
        ('mPC', -10),
    ]
    backbone, segmenter, int8 = scene_ledger_table(results).groups[0]
    # The second severity of fog, of the student's cells.
    assert [cell.text for cell in backbone] == [STUDENT, 'backbone', 'top-1', '92.2', '69.2', '75.1']
    assert [cell.text for cell in segmenter[:5]] == ['model.pth', 'segmenter', 'mIoU', '60.0', '40.0']
    assert (int8[1].text, int8[4].note, int8[4].mark) == ('onnx int8', '−10.0 [−10.0 to −10.0]', 'loss')
    assert scene_ledger_sentences(results) == [
        'From model.pth to artefact.pth mIoU under corruption goes from 40.0 to 30.0 %. Most is lost from segmenter to '
        'onnx int8: 10.0 points (95 % interval 10.0 to 10.0); no other link loses measurably. Under the same '
        f'corruptions its backbone {STUDENT} keeps 75.1 % of its clean top-1, and the segmenter 60.0 % of its clean '
        'mIoU.'
    ]
    segmenter_panel = draw_ledger(results).axes[-1]
    assert [text.get_text() for text in segmenter_panel.get_xticklabels()] == ['backbone', 'segmenter', 'onnx\nint8']
    assert [text.get_text() for text in segmenter_panel.texts] == ['clean 50.0', 'corrupted 30.0', 'kept 60.0']
    entry = ledger_entries(results)[-1]
    assert entry['backbone'] == STUDENT
    assert [stage['stage'] for stage in entry['stages']] == ['segmenter', 'onnx int8']
    assert entry['most_lost'] == entry['links'][1]
    assert (entry['most_lost']['measure'], round(entry['most_lost']['difference_points'], 9)) == ('mPC', -10)


def test_the_ledger_goes_into_the_results_that_lie_beside_the_report(results, tmp_path):
    folder, other = tmp_path / 'one', tmp_path / 'two'
    save(folder, results)
    found, paths = write_report([folder], folder)
    assert json.loads(paths['results'].read_text())['ledger'] == found['ledger'] == ledger_entries(results)
    int8 = found['ledger'][0]
    assert [stage['run'] for stage in int8['stages']] == ['deit_teacher', STUDENT, 'fp32', 'int8']
    assert (int8['alone'], int8['most_lost']['after']) == ('robust_alone', STUDENT)
    assert {one['measure'] for one in int8['links']} == {*measures(results)}
    before = (folder / 'results.json').read_bytes()
    write_report([folder], other)
    write_report([folder], folder)
    assert (folder / 'results.json').read_bytes() == before
    assert not (other / 'results.json').exists()
    merged, _ = write_report([folder, folder], other)
    assert merged['ledger'] == found['ledger']


def test_int8_is_a_link_after_the_fp32_file_of_its_engine(tmp_path):
    union = np.full((30, 2), 100)

    def entry(name: str, share: int, digit: str, **more: object) -> dict:
        write_per_image(
            per_image_file(tmp_path / name), Regions(np.arange(30).astype(str), union * share // 100, union)
        )
        common = {
            'images': 30,
            'config': 'a.py',
            'backbone': 'b',
            'mIoU': share / 100,
            'per_image': f'{name}/per_image',
        }
        return {**common, 'checkpoint': name, 'weights_sha256': digit * 64, **more}

    made = [{'engine': 'onnx', 'precision': kind, 'weights_sha256': 'a' * 64} for kind in ('int8', 'fp32')]
    others = [entry('small.onnx', 40, 'b', artefact=made[0]), entry('full.onnx', 50, 'c', artefact=made[1])]
    results = {'schema_version': 1, 'segmentation': entry('model.pth', 60, 'a') | {'others': others}}
    results['artefact_changes'] = artefact_changes(results, tmp_path)
    validate(results)
    links = [
        (one['before'], one['after'], round(one['difference_points'])) for one in ledger_entries(results)[0]['links']
    ]
    assert links == [('model.pth', 'full.onnx', -10), ('full.onnx', 'small.onnx', -10)]
    (sentence,) = scene_ledger_sentences(results)
    assert 'mIoU on clean images goes from 60.0 to 40.0 %. Most is lost from ' in sentence
    # What each image shows is found from a folder of the report that is yet to be made, too.
    save(tmp_path, {key: value for key, value in results.items() if key != 'artefact_changes'})
    found, _ = write_report([tmp_path], tmp_path / 'new')
    assert [one['measure'] for one in found['ledger'][0]['links']] == ['P', 'P']
    results['artefact_changes'] = results['artefact_changes'][:1]
    assert 'were not all compared' in scene_ledger_sentences(results)[0]


def test_a_taught_segmenter_stands_between_its_teacher_and_its_artefact(tmp_path):
    union = np.full((30, 2), 100)

    def entry(name: str, share: int, digit: str, **more: object) -> dict:
        for cell, lost in ((None, 0), (Cell('fog', 2), 20)):
            record = Regions(np.arange(30).astype(str), np.full((30, 2), share - lost), union)
            write_per_image(per_image_file(tmp_path / name, cell), record)
        clean, kept = share / 100, 100 * (share - 20) / share
        under = {'P': clean, 'mPC': clean - 0.2, 'rPC_pct': kept, 'cells': {}}
        return {
            'mIoU': clean,
            'images': 30,
            'config': 'student.py',
            'backbone': 'small (from scratch)',
            'checkpoint': f'runs/{name}/student_last.pth',
            'weights_sha256': digit * 64,
            'per_image': f'{name}/per_image',
            'corruption': {'kinds': ['fog'], 'severities': [2], 'images': 30, 'mIoU': under},
            **more,
        }

    by = {'teacher': {'checkpoint': 'elsewhere.pth', 'weights_sha256': 'a' * 64}}
    results = {
        'schema_version': 1,
        'segmentation': entry('teacher', 80, 'a', config='teacher.py', seed=0)
        | {
            'others': [
                entry('alone_s0', 50, 'b', seed=0),
                entry('alone_s1', 52, 'c', seed=1),
                entry('taught_s1', 60, 'd', seed=1, **by),
                entry('int8', 55, 'e', artefact={'engine': 'onnx', 'precision': 'int8', 'weights_sha256': 'd' * 64}),
                entry('of_another', 40, 'f', seed=0, teacher={'checkpoint': 'x', 'weights_sha256': '0' * 64}),
            ]
        },
    }
    results['student_changes'] = student_changes(results, tmp_path)
    results['artefact_changes'] = artefact_changes(results, tmp_path)
    validate(results)
    whole, unknown = scene_ledger_table(results).groups
    assert [[cell.text for cell in row[:4]] for row in whole] == [
        ['teacher', 'teacher', 'mIoU', '80.0'],
        ['alone_s1', 'student alone', 'mIoU', '52.0'],
        ['taught_s1', 'student distilled', 'mIoU', '60.0'],
        ['int8', 'onnx int8', 'mIoU', '55.0'],
    ]
    assert draw_ledger(results).axes[0].get_title() == 'teacher  →\nint8'
    assert [row[4].note for row in whole] == ['', '', '−20.0 [−20.0 to −20.0]', '−5.0 [−5.0 to −5.0]']
    assert [(row[1].text, row[3].note) for row in unknown] == [('student alone', ''), ('student distilled', '')]
