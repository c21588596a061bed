"""Runs by each engine: the same results, also when a worker is killed; and what engines refuse."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from distill.api.transfer import transfer
from distill.cli.transfer import build_parser, check
from distill.jobs.command import Command
from distill.jobs.engines import open_engine, parse_options
from distill.jobs.steps import Step, Workplace, run_steps
from distill.matrix.folder import alone_in
from distill.results.schema import FILE_NAME

MATRIX = """
data_root = {data!r}
students = dict(
    robust='distill/configs/shapes/robust-resnet-tiny_shapes.py', resnet='distill/configs/shapes/resnet-tiny_shapes.py'
)
teachers = dict(robust=dict(student='robust'), resnet=dict(student='resnet'))
losses = dict(kd=[dict(type='soft_target_kl', temperature=1.0)])
seeds = (0,)
epochs = {epochs}
equal_time = False
robustness = ('--suite', 'clean', '--workers', '0')
"""
ENGINES = [('local', {}), ('slurm', {'cluster': 'local'}), ('ray', {})]


def write_matrix(folder: Path, data: Path, epochs: int = 3) -> str:
    path = folder / 'tiny.py'
    path.write_text(MATRIX.format(data=str(data), epochs=epochs))
    return str(path)


def digits(work: Path) -> dict:
    """The scores of a matrix, of every run."""
    files = [json.loads((work / 'robustness' / name / FILE_NAME).read_text()) for name in ('robust', 'resnet')]
    return {run: scores for content in files for run, scores in content['classification'].items()}


def kill_once(work: Path, run: str, parent: bool, killed: list[int]) -> None:
    """Wait for the first checkpoint of a run, and kill the process that trains it, or the worker that started that."""
    while not (work / 'runs' / run / 'epoch_1.pth').is_file():
        time.sleep(0.01)
    for entry in Path('/proc').glob('[0-9]*'):
        try:
            words = (entry / 'cmdline').read_text().split('\0')
            ancestor = int((entry / 'status').read_text().partition('PPid:')[2].split()[0])
        except OSError:
            continue
        # Of this experiment: others may run beside it.
        if 'distill.cli.train' in words and str(work / 'runs' / run) in words:
            killed.append(ancestor if parent else int(entry.name))
            os.kill(killed[-1], signal.SIGKILL)
            return


@pytest.fixture(scope='module')
def reference(shapes, tmp_path_factory) -> dict:
    """The scores of four runs, none of which was disturbed."""
    folder = tmp_path_factory.mktemp('reference')
    transfer(write_matrix(folder, shapes), work_dir=folder / 'work', say=lambda text: None)
    return digits(folder / 'work')


@pytest.mark.slow
@pytest.mark.parametrize(('engine', 'options'), ENGINES, ids=[name for name, _ in ENGINES])
def test_a_matrix_gives_the_same_digits_by_every_engine_though_a_worker_is_killed(
    engine, options, reference, shapes, tmp_path
):
    pytest.importorskip({'slurm': 'submitit'}.get(engine, engine if engine == 'ray' else 'json'))
    work, lines, killed = tmp_path / 'work', [], []
    arguments = (work, 'robust_alone_s0', engine != 'local', killed)
    killer = threading.Thread(target=kill_once, args=arguments, daemon=True)
    killer.start()
    given = {'engine': engine, 'engine_options': options, 'jobs': 2, 'say': lines.append}
    transfer(write_matrix(tmp_path, shapes), work_dir=work, **given)
    assert len(killed) == 1
    assert digits(work) == reference
    assert len(reference) == 4
    # It went on where it was.
    log = (work / 'logs' / 'robust_alone_s0.log').read_text()
    assert log.count('$ python -m distill.cli.train') == 2
    assert 'resumed epoch: 1' in log or 'Resumed' in log or 'resumed' in log
    assert any('was killed (signal 9); again' in line for line in lines)


@pytest.mark.slow
def test_forks_give_the_same_digits(reference, shapes, tmp_path):
    line = ['transfer', write_matrix(tmp_path, shapes), '--work-dir', str(tmp_path / 'work')]
    subprocess.run([sys.executable, '-m', 'distill', *line], check=True, stdout=subprocess.DEVNULL, timeout=300)
    assert digits(tmp_path / 'work') == reference


def test_a_step_that_is_killed_every_time_fails(tmp_path):
    place = Workplace(tmp_path, launcher=('sh', '-c', 'kill -9 $$'))
    with pytest.raises(ValueError, match=r"step 'a' failed: its process was killed \(signal 9\)"):
        run_steps([Step('a', ['data', '--help'])], place, lambda text: None)
    assert (tmp_path / 'a.log').read_text().count('$ python') == 3


def test_what_slurm_says_is_passed_on(tmp_path, monkeypatch):
    pytest.importorskip('submitit')
    if shutil.which('sbatch') is None:
        # The commands of Slurm as they answer where the partition does not exist.
        for name in ('srun', 'sbatch'):
            command = tmp_path / 'bin' / name
            command.parent.mkdir(exist_ok=True)
            said = 'sbatch: error: invalid partition specified: nowhere'
            command.write_text(
                f'#!/bin/sh\necho "{said}" >&2\necho "sbatch: error: Batch job submission failed" >&2\nexit 1\n'
            )
            command.chmod(0o755)
        monkeypatch.setenv('PATH', f'{tmp_path / "bin"}:{os.environ["PATH"]}')
    engine = open_engine('slurm', {'partition': 'nowhere'}, tmp_path / 'slurm', 1, 4)
    place = Workplace(tmp_path / 'logs', engine=engine)
    with pytest.raises(ValueError, match=r"engine 'slurm' cannot submit: .*sbatch: error") as error:
        run_steps([Step('a', ['data', '--help']), Step('b', ['data', '--help'])], place, lambda text: None)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--engine', 'slurm', '--engine-options', 'partition'], "engine option 'partition' is not KEY=VALUE"),
        (['--engine-options', 'partition=gpu'], 'needs --engine slurm or ray'),
        (['--engine', 'local', '--engine-options', 'partition=gpu'], "engine 'local' has no options"),
        (['--engine', 'slurm', '--jobs', '0'], '--jobs is 0'),
    ],
)
def test_wrong_arguments_are_one_line(words, message):
    with pytest.raises(ValueError, match=message):
        check(build_parser().parse_args(['shapes', *words]))


def test_an_engine_that_is_not_installed_is_one_line(monkeypatch):
    monkeypatch.setattr('distill.jobs.engines.find_spec', lambda name: None)
    with pytest.raises(ValueError, match=r"engine 'ray' needs ray, which is not installed; pip install '.*\[ray\]'"):
        open_engine('ray', {}, Path('x'), 1, 1)


def test_options_that_engines_do_not_know_are_named(tmp_path):
    pytest.importorskip('submitit')
    with pytest.raises(ValueError, match=r"engine 'slurm' does not take its options: .*colour"):
        open_engine('slurm', {'cluster': 'local', 'colour': 'red'}, tmp_path, 1, 1)
    with pytest.raises(ValueError, match="cluster 'moon' is unknown; choose from slurm, local"):
        open_engine('slurm', {'cluster': 'moon'}, tmp_path, 1, 1)
    assert parse_options(['partition=gpu', 'gpus_per_node=1']) == {'partition': 'gpu', 'gpus_per_node': 1}


def test_two_matrices_in_one_folder_are_refused(shapes, tmp_path):
    path = write_matrix(tmp_path, shapes)
    with alone_in(tmp_path / 'work'), pytest.raises(ValueError, match=r'is in use by another command \(process \d+ on'):
        transfer(path, work_dir=tmp_path / 'work')
    (tmp_path / 'work' / 'runs' / 'robust_from_resnet_kd_s0').mkdir(parents=True)
    (tmp_path / 'work' / 'configs').mkdir()
    (tmp_path / 'work' / 'configs' / 'robust_from_resnet_kd_s0.py').write_text("_base_ = 'x.py'\nmax_epochs = 9\n")
    with pytest.raises(ValueError, match=r'was begun with other settings .* pass another --work-dir'):
        transfer(path, work_dir=tmp_path / 'work')


def test_a_job_that_the_queue_has_is_taken_up_by_its_own_command_alone(tmp_path, monkeypatch):
    pytest.importorskip('submitit')
    command = tmp_path / 'squeue'
    command.write_text('#!/bin/sh\necho RUNNING\n')
    command.chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
    engine = open_engine('slurm', {'cluster': 'local'}, tmp_path / 'slurm', 1, 4)
    engine.queues = True
    ours = Command(('data', 'x'), str(tmp_path / 'a.log'))
    assert engine._running(ours, ('17', ['data', 'x'])).job.job_id == '17'
    assert engine._running(ours, ('17', ['data', 'y'])) is None
    assert engine._running(ours, None) is None
    command.write_text('#!/bin/sh\nexit 0\n')
    assert engine._running(ours, ('17', ['data', 'x'])) is None
