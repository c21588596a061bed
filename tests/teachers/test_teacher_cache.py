"""The teacher cache: training from it is training with the teacher, and it says when it would not be."""

import json
import math
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from backbones.checkpoint import build_model, save_model
from backbones.record import ModelRecord
from distill.base.seeding import seed_everything
from distill.cli.cache import main as cache_teacher
from distill.cli.train import main as train
from distill.data.sampler import ViewSampler
from distill.data.views import Views
from distill.teachers.cache.store import Store
from distill.teachers.cached import CachedTeacher
from distill.training.distiller import Distiller

CONFIG = Path(__file__).parents[2] / 'distill/configs/shapes/deit-mini_robust-resnet-tiny_shapes.py'
TEACHER = dict(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=10)
STUDENT = dict(model='robust_resnet_dw_small', dims=(8, 16, 32, 64), depths=(1, 1, 1, 1), kernel_size=3, patch_size=4)
MIXUP = dict(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=10, mode='pair')
TRANSFORM = Config.fromfile(CONFIG).train_dataloader.dataset.transform
BATCH = 8


def options(checkpoint: Path, **overrides) -> list[str]:
    """Settings in place of the config's."""
    settings = {
        'model.teacher.checkpoint': checkpoint,
        'model.student.dims': '[8,16,32,64]',
        'model.student.depths': '[1,1,1,1]',
        'model.student.kernel_size': 3,
        'model.data_preprocessor.random_erasing': 0.5,
        **{f'model.data_preprocessor.mixup.{name}': value for name, value in MIXUP.items()},
        'model.losses.0.label_smoothing': 0,
        'train_dataloader.dataset.seed': 11,
        'train_dataloader.batch_size': BATCH,
        'train_dataloader.num_workers': 0,
        'train_dataloader.persistent_workers': False,
        'val_dataloader.num_workers': 0,
        'val_dataloader.persistent_workers': False,
        'train_cfg.max_epochs': 2,
        'visualizer.vis_backends': '[]',
        **{name.replace('__', '.'): value for name, value in overrides.items()},
    }
    return [f'{name}={value}' for name, value in settings.items()]


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory) -> Path:
    """A small DeiT whose predictions are far from even."""
    torch.manual_seed(3)
    model = build_model('deit_tiny_patch16_224', **TEACHER)
    torch.nn.init.normal_(model.head.weight, std=0.5)
    path = tmp_path_factory.mktemp('teacher') / 'student_best.pth'
    save_model(path, model, ModelRecord.from_json({'model': 'deit_tiny_patch16_224', 'model_kwargs': TEACHER}))
    return path


@pytest.fixture(scope='module')
def write(shapes, checkpoint):
    """Run the command line."""

    def run(out: Path, *arguments: str, **overrides) -> int:
        command = [str(CONFIG), '--data-root', str(shapes), '--out', str(out), *arguments]
        return cache_teacher([*command, '--cfg-options', *options(checkpoint, **overrides)])

    return run


@pytest.fixture(scope='module')
def caches(write, tmp_path_factory) -> dict[str, Path]:
    """Caches of all classes in both precisions, and of three classes."""
    folder = tmp_path_factory.mktemp('caches')
    arguments = {'fp32': ['--dtype', 'float32'], 'fp16': [], 'top3': ['--topk', '3']}
    for name, chosen in arguments.items():
        assert write(folder / name, '--verify', '8', *chosen) == 0
    return {name: folder / name for name in arguments}


def run_steps(shapes: Path, teacher: dict, temperature: float = 1.0) -> tuple[torch.Tensor, dict]:
    """Twenty training steps as `Runner` makes them; returns the losses of each and the weights."""
    config = dict(
        dataset=dict(type='Views', root=str(shapes), split='train', transform=TRANSFORM, seed=11),
        sampler=dict(type='ViewSampler', shuffle=True),
        batch_size=BATCH,
        collate_fn=dict(type='default_collate'),
    )
    loader = Runner.build_dataloader(config, seed=1)
    seed_everything(1)
    losses = [
        dict(type='cross_entropy', weight=0.5),
        dict(type='soft_target_kl', weight=0.5, temperature=temperature),
    ]
    preprocessor = dict(type='ViewPreprocessor', random_erasing=0.5, mixup=MIXUP)
    student = dict(STUDENT, num_classes=10, drop_path_rate=0.2)
    model = Distiller(student, teacher, losses, preprocessor).train()
    if 'cache' in teacher:
        model.teacher.check(loader.dataset, loader.sampler, model.data_preprocessor)
    optimizer = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05))
    logs = []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            seed_everything(1, len(logs), 0)
            log = model.train_step(batch, optimizer)
            logs.append(torch.stack([log['loss_cross_entropy'], log['loss_soft_target_kl']]).detach())
    assert len(logs) == 20
    return torch.stack(logs), model.state_dict()


@pytest.fixture(scope='module')
def online(shapes, checkpoint):
    return run_steps(shapes, dict(checkpoint=str(checkpoint)))


def largest_difference(weights: dict, others: dict) -> float:
    return max((weights[key].double() - others[key].double()).abs().max().item() for key in weights)


def test_cached_training_is_online_training(shapes, checkpoint, caches, online):
    losses, weights = run_steps(shapes, dict(checkpoint=str(checkpoint), cache=str(caches['fp32'])))
    assert (losses - online[0]).abs().max() < 1e-5
    # Adam makes steps of biases before a batch norm, whose gradient is nothing but rounding; so only equal logits do.
    assert largest_difference(weights, online[1]) < 1e-4
    # The teacher has a say: without its term the losses would agree in any case.
    assert online[0][:, 1].min() > 0.05


def test_cached_training_in_half_precision_is_close(shapes, caches, online):
    losses, _ = run_steps(shapes, dict(cache=str(caches['fp16'])))
    assert (losses - online[0]).abs().max() < 1e-3


def test_temperature_is_exact_with_all_classes(shapes, checkpoint, caches):
    expected, _ = run_steps(shapes, dict(checkpoint=str(checkpoint)), temperature=3.0)
    losses, _ = run_steps(shapes, dict(cache=str(caches['fp32'])), temperature=3.0)
    assert (losses - expected).abs().max() < 1e-5
    assert CachedTeacher(caches['fp16']).exact
    assert not CachedTeacher(caches['top3']).exact


def test_row_by_hand(tmp_path):
    store = Store(tmp_path, 2, num_classes=4, topk=2, dtype='float32')
    rows = store.pack(torch.tensor([[0.5, 0.15, 0.3, 0.05], [0.0, 1.0, 0.0, 0.0]]).log())
    assert rows['class'].tolist()[0] == [0, 2]
    expected = torch.tensor([[0.5, 0.1, 0.3, 0.1], [0.0, 1.0, 0.0, 0.0]])
    torch.testing.assert_close(store.unpack(rows).exp(), expected, atol=1e-7, rtol=1e-6)
    assert store.unpack(rows).isfinite()[0].all()
    half = Store(tmp_path, 1, num_classes=4, topk=4, dtype='float16')
    logits = torch.tensor([[30.0, 0.0, -5.0, 12.0]])
    torch.testing.assert_close(half.unpack(half.pack(logits)), logits.log_softmax(1), rtol=1e-3, atol=0)


@pytest.mark.parametrize(('classes', 'topk'), [(10, 10), (1000, 1), (1000, 10), (1000, 1000), (65536, 10)])
def test_a_view_takes_no_more_than_four_bytes_a_class_and_four(tmp_path, classes, topk):
    store = Store(tmp_path, 1000, classes, topk, 'float16')
    assert store.row_type.itemsize <= 4 + 4 * topk
    np.zeros(1000, store.row_type).tofile(store.path(0))
    assert store.path(0).stat().st_size <= 1000 * (4 + 4 * topk)


def test_files_hold_nothing_but_rows(caches):
    # Two epochs of 80 images; three log-probabilities and classes of two bytes each.
    assert sum(path.stat().st_size for path in caches['top3'].glob('*.rows')) == 160 * 3 * 4


def test_few_classes_keep_the_largest_and_spread_the_rest(caches):
    keys = torch.tensor([[index, view] for view in (0, 1) for index in range(80)])
    everything = CachedTeacher(caches['fp32'])(torch.empty(0), None, None, keys)[0].softmax(1)
    few = CachedTeacher(caches['top3'])(torch.empty(0), None, None, keys)[0].exp()
    largest, classes = everything.topk(3, dim=1)
    torch.testing.assert_close(few.gather(1, classes), largest, atol=0, rtol=2e-3)
    torch.testing.assert_close(few.sum(1), torch.ones(160), atol=2e-3, rtol=0)
    rest = few.scatter(1, classes, 0).sort(dim=1).values[:, 3:]
    torch.testing.assert_close(rest, ((1 - few.gather(1, classes).sum(1)) / 7).view(-1, 1).expand(-1, 7))


def test_training_needs_no_teacher_and_students_share_a_cache(shapes, caches, tmp_path, capsys):
    cached = ['model.teacher.cache=' + str(caches['fp16'])]
    for seed, width in ((0, 8), (1, 16)):
        chosen = [f'randomness.seed={seed}', f'model.student.dims=[{width},16,32,64]']
        command = [str(CONFIG), '--data-root', str(shapes), '--work-dir', str(tmp_path / str(seed))]
        gone = options(tmp_path / 'gone.pth')
        assert train([*command, '--cfg-options', *gone, *cached, *chosen]) == 0, capsys.readouterr().err
    description = json.loads((tmp_path / '0' / 'student_best.json').read_text())
    assert description['teacher']['cache'] == str(caches['fp16'])
    assert description['teacher']['model'] == 'deit_tiny_patch16_224'


def test_each_mismatch_is_one_line_that_says_what_differs(shapes, checkpoint, caches, tmp_path, capsys):
    other = tmp_path / 'other' / 'student_best.pth'
    weights = build_model(checkpoint=checkpoint)
    with torch.no_grad():
        weights.head.bias += 1
    save_model(other, weights, ModelRecord.from_json({'model': 'deit_tiny_patch16_224', 'model_kwargs': TEACHER}))
    smaller = tmp_path / 'smaller'
    shutil.copytree(shapes, smaller)
    sorted((smaller / 'train' / 'circle').iterdir())[0].unlink()
    older = tmp_path / 'older'
    shutil.copytree(caches['fp16'], older)
    manifest = json.loads((older / 'manifest.json').read_text())
    manifest['run']['versions']['timm'] = '0.1'
    (older / 'manifest.json').write_text(json.dumps(manifest))
    incomplete = tmp_path / 'incomplete'
    shutil.copytree(caches['fp16'], incomplete)
    (incomplete / '000003.rows').unlink()
    damaged = tmp_path / 'damaged'
    shutil.copytree(caches['fp16'], damaged)
    os.truncate(damaged / '000000.rows', 10)
    cache = caches['fp16']
    cases = [
        (
            cache,
            shapes,
            dict(train_dataloader__dataset__transform__color_jitter=0.3),
            'color_jitter was 0.2 and is 0.3',
        ),
        (cache, shapes, dict(train_dataloader__dataset__seed=12), 'views.seed was 11 and is 12'),
        (cache, shapes, dict(train_dataloader__sampler__repeats=2), 'views.repeats was 1 and is 2'),
        (cache, shapes, {'model.data_preprocessor.mixup.mixup_alpha': 0.1}, 'batch.mixup.mixup_alpha was 0.8 and is'),
        (cache, shapes, {'model.data_preprocessor.random_erasing': 0}, 'batch.random_erasing was 0.5 and is 0'),
        (cache, shapes, {'model.data_preprocessor.mixup.mode': 'batch'}, "mode 'batch' depends on the batch"),
        (cache, shapes, {'model.teacher.checkpoint': other}, 'weights_sha256 was'),
        (cache, shapes, {'model.teacher.checkpoint': checkpoint, 'model.teacher.depth': 3}, 'depth was 2 and is 3'),
        (cache, smaller, {}, 'data.images was 80 and is 79'),
        (older, shapes, {}, 'versions.timm was 0.1 and is'),
        (incomplete, shapes, {}, f"cache '{incomplete}' lacks 1 of 16 files"),
        (damaged, shapes, {}, "000000.rows' is damaged: it has not 10 rows"),
        (tmp_path, shapes, {}, f"'{tmp_path}' has no manifest.json; write the cache by tools/cache_teacher.py"),
    ]
    for folder, data_root, overrides, message in cases:
        capsys.readouterr()
        command = [str(CONFIG), '--data-root', str(data_root), '--work-dir', str(tmp_path / 'work')]
        chosen = options(checkpoint, **{'model.teacher.cache': folder, **overrides})
        assert train([*command, '--cfg-options', *chosen]) == 1, message
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1, lines
        assert message in lines[0]
        assert not list((tmp_path / 'work').glob('*.pth'))


def test_writing_goes_on_where_it_stopped_and_verifying_finds_what_is_false(write, caches, tmp_path, capsys):
    cache = tmp_path / 'cache'
    shutil.copytree(caches['fp16'], cache)
    for name in ('000002.rows', '000015.rows'):
        (cache / name).unlink()
    (cache / '.000002.rows.1.tmp').write_bytes(b'half')
    kept = (cache / '000003.rows').stat().st_mtime_ns
    assert write(cache) == 0
    for path in sorted(caches['fp16'].glob('*.rows')):
        assert (cache / path.name).read_bytes() == path.read_bytes(), path
    assert (cache / '000003.rows').stat().st_mtime_ns == kept

    capsys.readouterr()
    assert write(cache, '--topk', '3') == 1
    assert 'cache.topk was 10 and is 3' in capsys.readouterr().err
    rows = (cache / '000003.rows').read_bytes()
    (cache / '000003.rows').write_bytes(rows[20:] + rows[:20])
    assert write(cache, '--verify', '80') == 1
    assert 'differs from the teacher by' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('arguments', 'overrides', 'message'),
    [
        (['--topk', '11'], {}, '--topk is 11 and the teacher has 10 classes; give 1 to 10'),
        (['--views', '0'], {}, '--views is 0; give 1 or more'),
        (['--views', '3'], dict(train_dataloader__sampler__repeats=2), '3 views cannot be had with 2 an epoch'),
        ([], {'model.data_preprocessor.mixup.mode': 'elem'}, "mixup mode 'elem' depends on the batch"),
        ([], {'model.teacher': 'None', 'model.losses': '[{"type":"cross_entropy"}]'}, 'has 0 teachers and no number 0'),
        ([], {'model.teacher.cache': 'elsewhere'}, 'comes from a cache itself; drop model.teacher.cache'),
    ],
)
def test_impossible_caches_are_refused(write, tmp_path, capsys, arguments, overrides, message):
    assert write(tmp_path / 'cache', *arguments, **overrides) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / 'cache').exists()


def test_with_fewer_views_than_epochs_the_views_start_again(shapes, write, tmp_path):
    assert write(tmp_path / 'cache', '--views', '1') == 0
    teacher = CachedTeacher(tmp_path / 'cache')
    sampler = ViewSampler(Views(str(shapes), 'train', transform=TRANSFORM, seed=11), seed=0)
    sampler.epochs = teacher.epochs
    sampler.set_epoch(1)
    keys = torch.tensor(list(sampler))
    assert keys[:, 1].unique().tolist() == [0]
    logits, maps = teacher(torch.empty(0), None, None, keys)
    assert logits.shape == (80, 10)
    assert maps == []
    with pytest.raises(ValueError, match=r'has no prediction for layers \(2,\)'):
        teacher(torch.empty(0), None, None, keys, layers=(2,))


def test_repeated_augmentation_is_cached(write, tmp_path):
    assert write(tmp_path / 'cache', '--verify', '120', train_dataloader__sampler__repeats=3) == 0
    teacher = CachedTeacher(tmp_path / 'cache')
    # Two epochs of 14 pairs three times each, of which the last is cut when an epoch has 80 views.
    assert (teacher.store.rows, teacher.epochs) == (2 * 14 * 2 * 3, 2)


@pytest.mark.slow
def test_two_processes_write_what_one_does(shapes, checkpoint, caches, tmp_path, torchrun):
    arguments = [CONFIG, '--data-root', shapes, '--out', tmp_path / 'cache', '--launcher', 'pytorch', '--verify', '4']
    done = torchrun('cache_teacher.py', *arguments, '--cfg-options', *options(checkpoint))
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads((tmp_path / 'cache' / 'manifest.json').read_text()) == json.loads(
        (caches['fp16'] / 'manifest.json').read_text()
    )
    for path in sorted(caches['fp16'].glob('*.rows')):
        ours = np.frombuffer((tmp_path / 'cache' / path.name).read_bytes(), np.float16)
        assert np.abs(ours - np.frombuffer(path.read_bytes(), np.float16)).max() <= math.ldexp(1, -7), path
