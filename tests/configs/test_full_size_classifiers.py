"""Every ImageNet config loads a batch of images of ImageNet's sizes and makes a step with it, at its full size.

A step goes through the config's own loader, transforms, mixing, networks, losses, optimizer and schedules. Of all
configs it is made with tensors that have sizes and no contents, and of one of each recipe with contents too.
"""

import copy
import functools
from pathlib import Path

import pytest
import torch
from full_size import first_of, schedulers_of, write_imagenet
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from test_distill_configs import LEAVES as CLASSIFIERS
from test_distill_configs import teacher_of
from test_foundation_configs import LEAVES as FOUNDATION
from test_foundation_configs import settings as foundation_model
from torch._subclasses.fake_tensor import FakeTensorMode

import distill.training.register  # noqa: F401  registers what configs name
from distill.losses.embeddings import _sampling
from distill.losses.statistics import Statistics, hadamard

IMAGENET = {name: path for name, path in {**CLASSIFIERS, **FOUNDATION}.items() if name.endswith('_imagenet')}
# Recipes for a folder are those for ImageNet with other data and another length: one holds the set.
ALL = {**IMAGENET, 'dinov2-s_resnet50_200e_folder': FOUNDATION['dinov2-s_resnet50_200e_folder']}
WITH_CONTENTS = (
    'deit-s_robust-resnet-dw-s_300e_imagenet',
    'deit-s_robust-resnet-dw-s_fm-1200e_imagenet',
    'resnest50_270e_imagenet',
    'robust-resnet-dw-b_300e_imagenet',
    'dinov2-s_resnet50_100e_imagenet',
)
"""One of each recipe, the smallest where there is a choice."""
BATCH = 2


@pytest.fixture(scope='module')
def images(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('imagenet')
    write_imagenet(root)
    return root


@pytest.fixture(scope='module')
def first_batch(images):
    """The first batch of a loader; configs of equal data share it."""

    @functools.cache
    def load(text: str) -> list:
        return first_of(Config.fromstring(text, '.py').loader)

    def of(config: Config, part: str) -> list:
        settings = copy.deepcopy(config[part])
        settings.dataset.root = str(images)
        settings.batch_size = BATCH
        return load(Config(dict(loader=settings)).dump())

    return of


@pytest.fixture
def no_fakes_left():
    """Forget the tensors that functions keep, which have no contents after a step without contents."""
    yield
    for kept in (_sampling, hadamard):
        kept.cache_clear()


@functools.cache
def read(name: str) -> Config:
    return Config.fromfile(ALL[name])


def model_of(name: str) -> dict:
    """A config's model with random weights."""
    if name in FOUNDATION:
        return foundation_model(name, small=False)
    model = copy.deepcopy(read(name).model)
    if model.get('teacher') is not None:
        model.teacher = teacher_of(model.teacher)
    return model


def step(model, prepared: dict, wrapper) -> dict:
    """Make a step with a batch that the preprocessor has prepared; returns the losses."""
    loss, losses = model.parse_losses(model(**prepared, mode='loss'))
    wrapper.update_params(loss)
    return losses


def expected_losses(config: Config) -> int:
    """The number of terms, and their sum."""
    teachers = config.model.get('teachers')
    return 1 + (sum(len(one.losses) for one in teachers) if teachers else len(config.model.losses))


@pytest.mark.parametrize('name', ALL)
def test_a_step_at_full_size(name, first_batch, no_fakes_left):
    config = copy.deepcopy(read(name))
    size = config.train_dataloader.dataset.transform.input_size
    batch = first_batch(config, 'train_dataloader')
    assert batch[0].shape == (BATCH, 3, size, size)
    assert batch[0].dtype == torch.uint8
    if 'val_dataloader' in config:
        assert first_batch(config, 'val_dataloader')[0].shape == (BATCH, 3, size, size)

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with torch.device('meta'):
        model = MODELS.build(model_of(name)).train()
    with mode:
        model.to_empty(device='cpu')
    # What shows the teachers their views is made of numbers, and so are the views themselves.
    model.data_preprocessor = MODELS.build(config.model.data_preprocessor)
    prepared = model.data_preprocessor(batch, True)
    views = model.data_preprocessor.view_batch(prepared['images'], prepared['keys'])
    assert all(teacher.shown(views).isfinite().all() for teacher in model.all_teachers)
    for part in model.modules():
        if isinstance(part, Statistics):
            part._is_fixed = True  # As after its first steps, which look at the values of what they count.

    config.optim_wrapper.pop('clip_grad', None)  # mmengine logs the norm, which is a value.
    prepared |= {key: mode.from_tensor(prepared[key]) for key in ('images', 'targets')}
    with mode:
        wrapper = build_optim_wrapper(model, config.optim_wrapper)
        assert len(schedulers_of(config, wrapper)) == len(config.param_scheduler)
        losses = step(model, prepared, wrapper)
    assert len(losses) == expected_losses(config)
    assert set(wrapper.optimizer.state) == {p for p in model.parameters() if p.requires_grad}


@pytest.mark.parametrize('name', WITH_CONTENTS)
def test_a_step_of_each_recipe_with_contents(name, first_batch):
    config = copy.deepcopy(read(name))
    torch.manual_seed(0)
    model = MODELS.build(model_of(name)).train()
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    schedulers_of(config, wrapper)
    prepared = model.data_preprocessor(first_batch(config, 'train_dataloader'), True)
    losses = step(model, prepared, wrapper)
    assert all(torch.as_tensor(loss).isfinite() for loss in losses.values())
    means = [state.get('exp_avg', state.get('momentum_buffer')) for state in wrapper.optimizer.state.values()]
    assert len(means) == len([p for p in model.parameters() if p.requires_grad])
    assert all(mean.isfinite().all() for mean in means)
    # A rate of 0 at the beginning of a warm-up moves nothing, and a last norm of 0 silences the block before it; but
    # gradients have been seen.
    assert sum(bool(mean.any()) for mean in means) > len(means) / 4


def test_one_of_each_recipe_is_tried_with_contents():
    """Configs of one base differ in their networks; a new recipe has to be named above."""

    def base(name: str) -> str:
        return next(line for line in IMAGENET[name].read_text().splitlines() if line.startswith('_base_'))

    assert {base(name) for name in IMAGENET} == {base(name) for name in WITH_CONTENTS}
