"""Calls one after another in a process, as cells of a notebook: each as if it were the first."""

import logging
from pathlib import Path

import pytest
import torch
from api_runs import ALONE, SHORT, assert_same
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

import distill

DETECTOR = 'cascade-rcnn_robust-resnet-dw_fpn_tiny_shapes-coco'
SEGMENTER = 'deeplabv3_robust-resnet-dw_tiny_shapes-ade20k'


@HOOKS.register_module()
class StopInTheMiddle(Hook):
    """What a user does who stops a cell, or whose code fails."""

    def __init__(self, error: str):
        self.error = {'KeyboardInterrupt': KeyboardInterrupt, 'RuntimeError': RuntimeError}[error]

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 5:
            raise self.error('stopped')


@pytest.mark.parametrize('error', ['KeyboardInterrupt', 'RuntimeError'])
def test_a_call_after_one_that_was_stopped_is_as_if_it_were_the_first(trained_by_command, shapes, tmp_path, error):
    stop = dict(type='StopInTheMiddle', error=error)
    with pytest.raises((KeyboardInterrupt, RuntimeError), match='stopped'):
        distill.train(ALONE, shapes, tmp_path / 'stopped', custom_hooks=[stop], **{**SHORT, 'num_workers': 1})
    again = distill.train(ALONE, shapes, tmp_path / 'again', **SHORT)
    assert_same(again.student_best, trained_by_command / 'student_best.pth')
    resumed = distill.train(ALONE, shapes, tmp_path / 'stopped', resume=True, **SHORT)
    assert_same(resumed.student_best, trained_by_command / 'student_best.pth')


def test_the_log_of_a_second_run_has_its_own_lines_once(shapes, tmp_path, capsys):
    for number in range(2):
        capsys.readouterr()
        distill.train(ALONE, shapes, tmp_path / str(number), **SHORT)
        shown = capsys.readouterr().out.splitlines()
        assert sum('Epoch(train) [2]' in line for line in shown) == 1
        # A notebook shows what happens; the environment and the config are in the file.
        assert 5 < len(shown) < 20
        (log,) = (tmp_path / str(number)).glob('*/*.log')
        text = log.read_text()
        assert text.count('Epoch(train) [2]') == 1
        assert 'param_scheduler' in text
        assert str(tmp_path / str(1 - number)) not in text
    assert logging.getLogger().handlers == [] or all('mmengine' not in str(one) for one in logging.getLogger().handlers)


@pytest.fixture(scope='session')
def scenes(tmp_path_factory) -> Path:
    """Eight training and four validation scenes of 64 pixels in both layouts."""
    pytest.importorskip('mmdet')
    pytest.importorskip('mmseg')
    from distill.synthetic.ade20k import write_ade20k
    from distill.synthetic.coco import write_coco

    root = tmp_path_factory.mktemp('scenes')
    for write, name in ((write_coco, 'coco'), (write_ade20k, 'ade20k')):
        write(root / name, size=64, train=8, val=4)
    return root


@pytest.mark.slow
def test_students_detectors_and_segmenters_in_any_order(scenes, shapes, trained_by_command, run_tool, tmp_path):
    """Bit for bit what each command makes in a process of its own, whatever has run before."""
    tiny = dict(batch_size=4, num_workers=0, train_cfg=dict(val_interval=2))
    tasks = {
        'det': (DETECTOR, scenes / 'coco', dict(tiny, epochs=2)),
        'seg': (SEGMENTER, scenes / 'ade20k', dict(tiny, iters=2)),
    }
    expected = {}
    for task, (config, data, _) in tasks.items():
        length = 'epochs=2' if task == 'det' else 'iters=2'
        options = ['batch_size=4', 'num_workers=0', 'train_cfg.val_interval=2', length]
        done = run_tool('train.py', config, '--data-root', data, '--work-dir', tmp_path / task, '--cfg-options',
                        *options)  # fmt: skip
        assert done.returncode == 0, done.stderr
        expected[task] = tmp_path / task / ('epoch_2.pth' if task == 'det' else 'iter_2.pth')
    for number, task in enumerate(('det', 'student', 'seg', 'det', 'student', 'seg')):
        work_dir = tmp_path / f'{number}_{task}'
        if task == 'student':
            result = distill.train(ALONE, shapes, work_dir, **SHORT)
            assert_same(result.student_best, trained_by_command / 'student_best.pth')
            distill.evaluate(result.student(), shapes, 'clean', progress=False)
            continue
        config, data, settings = tasks[task]
        result = distill.train(config, data, work_dir, **settings)
        assert result.student_best is None
        assert any(name.endswith(('bbox_mAP', 'mIoU')) for name in result.scores)
        assert result.history
        found, wanted = (
            torch.load(path, weights_only=True)['state_dict'] for path in (result.checkpoint, expected[task])
        )
        assert_same(found, wanted)
        tested = distill.run_test(config, 'auto', data, work_dir, num_workers=0)
        assert set(tested.scores) & {'bbox_mAP', 'mIoU'}
