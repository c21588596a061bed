"""Networks of a user's own that teach features."""

from pathlib import Path

import pytest
import timm
import torch

import backbones
import distill
from backbones.checkpoint import read_weights, save_model
from backbones.record import ModelRecord

BASE = Path(distill.__file__).parent / 'configs' / '_base_' / 'default_runtime.py'
STUDENT = dict(model='robust_resnet_dw_small', dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), kernel_size=3, patch_size=4)
NARROW = dict(channels=(8, 8, 16, 24), stem_width=8, num_classes=10)
# Without heads, which begin elsewhere where a network was built before them.
RELATIONS = [dict(type='rkd'), dict(type='gram', on='grid', student_layer=1)]
CONFIG = """
_base_ = {base!r}
data_root = {data!r}
train_dataloader = dict(
    batch_size=16, num_workers=0, collate_fn=dict(type='default_collate'), sampler=dict(type='ViewSampler'),
    dataset=dict(type='Views', root=data_root, split='train', labels=False, transform=dict(input_size=32)),
)
model = dict(
    type='FeatureDistiller',
    student={student!r},
    teachers=[dict(name='one', model='resnet10t', pretrained=False, size=32, losses={losses!r})],
    data_preprocessor=dict(type='ViewPreprocessor'),
)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3))
train_cfg = dict(by_epoch=True, max_epochs=1)
default_hooks = dict(save_student=dict(metric='last'))
visualizer = dict(vis_backends=[])
"""


class Embedder(torch.nn.Module):
    """What it gives are its embeddings."""

    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(3, 24, 4, 4), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.body(images)


@pytest.fixture
def config(shapes, tmp_path) -> str:
    path = tmp_path / 'features.py'
    path.write_text(CONFIG.format(base=str(BASE), data=str(shapes), student=STUDENT, losses=RELATIONS))
    return str(path)


def network_of(seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    return timm.create_model('resnet10t', **NARROW)


def test_a_network_teaches_as_its_file_does_and_is_left_as_it_was(config, tmp_path):
    network = network_of(1).train()
    path = tmp_path / 'teacher.safetensors'
    save_model(path, network, ModelRecord('resnet10t', dict(NARROW)))
    network.fc.requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    flags = [one.requires_grad for one in network.parameters()], [one.training for one in network.modules()]
    given = (dict(checkpoint=str(path)), network, backbones.load(path))
    found = [distill.train(config, work_dir=tmp_path / f'{place}', teacher=one) for place, one in enumerate(given)]
    weights = [read_weights(one.student_best) for one in found]
    for other in weights[1:]:
        assert all(torch.equal(value, other[name]) for name, value in weights[0].items())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert flags == ([one.requires_grad for one in network.parameters()], [one.training for one in network.modules()])
    record = found[1].student().record.teacher
    assert (record['model'], record['weights_sha256']) == (
        'own:timm.models.resnet.ResNet',
        backbones.checkpoint.weights_sha256(before),
    )


def test_a_cache_of_its_features_is_known_by_its_weights(config, tmp_path):
    own = dict(model=network_of(1), mean=[0.5] * 3, std=[0.25] * 3)
    cache = distill.cache_teacher(
        config, tmp_path / 'cache', teacher=own, dtype='float32', grid_dtype='float16', progress=False, verify=4
    )
    by_cache = distill.train(config, work_dir=tmp_path / 'a', teacher=dict(cache=cache.path))
    by_both = distill.train(config, work_dir=tmp_path / 'b', teacher=dict(own, cache=cache.path))
    weights = [read_weights(one.student_best) for one in (by_cache, by_both)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    other = dict(own, model=network_of(2), cache=cache.path)
    with pytest.raises(ValueError, match='does not fit: weights_sha256 was'):
        distill.train(config, work_dir=tmp_path / 'c', teacher=other)


def test_of_a_network_without_timms_functions_what_it_gives_are_its_embeddings(config, tmp_path):
    pooled = {'model.teachers.0.losses': [dict(type='mse'), dict(type='cosine', head='mlp')]}
    result = distill.train(config, work_dir=tmp_path / 'a', teacher=Embedder(), **pooled)
    weights = torch.load(result.checkpoint, weights_only=True)['state_dict']
    assert weights['terms.0.heads.pooled_linear.weight'].shape[0] == 24
    assert not any('teacher' in name for name in weights)
    for given, message in (
        (Embedder(), "loss gram is on grid, which teacher 'one' does not give; set on to one of: pooled"),
        (dict(model=Embedder(), layer=1), "the teacher 'one' Embedder gives no feature maps"),
        (dict(model=Embedder(), pooling='cls'), "teacher 'one' is a Embedder and has no patch tokens to pool"),
        (dict(model=Embedder(), depth=3), "'depth' is nothing that a network is described by; choose from model"),
        ([Embedder(), Embedder()], 'has the teachers one; give as many, in this order, or set model.teachers'),
        (torch.nn.Conv2d(3, 8, 3), r'the teacher Conv2d answers images with \[1, 8, 30, 30\]; wrap it'),
    ):
        with pytest.raises(ValueError, match=message):
            distill.train(config, work_dir=tmp_path / 'x', teacher=given)


def test_several_networks_are_given_in_the_order_of_the_teachers(config, tmp_path):
    teachers = [
        dict(name=name, model='resnet10t', pretrained=False, losses=[dict(type='rkd')]) for name in ('one', 'two')
    ]
    options = {'model.teachers': teachers, 'model.balance': 'size'}
    result = distill.train(config, work_dir=tmp_path / 'a', teacher=[network_of(1), Embedder()], **options)
    assert [one['name'] for one in result.student().record.teacher] == ['one', 'two']
    assert [one['model'].rpartition('.')[2] for one in result.student().record.teacher] == ['ResNet', 'Embedder']
