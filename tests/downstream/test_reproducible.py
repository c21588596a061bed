"""A run's weights follow from its seed: resumed or uninterrupted, in one process or in two."""

import contextlib
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from distilled_runs import TEACHERS, save_teacher, write_config
from downstream_runs import CONFIGS, FOLDER, ROOT, WORKERS, arguments, options
from mmengine.dataset import InfiniteSampler

from distill.cli.train import main as train
from distill.downstream.seeding import NumberedBatches


@pytest.mark.slow
@pytest.mark.parametrize(
    ('task', 'stop', 'end'),
    [
        ('mask', 'epoch_1', 'epoch_2'),
        # In the middle of the second epoch of two batches.
        ('det', 'iter_3', 'iter_4'),
        ('seg', 'iter_3', 'iter_5'),
    ],
)
def test_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(task, stop, end, whole_run, data, tmp_path):
    whole_dir, settings = whole_run(task)
    shutil.copy(whole_dir / f'{stop}.pth', tmp_path)
    # What a sample looks like must not depend on the worker that makes it either.
    settings = [option for option in settings if option not in WORKERS] if task == 'seg' else settings
    assert train([*arguments(task, data, tmp_path), '--resume', *settings]) == 0
    start, whole, resumed = (
        torch.load(path, weights_only=True)['state_dict']
        for path in (whole_dir / f'{stop}.pth', whole_dir / f'{end}.pth', tmp_path / f'{end}.pth')
    )
    assert [key for key in whole if not torch.equal(whole[key], resumed[key])] == []
    assert any(not torch.equal(whole[key], start[key]) for key in whole)


def test_endless_sampler_goes_on_without_loading_the_past():
    indices = list(range(7))
    whole = NumberedBatches(InfiniteSampler(indices, seed=3), batch_size=2)
    expected = list(itertools.islice(whole, 9))
    resumed = NumberedBatches(InfiniteSampler(indices, seed=3), batch_size=2)
    resumed.iteration = resumed.skip = 5
    assert list(itertools.islice(resumed, 4)) == expected[5:]
    assert [batch[0][1] for batch in expected] == list(range(9))


TASKS = ('det', 'seg', 'taught_det')
SEGMENTER = """
norm_cfg = dict(type='GN', num_groups=8, requires_grad=True)
heads = dict(norm_cfg=norm_cfg, dropout_ratio=0, loss_decode=dict(avg_non_ignore=False))
model = dict(backbone=dict(norm_eval=True), decode_head=heads, auxiliary_head=heads)
"""
TAUGHT = {
    'taught_det': [
        dict(type='cwd'),
        dict(type='l2', on='backbone'),
        dict(type='fgd', weight=0.01),
        dict(type='rpn'),
        dict(type='roi'),
        dict(type='crosskd_roi'),
        # Nothing depends on what this one would train, while its weight is 0.
        dict(type='mgd', schedule=((1, 0.0), (2, 0.0))),
    ]
}
"""Terms that are means over the images: of a batch that is dealt to processes they are means over these."""
ONE_OF_TWO = """
import json
import os
import sys

import mmengine.config.config

from distill.cli.train import main

mmengine.config.config.FormatCode = lambda text, **settings: (text, False)
for port, command in json.loads(sys.argv[1]):
    os.environ['MASTER_PORT'] = str(port)
    assert main(command) == 0
"""


def recorded_command(task: str, processes: int, data: Path, folder: Path) -> list[str]:
    """The command of two recorded steps of four images, over however many processes.

    Batch norms keep their statistics, and the losses are means over what is the same number in each process.
    """
    config = folder / f'{task}.py'
    kind, backbone = task.removeprefix('taught_'), 'model.student.backbone' if task in TAUGHT else 'model.backbone'
    recording = (
        "custom_imports = dict(imports=[*_base_.custom_imports.imports, 'step_recorder'])\n"
        "custom_hooks = [dict(type='RecordHook')]\n" + (SEGMENTER if task == 'seg' else '')
    )
    if task in TAUGHT:
        teacher = data / 'teacher.pth'
        if not teacher.is_file():
            save_teacher(FOLDER / TEACHERS[kind], teacher)
        write_config(kind, folder, teacher, TAUGHT[task], recording).rename(config)
    else:
        config.write_text(f"_base_ = '{FOLDER / CONFIGS[task]}'\n{recording}")
    more = [f'train_dataloader.batch_size={4 // processes}', f'{backbone}.norm_eval=True']
    command = [str(config), *arguments(kind, data, folder / f'{task}_{processes}')[1:]]
    return [*command, *options(kind, 2 if kind == 'seg' else 1, *more)]


@pytest.fixture(scope='module')
def two_processes(data, tmp_path_factory) -> Path:
    """The folder in which two processes, started as torchrun starts them, have trained a detector and a segmenter."""
    folder = tmp_path_factory.mktemp('two')
    commands = []
    for task, port in zip(TASKS, free_ports(len(TASKS)), strict=True):
        config, *more = recorded_command(task, 2, data, folder)
        commands.append((port, [config, '--launcher', 'pytorch', *more]))
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent), os.environ.get('PYTHONPATH', '')])
    started = []
    for rank in range(2):
        ranks = dict(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', MASTER_ADDR='127.0.0.1')
        environment = {**os.environ, **ranks, 'PYTHONPATH': path, 'OMP_NUM_THREADS': '1'}
        command = [sys.executable, '-c', ONE_OF_TWO, json.dumps(commands)]
        pipes = dict(stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        started.append(subprocess.Popen(command, env=environment, cwd=folder, **pipes))
    errors = [process.communicate()[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], errors[0][-2000:] + errors[1][-2000:]
    return folder


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(socket.socket()) for _ in range(count)]
        for server in servers:
            server.bind(('127.0.0.1', 0))
        return [server.getsockname()[1] for server in servers]


@pytest.mark.slow
@pytest.mark.parametrize('task', TASKS)
def test_two_processes_train_as_one_with_the_doubled_batch(task, two_processes, data, tmp_path):
    assert train(recorded_command(task, 1, data, tmp_path)) == 0
    one = json.loads((tmp_path / f'{task}_1' / 'steps_0.json').read_text())
    two = [json.loads((two_processes / f'{task}_2' / f'steps_{rank}.json').read_text()) for rank in range(2)]
    assert len(one) == len(two[0]) == len(two[1]) == 2
    for number, (images, _) in enumerate(one):
        assert sorted(images) == sorted(two[0][number][0] + two[1][number][0])
    assert len({image for images, _ in one for image in images}) == 8
    assert one[0][1] == pytest.approx((two[0][0][1] + two[1][0][1]) / 2, abs=1e-4)
    assert abs(two[0][0][1] - two[1][0][1]) > 1e-4


@pytest.mark.parametrize(('batch_size', 'processes'), [(1, 2), (4, 1), (2, 2), (6, 1)])
def test_endless_sampler_goes_on_at_the_sample_with_other_steps(batch_size, processes):
    """Twelve samples are done, in steps of two; each process leaves out its part of them."""
    indices = list(range(7))
    expected = list(itertools.islice(InfiniteSampler(indices, seed=3), 12 + 4 * batch_size * processes))[12:]
    seen = [None] * len(expected)
    for rank in range(processes):
        sampler = InfiniteSampler(indices, seed=3)
        sampler.rank, sampler.world_size = rank, processes
        resumed = NumberedBatches(sampler, batch_size)
        resumed.skip_samples, resumed.iteration = 12 // processes, 6
        batches = list(itertools.islice(resumed, 4))
        assert [batch[0][1] for batch in batches] == [6, 7, 8, 9]
        seen[rank::processes] = [index for batch in batches for index, _ in batch]
    assert seen == expected
