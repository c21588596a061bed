"""A transfer experiment over segmenters from end to end: two steps of training each, judged and compared."""

import importlib

import pytest
from downstream_runs import CONFIGS, FOLDER

from distill.matrix.collect import collect, to_markdown, to_tables
from distill.matrix.load import load_matrix
from distill.matrix.plan import evaluations, score_folders, trainings
from distill.report.collect import collect as merge
from distill.report.ledger_scenes import scene_ledger_table
from distill.report.scene_changes import student_changes

STUDENT = """
_base_ = '{base}'
train_dataloader = dict(batch_size=2)
default_hooks = dict(logger=dict(interval=1))
param_scheduler = []
"""
MATRIX = """
data_root = '{data}'
students = dict(cnn='student.py')
teachers = dict(big=dict(config='teacher.py'))
losses = dict(both=[dict(type='cwd', on='head'), dict(type='cwd', on='logits', temperature=4.0)])
corruptions = dict(augmix=dict(kinds=('augmix',)))
seeds = (0,)
iters = 2
robustness = ('--corruptions', 'gaussian_noise', '--severities', '3')
"""


@pytest.mark.slow
def test_an_experiment_of_two_steps_a_run(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, base in (('student', CONFIGS['seg']), ('teacher', 'deeplabv3/deeplabv3_resnet_tiny_shapes-ade20k.py')):
        (tmp_path / f'{name}.py').write_text(STUDENT.format(base=FOLDER / base))
    (tmp_path / 'matrix.py').write_text(MATRIX.format(data=data / 'ade20k'))
    plan = load_matrix('matrix.py', work_dir='work')
    steps = trainings(plan)
    assert [step.name.removesuffix('_s0') for step in steps] == [
        'big_alone',
        'cnn_alone',
        'cnn_alone_augmix',
        'cnn_from_big_both',
        'cnn_from_big_both_augmix',
    ]
    for step in [*steps, *evaluations(plan, [*plan.alone(), *plan.taught()])]:
        assert importlib.import_module(f'distill.cli.{step.command[0]}').main(step.command[1:]) == 0, step.name
    summary = collect(plan, {})
    groups = summary['groups']
    assert list(groups) == [step.name.removesuffix('_s0') for step in steps]
    assert summary['suites'] == ['mIoU', 'mIoU mPC', 'mIoU rPC']
    assert all(group['step_s'] > 0 for group in groups.values())
    taught = summary['transferred']['cnn_from_big_both_augmix']
    for at in ('equal_epochs', 'same_corruption'):
        for suite in ('mIoU', 'mIoU mPC'):
            low, high = taught[at][suite]['images95']
            assert -100 <= low <= high <= 100
    assert '## By the corruption alone' in to_markdown(to_tables(summary))
    results = merge(score_folders(plan, [*plan.alone(), *plan.taught()]), plan.work_dir)
    results['student_changes'] = student_changes(results, plan.work_dir)
    clean, corrupted = scene_ledger_table(results).groups
    for group, student in ((clean, 'cnn_from_big_both_s0'), (corrupted, 'cnn_from_big_both_augmix_s0')):
        assert [(row[0].text, row[1].text) for row in group] == [
            ('big_alone_s0', 'teacher'),
            ('cnn_alone_s0', 'student alone'),
            (student, 'student distilled'),
        ]
        assert all(' to ' in cell.note for cell in group[2][3:5])
