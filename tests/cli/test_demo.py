"""The demo's plan: every command is one that its tool takes. Its steps: what is done is not done again."""

import importlib
from pathlib import Path

import pytest

from distill.cli.demo import RUNS, plan
from distill.matrix.steps import Step, Workplace, run_step, run_steps


def test_every_command_is_understood_and_every_step_has_its_inputs(tmp_path):
    known: set[str] = set()
    for step in plan(tmp_path):
        assert known.issuperset(step.needs), step.name
        known.add(step.name)
        tool = importlib.import_module(f'distill.cli.{step.command[0]}')
        args = tool.build_parser().parse_args(step.command[1:])
        if hasattr(args, 'config'):
            assert Path(args.config).is_file(), step.name
    assert known.issuperset(RUNS)


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
