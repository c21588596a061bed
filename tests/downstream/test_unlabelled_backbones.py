"""A student of a run without labels, which has no classifier, as the backbone of a detector and a segmenter."""

from pathlib import Path

import pytest
import timm
import torch
from downstream_runs import CONFIGS, FOLDER
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.utils import import_modules_from_strings

from backbones.record import ModelRecord
from distill.training.hooks.save_student import save_student

OF_BACKBONE = ('type', 'model', 'out_indices', 'strides', 'output_stride', 'drop_path_rate', 'with_cp', 'norm_eval')


def settings_of(task: str) -> Config:
    config = Config.fromfile(FOLDER / CONFIGS[task])
    import_modules_from_strings(config.custom_imports.imports)
    return config


@pytest.fixture(scope='module')
def student(tmp_path_factory) -> Path:
    """What SaveStudentHook writes of a run without labels: weights without a classifier, and their record."""
    backbone = settings_of('det').model.backbone
    kwargs = {key: value for key, value in backbone.items() if key not in OF_BACKBONE} | {'num_classes': 0}
    torch.manual_seed(3)
    network = timm.create_model(backbone.model, **kwargs)
    path = tmp_path_factory.mktemp('student') / 'student_best.safetensors'
    save_student(path, network.state_dict(), ModelRecord(backbone.model, kwargs, input_size=[3, 32, 32]))
    return path


@pytest.mark.parametrize('frozen_stages', [-1, 4])
@pytest.mark.parametrize('task', ['det', 'seg'])
def test_it_is_a_backbone_frozen_or_fine_tuned(student, task, frozen_stages):
    config = settings_of(task)
    config.model.backbone.update(checkpoint=str(student.with_suffix('.pth')), frozen_stages=frozen_stages)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        model = MODELS.build(config.model).train()
    network = model.backbone.net
    saved = torch.load(student.with_suffix('.pth'), weights_only=True)
    own = network.state_dict()
    # The final norm is no part of the maps that are used.
    assert len(own) > 30
    assert all(torch.equal(value, saved[name]) for name, value in own.items())
    assert not [name for name in saved if name.startswith('head.fc')]
    before = {name: value.clone() for name, value in own.items()}
    maps = model.extract_feat(torch.randn(2, 3, 64, 64))
    loss = sum(one.square().mean() for one in maps)
    optimizer = torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=0.1)
    if loss.requires_grad:  # All of a segmenter's maps are frozen; a detector's go through a neck.
        loss.backward()
        optimizer.step()
    changed = [name for name, value in network.state_dict().items() if not torch.equal(value, before[name])]
    if frozen_stages == 4:
        assert not changed
        assert not [name for name, one in network.named_parameters() if one.requires_grad]
    else:
        assert len(changed) > 20
