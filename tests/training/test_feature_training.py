"""Runs that train a student with teachers of features, on images without labels."""

import os
import re
import shutil
import signal
from pathlib import Path

import pytest
import timm
import torch
from processes import run_two, start
from small_runs import CONFIGS, STEPWISE, assert_same_checkpoints

import backbones
import distill
from backbones.checkpoint import read_weights, save_model
from backbones.record import ModelRecord
from distill.base.images import normalise
from distill.cli.train import main as train
from distill.data.memory import MemoryViews
from distill.synthetic.imagenet_like import write_imagenet_like

NARROW = dict(channels=(16, 32, 64, 64), stem_width=8)
CONFIG = """
_base_ = ['{configs}/_base_/shapes.py', '{configs}/_base_/default_runtime.py']
train_dataloader = dict(batch_size=16, dataset=dict(labels=False))
val_dataloader = val_evaluator = val_cfg = test_dataloader = test_evaluator = test_cfg = None
model = dict(
    _delete_=True,
    type='FeatureDistiller',
    balance={balance!r},
    student={student!r},
    teachers=[
        dict(
            name='one',
            checkpoint='{teacher}',
            losses=[
                dict(type='cosine', head='mlp'),
                dict(type='radio', on='grid', student_layer={layer}),
                dict(type='pseudo_classes', queue=64, weight=0.1),
            ],
        ),
        *{others!r},
    ],
    data_preprocessor=dict(type='ViewPreprocessor', random_erasing={erasing}),
)
default_hooks = dict(save_student=dict(metric='last'))
visualizer = dict(vis_backends=[])
"""
ROBUST = dict(model='robust_resnet_dw_small', dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), kernel_size=3, patch_size=4)
VIT = dict(model='vit_tiny_patch16_224', img_size=32, embed_dim=32, depth=3, num_heads=2)
SECOND = dict(
    name='two',
    model='vit_tiny_patch16_224',
    pretrained=False,
    img_size=32,
    num_classes=5,
    embed_dim=32,
    depth=1,
    num_heads=2,
    weight=0.5,
    losses=[dict(type='soft_target_kl', on='logits'), dict(type='mse', on='grid', student_layer=2)],
)


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    """Ten classes, 400 training and 200 validation images of 32 px."""
    root = tmp_path_factory.mktemp('features') / 'imagenet'
    write_imagenet_like(root, size=32, train=400, val=200, shifted=0)
    return root


def shown(root: Path, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalised images and labels of a part."""
    views = MemoryViews(str(root), split, transform=dict(input_size=32, interpolation='bicubic', crop_pct=1.0))
    images, labels = zip(*(views[i][:2] for i in range(len(views))), strict=True)
    mean, std = (torch.tensor(one).view(1, 3, 1, 1) for one in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return normalise(torch.stack(images), mean, std), torch.tensor(labels)


def knn_pct(network: torch.nn.Module, root: Path) -> float:
    """Accuracy of the five nearest training images, by the cosine of embeddings."""
    (known, labels), (asked, truth) = shown(root, 'train'), shown(root, 'val')
    with torch.no_grad():
        of_known, of_asked = (torch.nn.functional.normalize(network.eval()(images)) for images in (known, asked))
    nearest = labels[(of_asked @ of_known.t()).topk(5).indices]
    return (nearest.mode(dim=1).values == truth).float().mean().item() * 100


@pytest.fixture(scope='module')
def teacher(data, tmp_path_factory) -> Path:
    """A network that knows the classes of the shapes, in a file."""
    torch.manual_seed(0)
    network = timm.create_model('resnet10t', num_classes=10, **NARROW).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3, weight_decay=0.05)
    images, labels = shown(data, 'train')
    for _ in range(120):
        chosen = torch.randint(len(images), (32,))
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(images[chosen]), labels[chosen]).backward()
        optimizer.step()
    path = tmp_path_factory.mktemp('teacher') / 'teacher.safetensors'
    save_model(path, network, ModelRecord('resnet10t', {'num_classes': 10, **NARROW}))
    return path


def write_config(path: Path, teacher: Path, **changed) -> Path:
    settings = dict(student=ROBUST, layer=1, others=[], balance='weights', erasing=0.5) | changed
    path.write_text(CONFIG.format(configs=CONFIGS.parent, teacher=teacher, **settings))
    return path


@pytest.fixture(scope='module')
def config(teacher, tmp_path_factory) -> Path:
    return write_config(tmp_path_factory.mktemp('config') / 'features.py', teacher)


def run(config: Path, data: Path, work_dir: Path, *arguments: str, epochs: int = 2, options=()) -> int:
    command = [str(config), '--data-root', str(data), '--work-dir', str(work_dir), *arguments]
    return train([*command, '--cfg-options', f'train_cfg.max_epochs={epochs}', *options])


@pytest.fixture(scope='module')
def trained(config, data, tmp_path_factory) -> Path:
    """Work directory of two epochs of 25 steps, and a checkpoint in the middle of each."""
    work_dir = tmp_path_factory.mktemp('trained')
    options = [*STEPWISE[:1], 'default_hooks.checkpoint.interval=10', *STEPWISE[2:]]
    assert run(config, data, work_dir, options=options) == 0
    return work_dir


@pytest.mark.parametrize('step', [10, 30])
def test_a_run_that_was_stopped_ends_with_the_weights_of_one_that_was_not(step, trained, config, data, tmp_path):
    """In the first epoch while statistics and queue fill up, and in the second."""
    shutil.copy(trained / f'iter_{step}.pth', tmp_path)
    options = [*STEPWISE[:1], 'default_hooks.checkpoint.interval=10', *STEPWISE[2:]]
    assert run(config, data, tmp_path, '--resume', options=options) == 0
    assert_same_checkpoints(trained / 'iter_50.pth', tmp_path / 'iter_50.pth')
    assert ModelRecord.read(tmp_path / 'student_best.pth') == ModelRecord.read(trained / 'student_best.pth')


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_weights_of_one_that_was_not(trained, config, data, tmp_path):
    """In the second epoch, three steps after a checkpoint."""
    options = [*STEPWISE[:1], 'default_hooks.checkpoint.interval=10', *STEPWISE[2:], 'train_cfg.max_epochs=2']
    command = [config, '--data-root', data, '--work-dir', tmp_path, '--cfg-options', *options]
    started = start('train', [*command, 'default_hooks.logger.interval=1'])
    assert any('Epoch(train) [2][ 8/25]' in line for line in started.lines())
    os.kill(started.process.pid, signal.SIGKILL)
    started.process.join(60)
    assert started.process.exitcode == -signal.SIGKILL
    assert not (tmp_path / 'iter_50.pth').exists()
    assert run(config, data, tmp_path, '--resume', options=options) == 0
    assert_same_checkpoints(trained / 'iter_50.pth', tmp_path / 'iter_50.pth')


def test_checkpoints_hold_heads_statistics_and_queue_and_no_teacher_and_the_student_is_alone(trained, teacher):
    found = torch.load(trained / 'iter_50.pth', weights_only=True)
    names = [name for name in found['state_dict'] if not name.startswith('student.')]
    assert {name.split('.')[2] for name in names} == {'heads', 'statistics', 'terms'}
    assert found['state_dict']['terms.0.terms.2.queue.rows'].norm(dim=1).min() > 0.5
    of_teacher = [value for value in read_weights(teacher).values() if value.ndim == 4]
    assert not any(torch.equal(one, value) for one in of_teacher for value in found['state_dict'].values())
    # The average, as in the checkpoint; what was trained stands beside it.
    student = read_weights(trained / 'student_best.safetensors')
    assert all(torch.equal(found['state_dict'][f'student.{name}'], value) for name, value in student.items())
    assert any(
        not torch.equal(found['ema_state_dict'][f'module.student.{name}'], value) for name, value in student.items()
    )
    assert len(student) == sum(name.startswith('student.') for name in found['state_dict'])
    record = ModelRecord.read(trained / 'student_best.pth')
    assert (record.classes, record.input_size, record.epoch, record.scores) == (None, [3, 32, 32], 1, {})
    assert record.teacher['name'] == 'one'
    loaded = backbones.load(trained / 'student_best.safetensors')
    assert loaded.num_classes == 0
    assert loaded.network(torch.zeros(1, 3, 32, 32)).shape == (1, loaded.network.num_features)


def test_an_infinite_loss_stops_the_run_and_names_the_term(trained, config, data, tmp_path, capsys):
    shutil.copy(trained / 'iter_30.pth', tmp_path)
    assert run(config, data, tmp_path, '--resume', options=['model.teachers.0.losses.1.weight=1e39']) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert f'loss_one_grid_radio is inf at step 31 (epoch 2); the last good checkpoint is {tmp_path}' in lines[0]
    assert [path.name for path in tmp_path.glob('*.pth')] == ['iter_30.pth']


def test_a_mistake_is_one_line_before_the_work_begins(config, data, tmp_path, capsys):
    for options, message in (
        (['model.teachers.0.layer=9'], "layer 9 of the teacher 'one' is out of range; choose from 0 … 4"),
        (['model.teachers.0.share=0'], "teacher 'one' has the share 0 of each batch"),
        (['model.student.num_classes=0', 'model.teachers.0.losses.0.head=wide'], "the head 'wide', which is unknown"),
    ):
        assert run(config, data, tmp_path / 'none', options=options) == 1
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        assert message in lines[0]


def test_classes_are_not_asked_of_a_student_that_has_none(config, data, tmp_path, capsys):
    path = tmp_path / 'classes.py'
    path.write_text(re.sub('val_dataloader = .*None', '', config.read_text()))
    assert run(path, data, tmp_path / 'none') == 1
    assert 'val_evaluator is TopK, and a student of features predicts no classes; set' in capsys.readouterr().err


def test_without_validation_a_metric_is_told_to_be_of_no_use(config, data, tmp_path, capsys):
    assert run(config, data, tmp_path, epochs=1, options=['default_hooks.save_student.metric=top1_pct']) == 0
    assert 'the run has no validation, whose top1_pct would tell the best student' in capsys.readouterr().out
    assert not (tmp_path / 'student_best.pth').exists()


@pytest.mark.parametrize('network', ['student', 'ema'])
def test_the_best_student_by_neighbours_is_saved(network, teacher, data, tmp_path):
    config = write_config(tmp_path / 'best.py', teacher)
    hook = f"custom_hooks = [dict(type='KnnScoresHook', data_root={str(data)!r}, images_of_class=4)]"
    config.write_text(f'{config.read_text()}{hook}\n')
    metric = f'knn/{network}_top1_pct'
    options = [f'default_hooks.save_student.metric={metric}', 'default_hooks.checkpoint.max_keep_ckpts=9']
    assert run(config, data, tmp_path / 'run', epochs=3, options=options) == 0
    log = next((tmp_path / 'run').glob('*/*.log')).read_text()
    scores = [float(one) for one in re.findall(rf'k-NN top1_pct.* {network}: ([0-9.]+)', log)]
    record = ModelRecord.read(tmp_path / 'run' / 'student_best.pth')
    assert len(scores) == 3
    assert record.scores == {metric: pytest.approx(max(scores), abs=0.01)}
    assert record.epoch == scores.index(max(scores)) + 1
    found = torch.load(tmp_path / 'run' / f'epoch_{record.epoch}.pth', weights_only=True)
    part, prefix = ('state_dict', 'student.') if network == 'ema' else ('ema_state_dict', 'module.student.')
    for name, value in read_weights(tmp_path / 'run' / 'student_best.safetensors').items():
        assert torch.equal(found[part][prefix + name], value), name
    config.write_text(config.read_text().replace(hook, ''))
    command = [str(config), '--data-root', str(data), '--work-dir', str(tmp_path / 'none'), '--cfg-options']
    assert train([*command, *options]) == 1


def test_a_student_learns_what_its_teacher_knows_without_a_label(teacher, data, tmp_path):
    torch.manual_seed(1)
    untrained_pct = knn_pct(timm.create_model('resnet10t', num_classes=0, **NARROW), data)
    student = dict(model='resnet10t', **NARROW)
    config = write_config(tmp_path / 'learn.py', teacher, student=student, layer=None, erasing=0.0)
    assert run(config, data, tmp_path / 'run', epochs=4) == 0
    log = next((tmp_path / 'run').glob('*/*.log')).read_text()
    cosines = [float(one) for one in re.findall(r'loss_one_pooled_cosine: ([0-9.]+)', log)]
    assert len(cosines) == 4
    assert cosines[-1] < 0.6 * cosines[0]
    learnt_pct = knn_pct(backbones.load(tmp_path / 'run' / 'student_best.safetensors').network, data)
    print('KNN', untrained_pct, learnt_pct, cosines)
    assert learnt_pct > untrained_pct + 15


def test_a_call_takes_another_teacher_and_a_network_of_ones_own(config, teacher, data, tmp_path):
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 4, 4), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    )
    losses = {'model.teachers.0.losses': [dict(type='cosine')], 'model.teachers.0.layer': -1}
    result = distill.train(str(config), data, tmp_path / 'a', student=network, teacher=teacher, epochs=1, **losses)
    student = result.student()
    assert student.record.teacher == {
        'name': 'one',
        'checkpoint': str(teacher),
        'pooling': None,
        'layer': None,
        'size': None,
    }
    assert not torch.equal(student.network[0].weight, network[0].weight)
    settings = dict(checkpoint=str(teacher), share=0.5, layer=2)
    again = distill.train(str(config), data, tmp_path / 'b', teacher=settings, epochs=1)
    assert again.student().record.teacher['layer'] == 2


@pytest.mark.slow
@pytest.mark.parametrize('balance', ['weights', 'size'])
def test_two_processes_make_the_first_step_of_one_with_twice_the_batch(balance, teacher, data, tmp_path):
    """With two teachers, PHI-S and a queue; the student has no batch norm, whose statistics are each process's own."""
    config = write_config(tmp_path / 'two.py', teacher, student=VIT, others=[SECOND], balance=balance)
    options = [*STEPWISE, 'param_scheduler=None', 'optim_wrapper.optimizer.type=SGD', 'optim_wrapper.optimizer.lr=0.1']
    alone, two = tmp_path / 'alone', tmp_path / 'two'
    assert run(config, data, alone, epochs=1, options=[*options, 'train_dataloader.batch_size=200']) == 0
    command = [config, '--data-root', data, '--work-dir', two, '--cfg-options', 'train_cfg.max_epochs=1', *options]
    run_two('train', [*command, 'train_dataloader.batch_size=100'])
    first, second = (torch.load(alone / f'iter_{n}.pth', weights_only=True)['state_dict'] for n in (1, 2))
    assert max((second[key] - value).abs().max() for key, value in first.items()) > 1e-3
    of_two = torch.load(two / 'iter_1.pth', weights_only=True)['state_dict']
    for key, value in first.items():
        # The queue has the embeddings in the order of the processes; eigenvectors of one eigenvalue have none.
        if 'queue' not in key and 'transform' not in key:
            torch.testing.assert_close(of_two[key], value, atol=1e-5, rtol=1e-5)
