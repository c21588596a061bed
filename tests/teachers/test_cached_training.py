"""Training from a cache is training with the teacher."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from small_teacher import BATCH, CONFIG, MIXUP, NAME, TRANSFORM, options

from distill.base.seeding import seed_everything
from distill.cli.train import main as train
from distill.training.distiller import Distiller

STUDENT = dict(model='robust_resnet_dw_small', dims=(8, 16, 32, 64), depths=(1, 1, 1, 1), kernel_size=3, patch_size=4)
TERMS = [
    dict(type='cross_entropy', weight=0.5),
    dict(type='soft_target_kl', weight=0.5, temperature=1.0),
    dict(type='soft_target_kl', weight=0.5, temperature=3.0),
]


def run_steps(shapes: Path, teacher: dict, **dataset) -> tuple[torch.Tensor, dict]:
    """Twenty training steps as `Runner` makes them; returns the terms of each [20, 3] and the weights."""
    config = dict(
        dataset=dict(type='Views', root=str(shapes), split='train', transform=TRANSFORM, seed=11, **dataset),
        sampler=dict(type='ViewSampler', shuffle=True),
        batch_size=BATCH,
        collate_fn=dict(type='default_collate'),
    )
    loader = Runner.build_dataloader(config, seed=1)
    seed_everything(1)
    preprocessor = dict(type='ViewPreprocessor', random_erasing=0.5, mixup=MIXUP)
    student = dict(STUDENT, num_classes=10, drop_path_rate=0.2)
    model = Distiller(student, teacher, TERMS, preprocessor).train()
    model.teacher.check_run(loader.dataset, loader.sampler, model.data_preprocessor)
    optimizer = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05))
    logs = []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            seed_everything(1, len(logs), 0)
            log = model.train_step(batch, optimizer)
            logs.append(torch.stack([log[loss.name].detach() for loss in model.losses]))
    assert len(logs) == 20
    return torch.stack(logs), model.state_dict()


@pytest.fixture(scope='module')
def online(shapes, checkpoint):
    return run_steps(shapes, dict(checkpoint=str(checkpoint)))


def test_cached_training_is_online_training_at_any_temperature(shapes, checkpoint, caches, online):
    losses, weights = run_steps(shapes, dict(checkpoint=str(checkpoint), cache=str(caches['fp32'])))
    assert (losses - online[0]).abs().max() < 1e-5
    # Adam makes steps of biases before a batch norm, whose gradient is nothing but rounding; so only equal logits do.
    difference = max((weights[key].double() - online[1][key].double()).abs().max() for key in weights)
    assert difference < 1e-4
    # The teacher matters: without its terms the losses would agree in any case.
    assert online[0][:, 1:].min() > 0.05


def test_students_of_corrupted_copies_share_the_cache_of_clean_views(shapes, checkpoint, caches, online):
    corrupt = dict(kinds=('prime', 'holdout'))
    live, _ = run_steps(shapes, dict(checkpoint=str(checkpoint)), corrupt=corrupt)
    cached, _ = run_steps(shapes, dict(checkpoint=str(checkpoint), cache=str(caches['fp32'])), corrupt=corrupt)
    assert (cached - live).abs().max() < 1e-5
    assert (live - online[0]).abs().max() > 0.01


def test_cached_training_in_half_precision_is_close(shapes, caches, online):
    losses, _ = run_steps(shapes, dict(cache=str(caches['fp16'])))
    assert (losses - online[0])[:, :2].abs().max() < 1e-3


def test_training_needs_no_teacher_and_students_share_a_cache(shapes, caches, tmp_path, capsys):
    for seed, width in ((0, 8), (1, 16)):
        chosen = ['model.teacher.cache=' + str(caches['fp16']), f'randomness.seed={seed}']
        chosen += [f'model.student.dims=[{width},16,32,64]', 'train_cfg.max_epochs=1', 'train_cfg.val_interval=1']
        command = [str(CONFIG), '--data-root', str(shapes), '--work-dir', str(tmp_path / str(seed))]
        settings = [*options(tmp_path / 'gone.pth'), *chosen]
        assert train([*command, '--cfg-options', *settings]) == 0, capsys.readouterr().err
    record = json.loads((tmp_path / '0' / 'student_best.json').read_text())
    assert record['teacher']['cache'] == str(caches['fp16'])
    assert record['teacher']['model'] == NAME


@pytest.mark.slow
def test_two_processes_of_torchrun_write_what_one_does(shapes, checkpoint, caches, tmp_path, torchrun):
    cache = tmp_path / 'cache'
    arguments = [CONFIG, '--data-root', shapes, '--out', cache, '--launcher', 'pytorch', '--verify', '4']
    done = torchrun('cache_teacher.py', *arguments, '--cfg-options', *options(checkpoint))
    assert done.returncode == 0, done.stderr[-2000:]
    expected = caches['fp16']
    manifests = [json.loads((folder / 'manifest.json').read_text()) for folder in (cache, expected)]
    assert manifests[0] == manifests[1]
    for path in sorted(expected.glob('*.rows')):
        rows, of_one = (np.frombuffer((folder / path.name).read_bytes(), np.float16) for folder in (cache, expected))
        assert np.abs(rows - of_one).max() <= math.ldexp(1, -7), path
