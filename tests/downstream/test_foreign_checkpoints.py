"""Checkpoints that mmengine's own runner has written are tested and resumed; those that lack something are refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from downstream_runs import CONFIGS, FOLDER, arguments, options
from mmengine.logging import HistoryBuffer

from distill.cli.test import main as run_test
from distill.cli.train import main as train
from distill.training.checkpoints import leave_out_average, prepare, report_taken


@pytest.fixture(scope='module')
def written(data, tmp_path_factory) -> Path:
    """A checkpoint of a segmenter after one step, with an average and a log of each term."""
    folder = tmp_path_factory.mktemp('written')
    config = folder / 'averaged.py'
    config.write_text(f"_base_ = '{FOLDER / CONFIGS['seg']}'\ncustom_hooks = [dict(type='EMAHook')]\n")
    assert train([str(config), *arguments('seg', data, folder)[1:], *options('seg', 1)]) == 0
    return folder / 'iter_1.pth'


def as_mmengine_writes(checkpoint: dict) -> dict:
    """The checkpoint with the objects that mmengine leaves in it, and one of a user's own."""
    hub = checkpoint['message_hub']
    hub['log_scalars'] = {key: HistoryBuffer(*value) for key, value in hub['log_scalars'].items()}
    hub['runtime_info']['best'] = np.float64(0.5)
    hub['runtime_info']['owner'] = np.random.RandomState(0)
    hub['resumed_keys'] |= {'best': True, 'owner': True}
    for key in ('samples_done', 'batch_size', 'processes', 'batches_done'):
        del checkpoint['meta'][key]
    # mmengine would run this.
    checkpoint['meta']['config'] = 'raise SystemExit(3)'
    return checkpoint


def test_mmengine_checkpoint_is_tested_and_resumed_with_its_log(written, data, tmp_path, capsys):
    config = written.parent / 'averaged.py'
    foreign = tmp_path / 'iter_1.pth'
    torch.save(as_mmengine_writes(torch.load(written, weights_only=True)), foreign)
    command = [str(config), *arguments('seg', data, tmp_path / 'work')[1:]]
    assert run_test([command[0], str(foreign), *command[1:]]) == 0
    assert train([*command, '--resume', str(foreign), *options('seg', 3)]) == 0
    output = capsys.readouterr()
    assert 'resumed epoch: 0, iter: 1' in output.out + output.err
    assert 'not taken from the checkpoint, since they are no plain values: owner' in output.out + output.err
    # As the run that goes on from this project's own checkpoint.
    assert train([*command[:-1], str(tmp_path / 'own'), '--resume', str(written), *options('seg', 3)]) == 0
    resumed, own = (torch.load(tmp_path / name / 'iter_3.pth', weights_only=True) for name in ('work', 'own'))
    for part in ('state_dict', 'ema_state_dict'):
        assert all(torch.equal(value, own[part][key]) for key, value in resumed[part].items())
    logs = [checkpoint['message_hub']['log_scalars']['train/loss'][0] for checkpoint in (resumed, own)]
    assert logs[0] == logs[1]
    assert len(logs[0]) == 3
    assert resumed['message_hub']['runtime_info']['best'] == 0.5


LACKING = {
    'optimizer': (
        lambda c: c.pop('optimizer'),
        r'has no optimizer \(default_hooks\.checkpoint\.save_opt',
    ),
    'schedule': (lambda c: c.pop('param_schedulers'), 'has no param_schedulers'),
    'log': (lambda c: c.pop('message_hub'), "is not from mmengine's runner"),
    'all but weights': (lambda c: [c.pop(k) for k in [*c] if k != 'state_dict'], 'holds weights and no state of a run'),
    'place': (lambda c: c['meta'].pop('iter'), 'does not say at which epoch and iteration'),
    'numbers': (lambda c: next(iter(c['state_dict'].values())).fill_(float('nan')), 'has NaN or infinite values'),
}


@pytest.mark.parametrize('what', LACKING)
def test_resume_needs_all_that_a_run_goes_on_with(what, written):
    checkpoint = torch.load(written, weights_only=True)
    network = torch.nn.Module()
    names = list(checkpoint['state_dict'])
    for number, name in enumerate(names):
        network.register_parameter(f'p{number}', torch.nn.Parameter(checkpoint['state_dict'][name].float()))
    checkpoint['state_dict'] = {f'p{n}': checkpoint['state_dict'][name].float() for n, name in enumerate(names)}
    prepare(dict(checkpoint), network, 'x.pth', resume=True)
    take_out, message = LACKING[what]
    take_out(checkpoint)
    with pytest.raises(ValueError, match=rf"checkpoint 'x\.pth' {message}"):
        prepare(checkpoint, network, 'x.pth', resume=True)


def test_a_run_that_keeps_no_average_goes_on_with_the_trained_weights(written):
    checkpoint = torch.load(written, weights_only=True)
    trained = {
        name[7:]: value + 1 for name, value in checkpoint['ema_state_dict'].items() if name.startswith('module.')
    }
    checkpoint['ema_state_dict'].update({f'module.{name}': value for name, value in trained.items()})
    assert leave_out_average(checkpoint)
    assert all(torch.equal(value, checkpoint['state_dict'][name]) for name, value in trained.items())
    del checkpoint['ema_state_dict']
    assert not leave_out_average(checkpoint)


def test_what_is_not_taken_is_a_line_and_nothing_at_all_is_an_error():
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 3))
    weights = {f'model._orig_mod.{key}': value for key, value in network.state_dict().items()}
    assert report_taken(prepare({'state_dict': weights}, network, 'x.pth', resume=False), network) is None
    weights['model._orig_mod.1.weight'] = torch.zeros(5, 2)
    weights.pop('model._orig_mod.1.bias')
    line = report_taken(prepare({'state_dict': weights}, network, 'x.pth', resume=False), network)
    assert line.startswith('2 of 4 weights of the model are taken: 1 are not there and stay as they were made (1.bias)')
    assert '1 have another shape and stay as they were made (1.weight)' in line
    with pytest.raises(ValueError, match=r"'x\.pth' has no weight of this model \(it has y; the model has 0\.bias"):
        prepare({'y': torch.zeros(1)}, network, 'x.pth', resume=False)


@pytest.mark.slow
def test_detector_with_another_tensor_is_not_resumed(whole_run, data, tmp_path, capsys):
    work_dir, settings = whole_run('det')
    checkpoint = torch.load(work_dir / 'iter_3.pth', weights_only=True)
    name = next(name for name in checkpoint['state_dict'] if name.endswith('fc_cls.weight'))
    checkpoint['state_dict'][name] = torch.zeros(5, 5)
    torch.save(checkpoint, tmp_path / 'iter_3.pth')
    assert train([*arguments('det', data, tmp_path), '--resume', *settings]) == 1
    line = capsys.readouterr().err.strip()
    assert 'does not fit the model' in line
    assert name in line
    # Other steps in the middle of an epoch, of batches that follow from the images' shapes.
    shutil.copy(work_dir / 'iter_3.pth', tmp_path)
    assert train([*arguments('det', data, tmp_path), '--resume', *settings, 'train_dataloader.batch_size=2']) == 1
    line = capsys.readouterr().err.strip()
    assert 'after 4 images with steps of 4 images x 1 process, and steps of 2 images x 1 process cannot go on' in line
