"""Every distillation config is built, and each recipe's numbers are read off the real optimizer and schedule."""

import copy
import functools
import math
import re
from pathlib import Path

import pytest
import timm
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS, PARAM_SCHEDULERS
from timm.data import create_transform
from timm.scheduler import CosineLRScheduler
from torch import nn

from distill.data.transforms import view_transform

ROOT = Path(__file__).parents[2] / 'distill' / 'configs'
# Students without classes have a module of tests of their own.
LEAVES = {
    path.stem: path
    for path in sorted(ROOT.rglob('*.py'))
    if path.parent.name[0] != '_' and path.parent.name != 'foundation'
}


@functools.cache
def read(name: str) -> Config:
    return Config.fromfile(LEAVES[name])


def load(name: str) -> Config:
    """A config of one's own."""
    return copy.deepcopy(read(name))


def teacher_of(config: dict) -> dict:
    """A teacher's config without its weights: of a checkpoint that a run leaves, the student of that run's config."""
    if 'checkpoint' not in config:
        return {**config, 'pretrained': False}
    folder, run, file = config['checkpoint'].split('/')
    assert (folder, file) == ('work_dirs', 'student_best.pth')
    return {**load(run).model.student, 'pretrained': False}


def build(name: str) -> nn.Module:
    """The model of a config, on the meta device."""
    model = load(name).model
    if model.get('teacher') is not None:
        model.teacher = teacher_of(model.teacher)
    with torch.device('meta'):
        return MODELS.build(model)


def optimizer_of(config: Config, model: nn.Module):
    wrapper = OPTIM_WRAPPER_CONSTRUCTORS.build(
        dict(type=config.optim_wrapper.pop('constructor'), optim_wrapper_cfg=config.optim_wrapper)
    )
    return wrapper(model)


def rates(name: str, epochs: list[int], steps: int = 4) -> list[float]:
    """The learning rate at the first step of these epochs, and at the very last step."""
    config = load(name)
    wrapper = optimizer_of(config, nn.Linear(2, 2))
    schedulers = [
        PARAM_SCHEDULERS.build(scheduler, default_args=dict(optimizer=wrapper, epoch_length=steps))
        for scheduler in config.param_scheduler
    ]
    seen = []
    for _ in range(config.train_cfg.max_epochs):
        for _ in range(steps):
            seen.append(wrapper.optimizer.param_groups[0]['lr'])
            wrapper.step()
            for scheduler in schedulers:
                if not scheduler.by_epoch:
                    scheduler.step()
        for scheduler in schedulers:
            if scheduler.by_epoch:
                scheduler.step()
    return [seen[epoch * steps] for epoch in epochs] + [seen[-1]]


@pytest.mark.parametrize('name', LEAVES)
def test_config_builds_and_says_how_to_run_it_at_what_cost_and_for_what_score(name):
    header = LEAVES[name].read_text().split('"""')[1]
    assert re.search(r'^(python|torchrun .*) ?tools/train.py (THIS_FILE|distill/configs/)', header, re.M)
    for part in ('Hardware:', 'Cost:', 'Target:'):
        assert part in header
    commands = re.findall(r'distill/configs/(\S+)\.py', header)
    assert all((ROOT / f'{command}.py').is_file() for command in commands)

    config = load(name)
    model = build(name)
    assert model.student.num_classes == config.num_classes
    size = config.train_dataloader.dataset.transform.input_size
    assert config.val_dataloader.dataset.transform.input_size == size
    logits = model.eval()(torch.zeros(2, 3, size, size, device='meta'))
    assert logits.shape == (2, config.num_classes)
    assert sum(loss.get('weight', 1.0) for loss in config.model.losses) == 1.0


@pytest.mark.parametrize('name', [name for name, path in LEAVES.items() if path.parent.name != 'imagenet'])
def test_small_config_makes_a_step(name):
    config = load(name)
    if config.model.get('teacher') is not None:
        config.model.teacher = teacher_of(config.model.teacher)
    torch.manual_seed(0)
    model = MODELS.build(config.model).train()
    before = copy.deepcopy(model.state_dict())
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    batch = [images, torch.arange(4), torch.arange(4), torch.zeros(4).long(), torch.arange(4)]
    losses = model.train_step(batch, optimizer_of(config, model))
    assert len(losses) == len(config.model.losses) + 1  # Their sum.
    assert all(torch.as_tensor(loss).isfinite() for loss in losses.values())
    weights = [key for key, value in before.items() if key.endswith('.weight') and value.ndim > 1]
    assert [key for key in weights if torch.equal(model.state_dict()[key], before[key])] == []


def levels(path: Path) -> int:
    """How many times over a config inherits."""
    bases = re.search(r'^_base_ = (.*?)$', path.read_text(), re.M)
    files = re.findall(r"'([^']+)'", bases.group(1)) if bases else []
    return max((1 + levels((path.parent / file).resolve()) for file in files), default=0)


def test_configs_inherit_over_three_levels_at_most():
    assert {name for name, path in LEAVES.items() if levels(path) > 3} == set()


TAUGHT = [name for name in LEAVES if read(name).model.get('teacher') is not None]
SOFT = [
    name for name in TAUGHT if {loss.type for loss in read(name).model.losses} == {'cross_entropy', 'soft_target_kl'}
]


@pytest.mark.parametrize('name', SOFT)
def test_run_with_soft_targets_differs_from_one_run_without_in_nothing_else(name):
    """What the teacher adds can then be read off the two."""
    taught, runs = load(name), [load(other) for other in LEAVES if other not in TAUGHT]

    def setting(run) -> tuple:
        return run.model.student, run.data_root, run.train_dataloader.dataset.get('corrupt')

    same = [run for run in runs if setting(run) == setting(taught)]
    assert len(same) == 1
    for key in ('teacher', 'losses'):
        taught.model.pop(key)
        same[0].model.pop(key, None)
    assert taught.to_dict() == same[0].to_dict()


@pytest.mark.parametrize(('transformer', 'cnn'), [('deit-s', 'robust-resnet-dw-s'), ('deit-b', 'robust-resnet-dw-b')])
def test_transformer_and_cnn_teach_each_other(transformer, cnn):
    """Whether robustness passes is asked in both directions, at both sizes."""
    alone = {name: load(f'{name}_300e_imagenet').model.student.model for name in (transformer, cnn)}
    for teacher, student in ((transformer, cnn), (cnn, transformer)):
        model = load(f'{teacher}_{student}_300e_imagenet').model
        assert (teacher_of(model.teacher)['model'], model.student.model) == (alone[teacher], alone[student])


def test_each_small_robust_resnet_is_trained_alone_and_with_soft_targets():
    small = set(timm.list_models('robust_resnet_*_small'))
    names = [name for name in LEAVES if LEAVES[name].parent.name == 'imagenet']
    assert small <= {read(name).model.student.model for name in names if name not in TAUGHT}
    assert small <= {read(name).model.student.model for name in names if name in SOFT}


DEIT = [name for name in LEAVES if name.endswith('300e_imagenet') and 'convnext' not in name and 'dw-b_300' not in name]


@pytest.mark.parametrize('name', DEIT)
def test_deit_recipe_to_the_letter(name):
    config = load(name)
    assert config.optim_wrapper.optimizer == dict(type='AdamW', lr=5e-4 * 1024 / 512, weight_decay=0.05)
    assert 'clip_grad' not in config.optim_wrapper
    assert config.auto_scale_lr.base_batch_size == 1024 == 8 * config.train_dataloader.batch_size
    assert config.train_cfg.max_epochs == 300
    assert config.train_dataloader.sampler == dict(type='ViewSampler', shuffle=True, repeats=3)
    assert config.model.data_preprocessor.random_erasing == 0.25
    mixup = dict(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=1000)
    assert config.model.data_preprocessor.mixup == mixup
    assert config.model.student.drop_path_rate == 0.1
    assert 1 - config.default_hooks.ema.momentum == pytest.approx(0.99996)


def test_deit_schedule_is_timms_in_every_epoch():
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=1e-3)
    reference = CosineLRScheduler(optimizer, t_initial=300, lr_min=1e-5, warmup_t=5, warmup_lr_init=1e-6)
    epochs = list(range(300))
    expected = [reference._get_lr(epoch)[0] for epoch in epochs]
    assert rates('deit-s_300e_imagenet', epochs, steps=2)[:-1] == pytest.approx(expected, rel=1e-12)
    assert expected[0] == 1e-6
    assert expected[4] == pytest.approx(1e-6 + 4 / 5 * (1e-3 - 1e-6))


def test_deit_augmentation_is_randaugment_of_bicubic_crops():
    transform = load('deit-s_300e_imagenet').train_dataloader.dataset.transform
    crop, flip, augment = create_transform(**transform, use_prefetcher=True).transforms[:3]
    assert (crop.size, crop.scale, crop.interpolation.value) == ((224, 224), (0.08, 1.0), 'bicubic')
    assert flip.p == 0.5
    assert {(op.magnitude, op.magnitude_std, op.prob) for op in augment.ops} == {(9, 0.5, 0.5)}
    assert len(create_transform(**transform, use_prefetcher=True).transforms) == 4


def test_convnext_recipe():
    for name in ('convnext-b_300e_imagenet', 'deit-b_robust-resnet-dw-b_300e_imagenet'):
        config = load(name)
        assert config.optim_wrapper.optimizer == dict(type='AdamW', lr=4e-3, weight_decay=0.05)
        assert config.auto_scale_lr.base_batch_size == 4096
        assert config.model.student.drop_path_rate == 0.5
        assert config.default_hooks.ema.momentum == 1e-4
        assert 'repeats' not in config.train_dataloader.sampler
        # 20 epochs up from 0, 280 down to 1e-6.
        start, warm, half, last = rates(name, [0, 20, 160])
        assert (start, warm) == (0.0, 4e-3)
        assert half == pytest.approx((4e-3 + 1e-6) / 2)
        assert last == pytest.approx(1e-6, rel=0.05)


def test_resnest_recipe():
    sizes = {50: 224, 101: 256, 200: 320, 269: 416}
    for depth, size in sizes.items():
        config = load(f'resnest{depth}_270e_imagenet')
        assert config.train_dataloader.dataset.transform.input_size == size
        assert config.test_dataloader.dataset.transform == config.val_dataloader.dataset.transform
        assert config.model.student.drop_block_rate == 0.1
        assert config.model.student.get('drop_rate', 0.0) == (0.2 if depth >= 200 else 0.0)
    assert config.optim_wrapper.optimizer == dict(
        type='SGD', lr=0.1 * 8192 / 256, momentum=0.9, nesterov=True, weight_decay=1e-4
    )
    assert config.model.data_preprocessor.mixup.mixup_alpha == 0.2
    assert config.train_cfg.max_epochs == 270
    # 5 epochs up from 0, 265 down to 0.
    start, warm, last = rates('resnest50_270e_imagenet', [0, 5])
    assert (start, warm) == (0.0, 3.2)
    assert last == pytest.approx(3.2 * (1 + math.cos(math.pi * (1 - 1 / (265 * 4)))) / 2)


def test_resnest_images_are_augmented_automatically_and_change_their_colours():
    """timm leaves one of the two out beside the other, unless it is told to keep both."""
    config = load('resnest101_270e_imagenet').train_dataloader.dataset.transform
    kinds = [type(step).__name__ for step in view_transform(config).transforms]
    assert kinds[2:4] == ['AutoAugment', 'ColorJitter']
    crop = view_transform(config).transforms[0]
    assert (crop.size, crop.interpolation.value) == ((256, 256), 'bilinear')
    kept = {key: value for key, value in config.items() if key != 'force_color_jitter'}
    assert [type(step).__name__ for step in view_transform(kept).transforms][2] == 'AutoAugment'
    assert 'ColorJitter' not in [type(step).__name__ for step in view_transform(kept).transforms]
    with pytest.raises(ValueError, match='force_color_jitter is for training'):
        view_transform(dict(input_size=32, force_color_jitter=True))


def test_resnest_has_drop_block_and_starts_the_last_norm_of_each_block_at_zero():
    from timm.layers import DropBlock2d

    config = load('resnest50_270e_imagenet').model
    student = MODELS.build(config).student
    stages = [getattr(student, f'layer{i}') for i in range(1, 5)]
    drops = [[m.drop_prob for m in stage.modules() if isinstance(m, DropBlock2d)] for stage in stages]
    assert drops == [[], [], [0.1] * 6, [0.1] * 3]
    assert all((block.bn3.weight == 0).all() for stage in stages for block in stage)


def test_norms_biases_tokens_and_positions_have_no_weight_decay():
    for name, decay in (('resnest50_270e_imagenet', 1e-4), ('robust-resnet-dw-s_deit-s-token_300e_imagenet', 0.05)):
        model = build(name)
        none, some = optimizer_of(load(name), model).optimizer.param_groups
        assert (none['weight_decay'], some['weight_decay']) == (0.0, decay)
        names = {id(parameter): key for key, parameter in model.named_parameters()}
        matrices = {key for key, parameter in model.named_parameters() if parameter.ndim > 1}
        excepted = {names[id(parameter)] for parameter in none['params']} & matrices
        tokens = {'student.cls_token', 'student.dist_token', 'student.pos_embed'}
        assert excepted == (tokens if 'deit' in name else set())
        assert len(none['params']) + len(some['params']) == len(names)


def test_function_matching_recipe_has_no_labels_and_a_long_schedule():
    for name in ('bit-r152x2_bit-r50_fm-1200e_imagenet', 'deit-s_robust-resnet-dw-s_fm-1200e_imagenet'):
        config = load(name)
        assert config.model.losses == [dict(type='soft_target_kl', temperature=1.0)]
        assert config.model.data_preprocessor.mixup.mixup_alpha == 1.0
        assert config.model.data_preprocessor.mixup.cutmix_alpha == 0.0
        assert config.optim_wrapper.clip_grad == dict(max_norm=1.0)
        assert config.train_cfg.max_epochs == 1200
    assert rates('bit-r152x2_bit-r50_fm-1200e_imagenet', [0, 16], steps=1) == pytest.approx([0, 0.03, 0], abs=1e-6)


def test_learning_rates_at_both_ends_are_absolute_and_the_state_is_plain():
    scheduler = dict(type='TimmCosineLR', end=10, warmup=2, warmup_lr=1e-6, lr_min=1e-5)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=4.0)
    built = PARAM_SCHEDULERS.build(scheduler, default_args=dict(optimizer=optimizer))
    assert optimizer.param_groups[0]['lr'] == 1e-6
    assert all(isinstance(v, (int, float, bool, str, list, tuple)) for v in built.state_dict().values())
