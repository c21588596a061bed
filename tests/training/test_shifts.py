"""Scores on shifted images while a student trains, against the same scores computed from the saved weights."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from backbones.checkpoint import build_model, read_weights
from distill.data.views import Views
from distill.training.experiment import build_runner, move_data_root
from distill.training.hooks.shift_scores import ShiftScoresHook

CONFIG = Path(__file__).parents[2] / 'distill/configs/shapes/deit-mini_robust-resnet-tiny_shapes.py'


@pytest.fixture(scope='module')
def trained(shapes, tmp_path_factory):
    """Two epochs of a distillation with the hook in each."""
    folder = tmp_path_factory.mktemp('shifts')
    config = Config.fromfile(CONFIG)
    move_data_root(config, str(shapes))
    config.work_dir = str(folder)
    config.launcher = 'none'
    config.train_dataloader.update(num_workers=0, persistent_workers=False, batch_size=40)
    config.val_dataloader.update(num_workers=0, persistent_workers=False)
    config.model.student.update(dims=(8, 8, 16, 16), depths=(1, 1, 1, 1))
    config.model.teacher = dict(model='resnet10t', num_classes=10, pretrained=False)
    config.train_cfg.update(max_epochs=2, val_interval=2)
    config.param_scheduler = []
    hook = ShiftScoresHook(str(shapes), ['stylized', 'corruption', 'rendition'], 2, corruption_limit=4, workers=0)
    runner = build_runner(config, [hook])
    runner.train()
    return runner, hook, folder


def test_scores_go_to_the_log_and_tensorboard(trained):
    runner, _, folder = trained
    names = {name for name in runner.message_hub.log_scalars if name.startswith('shift/')}
    assert names == {
        f'shift/{suite}/{network}_{what}'
        for suite in ('stylized', 'corruption', 'rendition')
        for network in ('student', 'ema', 'teacher')
        for what in ('top1_pct', 'agreement_pct', 'kl')
        if network != 'teacher' or what == 'top1_pct'
    }
    lines = [json.loads(line) for path in folder.glob('*/vis_data/scalars.json') for line in path.open()]
    assert len([line for line in lines if 'shift/stylized/student_top1_pct' in line]) == 1
    assert list(folder.glob('*/vis_data/events.*'))
    assert 'Shift(epoch 2) stylized' in next(folder.glob('*/*.log')).read_text()


@pytest.mark.parametrize('network', ['student', 'ema'])
def test_scores_are_those_of_the_saved_weights(trained, shapes, network):
    runner, _, folder = trained
    # EMAHook writes the average as the weights of a checkpoint, and the plain weights beside it.
    checkpoint = torch.load(folder / 'epoch_2.pth', weights_only=True)
    weights = checkpoint['state_dict' if network == 'ema' else 'ema_state_dict']
    prefix = 'student.' if network == 'ema' else 'module.student.'
    model = build_model(**runner.model.student_config)
    model.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
    model, teacher = model.eval(), runner.model.teacher
    preprocessor = runner.model.data_preprocessor
    dataset = Views(str(shapes), 'stylized', transform=runner.val_dataloader.dataset.transform_config)
    images = preprocessor([torch.stack([dataset[i][0] for i in range(len(dataset))])] * 2)['images']
    labels = torch.tensor([dataset[i][1] for i in range(len(dataset))])
    with torch.no_grad():
        log_p = model(images).log_softmax(1)
        log_q = teacher(preprocessor.view_batch(images)).logits.log_softmax(1)
    found = {
        what: runner.message_hub.get_scalar(f'shift/stylized/{network}_{what}').current()
        for what in ('top1_pct', 'agreement_pct', 'kl')
    }
    assert found['top1_pct'] == pytest.approx(100 * (log_p.argmax(1) == labels).float().mean().item())
    assert found['agreement_pct'] == pytest.approx(100 * (log_p.argmax(1) == log_q.argmax(1)).float().mean().item())
    kl = (log_q.exp() * (log_q - log_p)).sum(1).mean().item()
    assert found['kl'] == pytest.approx(kl, rel=1e-2)  # The teacher's probabilities are kept in half precision.
    assert read_weights(folder / 'epoch_2.pth', prefix='student.').keys() == model.state_dict().keys()


def test_training_goes_on_in_training_mode(trained):
    runner, hook, _ = trained
    runner.model.train()
    hook.after_train_epoch(runner)
    assert all(module.training for module in runner.model.student.modules())


def test_a_teacher_that_knows_the_training_set_only_is_left_out(trained, monkeypatch):
    runner, hook, _ = trained
    shown = {}
    monkeypatch.setattr(runner.model.teacher, 'live', False)
    monkeypatch.setattr(runner.visualizer, 'add_scalars', lambda scores, step: shown.update(scores))
    hook.after_train_epoch(runner)
    suites = ('stylized', 'corruption', 'rendition')
    assert {*shown} == {f'shift/{suite}/{network}_top1_pct' for suite in suites for network in ('student', 'ema')}


def test_suites_that_are_not_there_stop_before_training(shapes):
    class Runner:
        val_dataloader = type('Loader', (), {'dataset': Views(str(shapes), 'val', transform=dict(input_size=32))})()

    with pytest.raises(ValueError, match="suite 'stylised' is unknown"):
        ShiftScoresHook(str(shapes), ['stylised']).before_train(Runner())
