"""A detector or segmenter whose loss or weights are no numbers stops, in all processes, and saves nothing of it."""

import math
import types
from pathlib import Path

import pytest
import torch
from downstream_runs import CONFIGS, FOLDER, arguments, options
from processes import start_two
from torch import nn

from distill.cli.train import main as train
from distill.training.hooks.stop_on_bad_loss import StopOnBadLossHook


@pytest.mark.parametrize(('task', 'term'), [('det', 'loss_rpn_cls'), ('seg', 'decode.loss_ce')])
def test_bad_term_is_named_with_its_step_and_the_last_good_checkpoint(task, term, data, tmp_path, capsys):
    config = tmp_path / 'bad.py'
    config.write_text(
        f"_base_ = '{FOLDER / CONFIGS[task]}'\n"
        "custom_imports = dict(imports=[*_base_.custom_imports.imports, 'step_recorder'])\n"
        "custom_hooks = [dict(type='SpoilHook', step=2)]\n"
    )
    more = ['default_hooks.checkpoint.by_epoch=False']
    command = [str(config), *arguments(task, data, tmp_path / 'work')[1:]]
    assert train([*command, *options(task, 2, *more)]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert f'{term} is nan' in lines[0]
    assert f'at step 2 (epoch 1); the last good checkpoint is {tmp_path / "work" / "iter_1.pth"}; lower' in lines[0]
    assert [path.name for path in (tmp_path / 'work').glob('*.pth')] == ['iter_1.pth']


@pytest.mark.slow
def test_bad_loss_of_one_process_stops_both(data, tmp_path):
    config = tmp_path / 'bad.py'
    config.write_text(
        f"_base_ = '{FOLDER / CONFIGS['seg']}'\n"
        "custom_imports = dict(imports=[*_base_.custom_imports.imports, 'step_recorder'])\n"
        "custom_hooks = [dict(type='SpoilHook', step=2, rank=1)]\n"
    )
    command = [str(config), *arguments('seg', data, tmp_path / 'work')[1:], *options('seg', 4)]
    for accumulated in ('1', '3'):
        more = ['train_dataloader.batch_size=2', f'optim_wrapper.accumulative_counts={accumulated}']
        for started in start_two('train', [*command, *more], 'pytorch'):
            status, output = started.finish()
            assert status == 1
            assert 'Traceback' not in output
            assert 'decode.loss_ce is nan' in output.strip().splitlines()[-1]
            assert 'at step 2 (epoch 1); the last good checkpoint is' in output


def fake_runner(tmp_path: Path, **more) -> types.SimpleNamespace:
    told = []
    return types.SimpleNamespace(
        message_hub=types.SimpleNamespace(log_scalars={}),
        model=nn.Linear(2, 2),
        optim_wrapper=types.SimpleNamespace(**more),
        work_dir=str(tmp_path),
        hooks=[],
        iter=0,
        epoch=0,
        _resume=False,
        _load_from=None,
        logger=types.SimpleNamespace(warning=told.append),
        told=told,
    )


def test_loss_scaler_may_leave_out_a_step_but_not_many_in_a_row(tmp_path):
    runner = fake_runner(tmp_path, loss_scaler=torch.amp.GradScaler('cpu'))
    hook = StopOnBadLossHook(patience=3)
    bad, good = {'loss_cls': math.nan, 'loss': math.nan}, {'loss_cls': 1.0, 'loss': 1.0, 'acc': math.nan}
    for outputs in (bad, bad, good, bad, bad):
        hook.after_train_iter(runner, 0, outputs=outputs)
    assert runner.told == ['loss_cls is nan at step 1; the loss scaler leaves this step out'] * 4
    with pytest.raises(ValueError, match=r'loss_cls is nan at step 1 \(epoch 1\); there is no checkpoint yet'):
        hook.after_train_iter(runner, 0, outputs=bad)
    with pytest.raises(ValueError, match='loss_cls is nan'):
        StopOnBadLossHook().after_train_iter(fake_runner(tmp_path), 0, outputs=bad)


def test_what_a_checkpoint_would_hold_is_checked_but_masks_may_be_infinite(tmp_path):
    runner = fake_runner(tmp_path)
    runner.model.register_buffer('mask', torch.tensor([0.0, -math.inf]))
    hook = StopOnBadLossHook()
    hook.before_train(runner)
    weights = runner.model.state_dict()
    averaged = {f'module.{key}': value for key, value in weights.items()}
    good = {'meta': {'iter': 3, 'epoch': 1}, 'state_dict': weights, 'ema_state_dict': averaged}
    good['optimizer'] = {'state': {0: {'step': 3, 'exp_avg': torch.zeros(2)}}}
    hook.before_save_checkpoint(runner, good)
    nan = torch.full((2,), math.nan)
    for part, value, named in (
        ('state_dict', {**weights, 'bias': nan}, "bias in the new checkpoint's state_dict"),
        ('ema_state_dict', {**averaged, 'module.bias': nan}, "module.bias in the new checkpoint's ema_state_dict"),
        ('optimizer', {'state': {0: {'exp_avg': nan}}}, "exp_avg of parameter 0 in the new checkpoint's optimizer"),
    ):
        with pytest.raises(ValueError, match=f'{named} is not finite at step 3'):
            hook.before_save_checkpoint(runner, {**good, part: value})
