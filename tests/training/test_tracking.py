"""`train --track`: a tracker sees config, environment, scores and the final ones, in one run over resumes."""

import json
import os
import re
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.hooks import Hook
from small_runs import run_training

from distill.training.tracking import BACKENDS, NOTE, track


def test_tensorboard_has_one_run_over_a_resume(shapes, tmp_path):
    for epochs in (1, 2):
        arguments = ['--track', 'tensorboard', '--resume']
        assert run_training('robust-resnet-tiny_shapes.py', shapes, tmp_path, *arguments, epochs=epochs) == 0
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / 'tensorboard'))
    events.Reload()
    assert {one.step for one in events.Scalars('top1_pct')} == {1, 2}
    last = events.Scalars('final/top1_pct')[-1].value
    assert last == events.Scalars('top1_pct')[-1].value
    assert events.Scalars('final/best_top1_pct')[-1].value >= last
    texts = {name: events.Tensors(f'{name}/text_summary')[-1] for name in ('config', 'environment')}
    text = {name: one.tensor_proto.string_val[0].decode() for name, one in texts.items()}
    assert 'robust_resnet_dw_small' in text['config']
    assert 'mmengine' in text['environment']
    assert not list(tmp_path.glob('*/vis_data/events*'))  # Not given twice.


@pytest.mark.parametrize('visualizer', [None, {'type': 'Visualizer', 'vis_backends': [{'type': 'LocalVisBackend'}]}])
def test_a_backend_that_the_config_names_is_not_given_twice(tmp_path, visualizer):
    config = Config(dict(work_dir=str(tmp_path), visualizer=visualizer, model=dict(type='X')))
    hooks = track(config, ['wandb', 'mlflow', 'wandb'], resume=False)
    assert all(isinstance(hook, Hook) for hook in hooks)
    track(config, ['wandb', 'aim', 'tensorboard'], resume=False)
    kinds = [one['type'] for one in config.visualizer.vis_backends]
    assert kinds == ['LocalVisBackend', *(BACKENDS[name] for name in ('wandb', 'mlflow', 'aim', 'tensorboard'))]


def test_settings_of_the_config_stay_and_a_resumed_run_goes_on_under_its_name(tmp_path, monkeypatch):
    monkeypatch.setenv('MLFLOW_TRACKING_URI', 'http://127.0.0.1:5000')
    monkeypatch.delenv('MLFLOW_RUN_ID', raising=False)
    mine = {'type': 'mmengine.WandbVisBackend', 'init_kwargs': {'project': 'mine', 'name': 'a'}}
    (tmp_path / NOTE).write_text(json.dumps({'wandb': 'abc', 'mlflow': 'def', 'aim': 'ghi'}))
    for resume in (False, True):
        config = Config(dict(work_dir=str(tmp_path), visualizer=dict(type='Visualizer', vis_backends=[dict(mine)])))
        track(config, ['wandb', 'mlflow', 'aim'], resume)
        wandb, mlflow, aim = config.visualizer.vis_backends
        assert (wandb['init_kwargs']['project'], wandb['init_kwargs']['name']) == ('mine', 'a')
        assert mlflow['tracking_uri'] == 'http://127.0.0.1:5000'
        assert wandb['init_kwargs'].get('id') == ('abc' if resume else None)
        assert aim['init_kwargs'].get('run_hash') == ('ghi' if resume else None)
        assert os.environ.get('MLFLOW_RUN_ID') == ('def' if resume else None)
    monkeypatch.delenv('MLFLOW_RUN_ID')


def test_a_tracker_that_is_not_installed_is_one_line(shapes, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    assert run_training('robust-resnet-tiny_shapes.py', shapes, tmp_path / 'work', '--track', 'aim') == 1
    assert "needs 'aim', which is not installed; pip install aim" in capsys.readouterr().err
    assert not (tmp_path / 'work').exists()


def test_mlflow_and_wandb_go_on_under_the_same_run(shapes, tmp_path, monkeypatch):
    mlflow = pytest.importorskip('mlflow')
    pytest.importorskip('wandb')
    pytest.importorskip('sqlalchemy')  # mlflow-skinny has no database.
    monkeypatch.setenv('WANDB_MODE', 'offline')
    for name in ('MLFLOW_TRACKING_URI', 'MLFLOW_RUN_ID'):
        monkeypatch.delenv(name, raising=False)
    notes = []
    for epochs in (1, 2):
        arguments = ['--track', 'mlflow', 'wandb', '--resume']
        assert run_training('robust-resnet-tiny_shapes.py', shapes, tmp_path, *arguments, epochs=epochs) == 0
        notes.append(json.loads((tmp_path / NOTE).read_text()))
    assert notes[0] == notes[1]
    client = mlflow.MlflowClient(f'sqlite:///{tmp_path / "mlflow.db"}')
    run = client.get_run(notes[0]['mlflow'])
    assert {one.step for one in client.get_metric_history(run.info.run_id, 'top1_pct')} == {1, 2}
    assert 'final/top1_pct' in run.data.metrics
    assert run.data.params['model.student.model'] == 'robust_resnet_dw_small'
    assert len(client.search_runs([run.info.experiment_id])) == 1
    artifacts = {one.path for one in client.list_artifacts(run.info.run_id)}
    assert artifacts == {'config.py', 'environment.json'}
    folders = [path.name for path in Path(tmp_path, 'wandb').glob('offline-run-*')]
    assert {re.sub('.*-', '', name) for name in folders} == {notes[0]['wandb']}
