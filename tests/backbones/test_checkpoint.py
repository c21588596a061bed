"""Models on disk: the record beside the weights, and the model that it describes."""

import json
from dataclasses import replace

import pytest
import timm
import torch

from backbones.checkpoint import build_model, fixed_size, resolve_model, save_model, weights_sha256
from backbones.record import ModelRecord

ARGS = dict(channels=(8, 16, 24, 32), num_classes=3)
RECORD = ModelRecord(
    'resnet18',
    {'channels': [8, 16, 24, 32], 'num_classes': 3},
    teacher={'model': 'resnet34', 'pretrained': True},
    classes=['cat', 'dog', 'eel'],
    input_size=[3, 64, 64],
    mean=[0.5, 0.4, 0.3],
    std=[0.2, 0.2, 0.1],
    epoch=7,
    seed=0,
    scores={'top1_pct': 81.5},
)


@pytest.fixture
def saved(tmp_path):
    network = timm.create_model('resnet18', **ARGS)
    save_model(tmp_path / 'student_best.pth', network, RECORD)
    return tmp_path / 'student_best.pth', network


def test_a_record_is_read_as_it_was_written(saved):
    path, network = saved
    record = ModelRecord.read(path)
    assert record == replace(RECORD, weights_sha256=weights_sha256(network.state_dict()))
    content = json.loads(path.with_suffix('.json').read_text())
    assert (content['top1_pct'], content['model']) == (81.5, 'resnet18')
    # The teacher's absence is a fact; other fields without a value are unknown.
    assert ModelRecord('resnet18').to_json() == {'model': 'resnet18', 'model_kwargs': {}, 'teacher': None}


def test_a_file_of_another_program_is_no_record(tmp_path):
    for content in ('[1, 2]', '{"name": "x"}'):
        (tmp_path / 'x.json').write_text(content)
        assert ModelRecord.read(tmp_path / 'x.pth') is None
    assert ModelRecord.read(tmp_path / 'none.pth') is None


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('{"model": "resnet18"', r"x\.json' is not valid JSON \(Expecting .*\); save the model again"),
        ('{"model": 5}', r"x\.json': model is 5; expected timm's name of a model"),
        ('{"model": "resnet18", "classes": "cat"}', "classes is 'cat'; expected a list of names"),
        ('{"model": "resnet18", "input_size": [224]}', r'input_size is \[224\]; expected channels, height and width'),
        ('{"model": "resnet18", "input_size": [3, 0, 9]}', r'input_size is \[3, 0, 9\]; expected channels, height'),
        ('{"model": "resnet18", "std": [0, 0, 0]}', r'std is \[0, 0, 0\]; expected a number above 0'),
        ('{"model": "resnet18", "mean": [0.5]}', r'mean is \[0.5\]; expected a number for each of 3 channels'),
        ('{"model": "resnet18", "mean": []}', r'mean is \[\]; expected a number for each'),
        ('{"model": "resnet18", "epoch": -1}', 'epoch is -1; expected a whole number'),
    ],
)
def test_a_wrong_record_names_the_file_and_what_is_expected(content, message, tmp_path):
    (tmp_path / 'x.json').write_text(content)
    with pytest.raises(ValueError, match=message):
        ModelRecord.read(tmp_path / 'x.pth')


def test_arguments_and_record_make_one_description(saved):
    path, network = saved
    # Given arguments win over the record; arguments that only say how to load are no part of the model.
    record = resolve_model(checkpoint=path, pretrained=False, resample_stem=True, drop_rate=0.1, num_classes=5)
    assert record.model_kwargs == {'channels': [8, 16, 24, 32], 'num_classes': 5, 'drop_rate': 0.1}
    assert (record.model, record.classes, record.mean, record.seed) == ('resnet18', RECORD.classes, RECORD.mean, 0)
    assert resolve_model('resnet34', num_classes=5) == ModelRecord('resnet34', {'num_classes': 5})
    image = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(build_model(checkpoint=path).eval()(image), network.eval()(image), rtol=0, atol=0)
    # The description is enough to build the model again.
    again = build_model(resolve_model(checkpoint=path).model, path, **resolve_model(checkpoint=path).model_kwargs)
    torch.testing.assert_close(again.eval()(image), network(image), rtol=0, atol=0)


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        (dict(), ValueError, "no model is given; give timm's name, or a checkpoint with a record"),
        (dict(model='resnet_18'), ValueError, r"model 'resnet_18' is unknown; did you mean .*resnet18"),
        (dict(model='resnet18', checkpoint='gone.pth'), FileNotFoundError, "'gone.pth' does not exist; train it first"),
    ],
)
def test_mistakes_are_explained(arguments, error, message):
    with pytest.raises(error, match=message):
        resolve_model(**arguments)


def test_another_name_than_the_records_is_an_error(saved):
    with pytest.raises(ValueError, match='holds resnet18 and not resnet34; change either'):
        resolve_model('resnet34', saved[0])


def test_weights_and_classes_that_the_record_does_not_describe_are_refused(saved):
    path, network = saved
    beside = path.with_suffix('.json')
    content = json.loads(beside.read_text())
    beside.write_text(json.dumps({**content, 'classes': ['cat', 'dog']}))
    with pytest.raises(ValueError, match=r"student_best\.json' names 2 classes, and its resnet18 has 3; correct"):
        build_model(checkpoint=path)
    beside.write_text(json.dumps(content))
    other = {name: value + 1 for name, value in network.state_dict().items()}
    torch.save(other, path)
    with pytest.raises(ValueError, match=r"other weights than those that '.*student_best\.json' describes; copy both"):
        build_model(checkpoint=path)
    beside.unlink()
    other['fc.bias'] = torch.full((3,), torch.nan)
    torch.save(other, path)
    with pytest.raises(ValueError, match=r'NaN or infinite values: 3 of 3 in fc\.bias; take a checkpoint from before'):
        build_model('resnet18', path, **ARGS)


def test_sizes_that_a_model_is_bound_to():
    assert fixed_size(timm.create_model('resnet18', **ARGS)) is None
    vit = dict(embed_dim=24, depth=1, num_heads=2, img_size=(64, 96))
    assert fixed_size(timm.create_model('vit_tiny_patch16_224', **vit)) == (64, 96)
    assert fixed_size(timm.create_model('vit_tiny_patch16_224', dynamic_img_size=True, **vit)) is None
    coatnet = dict(stem_width=16, dims=(32, 32, 64, 64), depths=(1, 1, 1, 1))
    assert fixed_size(timm.create_model('coatnet_0', **coatnet)) == (224, 224)
