"""The demo's plan: every command is one that its tool takes. Its steps: what is done is not done again."""

import importlib
from pathlib import Path

import pytest
import torch

from backbones.checkpoint import build_model
from distill.base.files import read_json, write_json
from distill.cli import demo_own
from distill.cli.arguments import experiment_of
from distill.cli.demo import RUNS, plan
from distill.cli.demo_plan import check_same_demo
from distill.jobs.local import LocalEngine
from distill.jobs.steps import Step, Workplace, run_steps
from distill.training.experiment import read_config


def test_every_command_is_understood_and_every_step_has_its_inputs(tmp_path):
    known: set[str] = set()
    for step in plan(tmp_path):
        assert known.issuperset(step.needs), step.name
        known.add(step.name)
        tool = importlib.import_module(f'distill.cli.{step.command[0]}')
        args = tool.build_parser().parse_args(step.command[1:])
        if getattr(args, 'config', None) is not None:
            assert Path(args.config).is_file(), step.name
    assert known.issuperset(RUNS)


def run_step(step: Step, place: Workplace) -> float:
    """Run one step; returns its time in seconds, or 0 if it was done before."""
    lines: list[str] = []
    run_steps([step], place, lines.append)
    return 0 if 'was done before' in lines[-1] else place.seconds(step.name)


def test_a_step_runs_once_and_again_only_if_its_command_changed(tmp_path):
    arguments = ['--sets', 'imagenet', '--train', '10', '--val', '10', '--shifted', '10']
    step = Step('data', ['data', str(tmp_path / 'data'), *arguments])
    place = Workplace(tmp_path / 'logs')
    assert run_step(step, place) > 0
    assert run_step(step, place) == 0
    step.command += ['--seed', '1']
    with pytest.raises(ValueError, match=r"step 'data' failed: .*seed.*see .*data\.log"):
        run_step(step, place)


def test_a_failure_stops_the_steps_after_it(tmp_path):
    steps = [Step('a', ['data', str(tmp_path), '--sets', 'nonsense']), Step('b', ['data'], ['a'])]
    lines = []
    with pytest.raises(ValueError, match="step 'a' failed"):
        run_steps(steps, Workplace(tmp_path / 'logs'), lines.append)
    assert not (tmp_path / 'logs' / 'b.log').exists()
    assert len(lines) == 1


def test_a_launcher_starts_the_steps(tmp_path):
    place = Workplace(tmp_path / 'logs', launcher=('env', 'PLACE=cluster'))
    run_step(Step('help', ['data', '--help']), place)
    assert 'usage' in (tmp_path / 'logs' / 'help.log').read_text()


def test_steps_run_as_forks_like_commands(tmp_path, capfd):
    place = Workplace(tmp_path / 'logs', engine=LocalEngine(forks=True))
    run_step(Step('help', ['data', '--help']), place)
    assert 'usage' in (tmp_path / 'logs' / 'help.log').read_text()
    assert read_json(place.mark('help'))['cpu_seconds'] >= 0
    with pytest.raises(ValueError, match=r"step 'wrong' failed: .*'nonsense' is unknown"):
        run_step(Step('wrong', ['data', str(tmp_path), '--sets', 'nonsense']), place)
    assert capfd.readouterr() == ('', '')


def test_what_is_left_and_found_is_told(tmp_path):
    steps = [Step('a', ['data', '--help'], [], 'first thing', 10), Step('b', ['data', '--help'], ['a'], '', 10)]
    lines = []
    run_steps(
        steps,
        Workplace(tmp_path, engine=LocalEngine(forks=True)),
        lines.append,
        lambda step: 'a says 7' if step.name == 'a' else None,
    )
    assert [line.split('] ')[1].split(' (')[0].split(': ')[0] for line in lines] == [
        'first thing …', 'a says 7', 'b …', 'b'
    ]  # fmt: skip
    assert 'left' in lines[1]
    lines.clear()
    run_steps(steps, Workplace(tmp_path, engine=LocalEngine(forks=True)), lines.append)
    assert [line.split('] ')[1] for line in lines] == ['first thing: was done before', 'b: was done before']


def test_another_demo_in_the_folder_is_refused_before_anything_runs(tmp_path):
    steps = plan(tmp_path)
    place = Workplace(tmp_path / 'logs')
    check_same_demo(steps, place, tmp_path)
    write_json(place.mark('deit-teacher'), {'command': ['train', 'another.py'], 'seconds': 1})
    with pytest.raises(
        ValueError, match=r"holds another demo.* step 'deit-teacher' differs; choose another --work-dir"
    ):
        check_same_demo(steps, place, tmp_path)


@pytest.mark.parametrize(('size', 'train'), [(32, 6000), (64, 100), (32, 7)])
def test_every_command_of_the_demo_on_own_images_is_understood(tmp_path, size, train):
    own = demo_own.OwnSet(tmp_path / 'data', 3, train, size)
    known: set[str] = set()
    for step in demo_own.plan(own, tmp_path):
        assert known.issuperset(step.needs), step.name
        known.add(step.name)
        args = importlib.import_module(f'distill.cli.{step.command[0]}').build_parser().parse_args(step.command[1:])
        if step.command[0] == 'train':
            config, _ = read_config(experiment_of(args))
            assert config.model.student.num_classes == 3
            assert config.train_dataloader.dataset.transform.input_size == size
            assert config.train_dataloader.batch_size <= train
            assert config.param_scheduler[0].end == config.train_cfg.max_epochs
            student = build_model(**config.model.student)
            assert student(torch.zeros(2, 3, size, size)).shape == (2, 3)
    assert known.issuperset(demo_own.RUNS)
