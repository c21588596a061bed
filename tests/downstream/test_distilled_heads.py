"""Runs in which the heads of a detector and of a segmenter learn from those of a teacher."""

import json

import pytest
import torch
from distilled_runs import TEACHERS, save_teacher, write_config
from downstream_runs import FOLDER, options

from distill.cli.train import main as train

HEADS = {
    'det': [
        dict(type='rpn', weight=0.5),
        dict(type='roi', temperature=2.0, schedule=((0, 0.5), (2, 1.0))),
        dict(type='roi', class_loss='dkd', boxes=0.0, stages=(0,)),
        dict(type='crosskd_roi'),
    ],
    'seg': [
        dict(type='pixel_kl', on='logits'),
        dict(type='cwd', on='logits', weight=3.0),
        dict(type='skd_pairwise', on='head', weight=0.5),
        dict(type='dist', on='logits', auxiliary=0.0),
    ],
}
TERMS = {
    'det': {
        f'loss_{kind}_{part}_s{stage}'
        for kind in ('roi', 'crosskd_roi')
        for part in ('classes', 'boxes')
        for stage in range(3)
    }
    | {'loss_rpn_objectness', 'loss_rpn_boxes', 'loss_roi_classes_s0_2'},
    'seg': {f'loss_{kind}_{head}' for kind in ('pixel_kl', 'cwd', 'skd_pairwise') for head in ('decode', 'aux')}
    | {'loss_dist_decode'},
}


@pytest.mark.parametrize('task', HEADS)
def test_a_run_whose_heads_learn(task, data, tmp_path):
    teacher = save_teacher(FOLDER / TEACHERS[task], tmp_path / 'teacher.pth')
    more = "visualizer = dict(vis_backends=[dict(type='LocalVisBackend')])\n"
    config = write_config(task, tmp_path, teacher, HEADS[task], more)
    folder, work_dir = data / ('ade20k' if task == 'seg' else 'coco'), tmp_path / 'run'
    settings = [word for word in options(task, 2, 'default_hooks.logger.interval=1') if 'vis_backends' not in word]
    line = [str(config), '--data-root', str(folder), '--work-dir', str(work_dir), *settings]
    assert train(line) == 0
    (log,) = work_dir.glob('*/vis_data/scalars.json')
    steps = [json.loads(step) for step in log.read_text().splitlines()]
    steps = [step for step in steps if 'loss' in step]
    assert len(steps) > 1
    for step in steps:
        own = {name: value for name, value in step.items() if name.startswith('distill.')}
        assert {name.removeprefix('distill.') for name in own} == TERMS[task]
        assert all(0 < value < 100 for value in own.values()), own
    saved = torch.load(work_dir / 'student_last.pth', weights_only=True)['state_dict']
    assert not [name for name in saved if 'distill' in name]
