"""Each recipe for a foundation model's features is built whole, and a small one of its kind makes two steps."""

import copy
import functools
import math
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS

import distill.training.register  # noqa: F401  registers what configs name
from distill.base.packaged import find

ROOT = Path(__file__).parents[2] / 'distill' / 'configs' / 'foundation'
LEAVES = {path.stem: path for path in sorted(ROOT.glob('*.py'))}
FOLDERS = [name for name in LEAVES if not name.endswith('_imagenet')]
"""The recipes for ImageNet differ from these in data and length alone."""
SMALL = {
    'robust_resnet_dw_small': dict(depths=(1, 1, 1, 1), dims=(16, 16, 32, 32)),
    'robust_resnet_up_inverted_dw_small': dict(depths=(1, 1, 1, 1), dims=(16, 16, 32, 32)),
    'resnet50': dict(layers=(1, 1, 1, 1)),
    'convnext_tiny': dict(depths=(1, 1, 1, 1), dims=(16, 16, 32, 32)),
}


@functools.cache
def read(name: str) -> Config:
    return Config.fromfile(LEAVES[name])


def settings(name: str, small: bool) -> dict:
    """The model of a config with random weights; a small one of the same kinds of networks if that is asked for."""
    model = copy.deepcopy(read(name).model)
    for teacher in model.teachers:
        if 'checkpoint' in teacher:
            run = teacher.pop('checkpoint').split('/')[1]
            teacher.update({**Config.fromfile(find(run)).model.student, 'num_classes': 0})
        teacher.pretrained = False
        if small and 'embed_dim' not in teacher:
            teacher.update(depth=1, size=56 if 'patch14' in teacher.model else 64)
    if small:
        model.student.update(SMALL[model.student.model])
    return model


@pytest.mark.parametrize('name', LEAVES)
def test_recipe_is_built_and_says_how_to_run_it_at_what_cost(name):
    header = LEAVES[name].read_text().split('"""')[1]
    assert re.search(r'^(python|torchrun .*) ?tools/train.py (THIS_FILE|distill/configs/)', header, re.M)
    assert all(part in header for part in ('Hardware:', 'Cost:', 'Target:'))
    assert find(f'foundation/{name}') == str(LEAVES[name])
    config = read(name)
    assert config.train_dataloader.dataset.labels is False
    assert 'val_dataloader' not in config
    with torch.device('meta'):
        model = MODELS.build(settings(name, small=False))
        size = config.train_dataloader.dataset.transform.input_size
        assert model.student.num_classes == 0
        assert model.eval()(torch.zeros(2, 3, size, size)).shape == (2, model.student.num_features)
        assert {teacher.num_classes for teacher in model.teachers} <= {0, 512, 1000}
    for teacher in model.teachers:
        grid = teacher.network.patch_embed.dynamic_feat_size(teacher.size)
        assert grid == {14: (16, 16), 16: (14, 14), 8: (4, 4)}[teacher.network.patch_embed.patch_size[0]]


@pytest.mark.parametrize('name', FOLDERS)
def test_recipe_makes_two_steps(name):
    config = copy.deepcopy(read(name))
    torch.manual_seed(0)
    model = MODELS.build(settings(name, small=True)).train()
    constructor = dict(type=config.optim_wrapper.pop('constructor'), optim_wrapper_cfg=config.optim_wrapper)
    wrapper = OPTIM_WRAPPER_CONSTRUCTORS.build(constructor)(model)
    before = {key: value.clone() for key, value in model.student.state_dict().items()}
    size = 32 if name.endswith('_shapes') else 64
    for step in range(2):
        images = torch.randint(0, 256, (4, 3, size, size), dtype=torch.uint8)
        number = torch.arange(4)
        batch = [images, torch.full((4,), -1), number, torch.full((4,), step), number]
        losses = model.train_step(batch, wrapper)
        assert all(torch.as_tensor(loss).isfinite() for loss in losses.values())
    terms = sum(len(teacher.losses) for teacher in config.model.teachers)
    assert len(losses) == terms + 1
    weights = [key for key, value in before.items() if key.endswith('.weight') and value.ndim > 1]
    assert [key for key in weights if torch.equal(model.student.state_dict()[key], before[key])] == []


def test_the_rate_is_that_of_the_documented_batch_times_the_root_of_the_ratio():
    for name in LEAVES:
        if not name.endswith('_shapes'):
            config = read(name)
            batch = config.auto_scale_lr.base_batch_size
            assert config.optim_wrapper.optimizer.lr == pytest.approx(5e-4 * math.sqrt(batch / 1536), rel=3e-3)


def test_each_teacher_has_each_student_on_both_sets():
    names = {tuple(name.split('_')[:2]) for name in LEAVES if len(name.split('_')) == 4 and 'features' not in name}
    assert len([one for one in names if '-s-clip' not in one[0]]) == 16
    assert all({f'{a}_{b}_100e_imagenet', f'{a}_{b}_200e_folder'} <= LEAVES.keys() for a, b in names)
