"""Two processes make the steps of one process with twice the batch."""

from pathlib import Path

import pytest
import torch
from processes import run_two
from small_runs import CONFIGS, SHORT, STEPWISE, TINY

from distill.cli.cache import main as cache_teacher
from distill.cli.train import main as train

FIRST_STEP = [*SHORT[1:], *STEPWISE, 'train_cfg.max_epochs=1', 'model.student.drop_path_rate=0']
FIRST_STEP += ['model.data_preprocessor.mixup.mode=pair', 'param_scheduler=None']
FIRST_STEP += ['optim_wrapper.optimizer.type=SGD', 'optim_wrapper.optimizer.lr=0.1']


def assert_same_first_step(alone: Path, two: Path) -> None:
    """And that it is a step."""
    first, second = (torch.load(alone / f'iter_{n}.pth', weights_only=True)['state_dict'] for n in (1, 2))
    assert max((second[key] - value).abs().max() for key, value in first.items()) > 1e-3
    of_two = torch.load(two / 'iter_1.pth', weights_only=True)['state_dict']
    for key, value in first.items():
        torch.testing.assert_close(of_two[key], value, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_two_processes_make_the_first_step_of_one_with_twice_the_batch(shapes, trained, tmp_path):
    """With a teacher and from its cache. The student has no batch norm, whose statistics are each process's own."""
    command = [str(CONFIGS / 'robust-resnet-mini_deit-tiny_shapes.py'), '--data-root', str(shapes)]
    options = [*FIRST_STEP, f'model.teacher.checkpoint={trained / "student_best.pth"}']
    cache = tmp_path / 'cache'
    assert cache_teacher([*command, '--out', str(cache), '--dtype', 'float32', '--cfg-options', *options]) == 0
    for name, cached in (('online', []), ('cached', [f'model.teacher.cache={cache}'])):
        alone, two = tmp_path / name / 'alone', tmp_path / name / 'two'
        chosen = ['--cfg-options', *options, *cached]
        assert train([*command, '--work-dir', str(alone), *chosen, 'train_dataloader.batch_size=16']) == 0
        run_two('train', [*command, '--work-dir', two, *chosen, 'train_dataloader.batch_size=8'])
        assert_same_first_step(alone, two)


@pytest.mark.slow
def test_so_do_two_processes_of_slurm_with_batch_norms_that_share_statistics(shapes, trained, tmp_path):
    command = [str(CONFIGS / 'deit-mini_robust-resnet-tiny_shapes.py'), '--data-root', str(shapes)]
    options = ['--cfg-options', *TINY, *FIRST_STEP, f'model.teacher.checkpoint={trained / "student_best.pth"}']
    options += ['model.sync_bn=True']
    alone, two = tmp_path / 'alone', tmp_path / 'two'
    assert train([*command, '--work-dir', str(alone), *options, 'train_dataloader.batch_size=16']) == 0
    run_two('train', [*command, '--work-dir', two, *options, 'train_dataloader.batch_size=8'], 'slurm')
    assert_same_first_step(alone, two)
