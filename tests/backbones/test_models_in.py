"""What users have is taken for what it is: files, folders and names, other libraries' names of tensors, and what is
refused."""

import argparse
import hashlib
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

import backbones
from backbones.checkpoint import build_model, save_model, weights_sha256
from backbones.record import ModelRecord
from backbones.sources.told import literal_config
from backbones.weights import torchvision_files

NARROW = dict(channels=(4, 8, 8, 8), num_classes=3)
CONFIG = {
    'architecture': 'resnet18',
    'num_classes': 3,
    'label_names': ['apple', 'brick', 'coin'],
    'model_args': {'channels': [4, 8, 8, 8], 'num_classes': 3},
    'pretrained_cfg': {'mean': [0.1, 0.2, 0.3], 'std': [0.4, 0.5, 0.6], 'input_size': [3, 64, 64], 'crop_pct': 0.7},
}


@pytest.fixture
def network() -> nn.Module:
    """A narrow ResNet-18 of three classes."""
    torch.manual_seed(0)
    return timm.create_model('resnet18', **NARROW).eval()


@pytest.fixture
def folder(network, tmp_path) -> Path:
    """That network as timm's folder."""
    path = tmp_path / 'my model ü'
    path.mkdir()
    (path / 'config.json').write_text(json.dumps(CONFIG))
    save_file(network.state_dict(), path / 'model.safetensors')
    return path


def assert_same(loaded: backbones.LoadedModel, network: nn.Module) -> None:
    """Check that two networks give the same logits, and that the hash is that of the weights."""
    image = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded.network(image), network(image))
    assert loaded.has_weights
    assert loaded.record.weights_sha256 == weights_sha256(network.state_dict())


def test_a_folder_a_file_in_it_and_a_name_before_either_are_one_model(folder, network):
    file = folder / 'model.safetensors'
    for source in (folder, f'local-dir:{folder}', file, f'resnet18@{folder}', f'resnet18@{file}'):
        loaded = backbones.load(source)
        assert_same(loaded, network)
        record = loaded.record
        assert (record.model, record.classes) == ('resnet18', ['apple', 'brick', 'coin'])
        assert (record.mean, record.std, record.input_size) == ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6], [3, 64, 64])
        assert record.crop_pct == 0.7
    with pytest.raises(ValueError, match='holds resnet18 and not resnet34; change either'):
        backbones.load(f'resnet34@{folder}')


def test_what_is_said_on_the_spot_wins(folder, network, tmp_path):
    file = tmp_path / 'a,b@c=d.pth'
    torch.save(network.state_dict(), file)
    named = f'resnet18,channels=(4,8,8,8),num_classes=3,mean=[0.5,0.5,0.5],crop_pct=0.9@{file}'
    loaded = backbones.load(named, crop_pct=0.8, std=[0.2, 0.2, 0.2], classes=['x', 'y', 'z'], input_size=96)
    assert_same(loaded, network)
    record = loaded.record
    assert (record.mean, record.std, record.crop_pct) == ([0.5] * 3, [0.2] * 3, 0.9)
    assert (record.classes, record.input_size) == (['x', 'y', 'z'], [3, 96, 96])
    assert backbones.load(folder, mean=[0, 0, 0]).record.mean == [0, 0, 0]
    for wrong, message in (
        ({'classes': ['x', 'y']}, '2 names of classes are given .*, and resnet18 of .* has 3'),
        ({'mean': [0.5]}, 'mean is .0.5.; expected a number for each of 3 channels'),
        ({'crop_pct': 90}, 'crop_pct is 90; expected a number above 0 and at most 1'),
        ({'colour': 1}, "resnet18 takes no argument 'colour'"),
    ):
        with pytest.raises(ValueError, match=message):
            backbones.load(folder, **wrong)


@pytest.mark.parametrize('argument', ['checkpoint_path=x', 'pretrained_cfg=x', 'num_classes', '=3'])
def test_an_argument_that_is_none_of_a_model_is_refused(argument):
    with pytest.raises(ValueError, match=r'is no argument'):
        backbones.load(f'resnet18,{argument}@x.pth')


def test_random_weights_are_refused_unless_asked_for(folder):
    (folder / 'model.safetensors').unlink()
    for source in (str(folder), f'local-dir:{folder}', 'robust_resnet_dw_small'):
        with pytest.raises(ValueError, match=r'has no file of weights; put|timm has no weights of'):
            backbones.load(source)
    loaded = backbones.load(folder, require_weights=False)
    assert not loaded.has_weights
    assert any('are random' in note for note in loaded.notes)
    with pytest.raises(ValueError, match="timm's weights of 'resnet18' are of 1000 classes and not of 7"):
        backbones.load('resnet18', num_classes=7)


def test_a_pickle_in_disguise_and_a_record_that_leads_elsewhere_are_refused(folder, network, tmp_path):
    (folder / 'model.safetensors').unlink()
    torch.save(network.state_dict(), folder / 'model.safetensors')
    with pytest.raises(ValueError, match=r"model\.safetensors' is called safetensors and is a pickle"):
        backbones.load(folder)
    torch.save(network.state_dict(), tmp_path / 'x.pth')
    record = {'model': 'resnet18', 'model_kwargs': {'checkpoint_path': '/etc/passwd'}}
    (tmp_path / 'x.json').write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r'model_kwargs\.checkpoint_path is no argument of a model'):
        backbones.load(tmp_path / 'x.pth')
    for name in ('local-dir:gone', 'gone.pth', 'resnet18@gone.pth'):
        with pytest.raises(FileNotFoundError, match=r"'gone.* does not exist"):
            backbones.load(name)


def test_a_checkpoint_of_timms_training_names_its_model(network, tmp_path):
    args = dict(model='resnet18', num_classes=3, model_kwargs={'channels': [4, 8, 8, 8]}, mean=[0.4] * 3, img_size=96)
    weights = {f'module.{name}': value for name, value in network.state_dict().items()}
    content = {'arch': 'resnet18', 'state_dict': weights, 'args': argparse.Namespace(**args, crop_pct=0.8, gp=None)}
    torch.save(content, tmp_path / 'model_best.pth.tar')
    loaded = backbones.load(tmp_path / 'model_best.pth.tar')
    assert_same(loaded, network)
    assert (loaded.record.mean, loaded.record.crop_pct, loaded.record.input_size) == ([0.4] * 3, 0.8, [3, 96, 96])
    assert loaded.notes[0].endswith('is of resnet18, by the settings in the checkpoint')
    torch.save(network.state_dict(), tmp_path / 'last.pth')
    (tmp_path / 'args.yaml').write_text(json.dumps(args))
    assert_same(backbones.load(tmp_path / 'last.pth'), network)
    (tmp_path / 'args.yaml').write_text('model: !!python/object/apply:os.system ["true"]')
    with pytest.raises(ValueError, match='nothing in or beside'):
        backbones.load(tmp_path / 'last.pth')


def write_mmengine(path: Path, weights: dict, backbone: str, rgb: bool = True, classes: int | None = 3) -> Path:
    """Write a checkpoint of mmengine's with the text of its config."""
    head = '' if classes is None else f"head=dict(num_classes={classes}, type='LinearClsHead'), "
    text = f"""
model = dict(backbone=dict({backbone}), {head}type='ImageClassifier')
data_preprocessor = dict(mean=[127.5, 127.5, 127.5], std=[51, 51, 51], to_rgb={rgb})
work_dir = __import__('os').getcwd()
"""
    meta = {'cfg': text, 'dataset_meta': {'classes': ('a', 'b', 'c')}}
    torch.save({'meta': meta, 'state_dict': weights}, path)
    return path


def test_mmpretrains_classifier_is_taken_with_its_head_and_its_normalisation(tmp_path):
    torch.manual_seed(0)
    network = timm.create_model('resnet18', num_classes=3).eval()
    for prefix, backbone in (
        ('backbone.', "type='ResNet', depth=18"),
        ('backbone.timm_model.', "type='TIMMBackbone', model_name='resnet18'"),
    ):
        weights = {
            name.replace('fc.', 'head.fc.') if name.startswith('fc.') else prefix + name: value
            for name, value in network.state_dict().items()
        }
        loaded = backbones.load(write_mmengine(tmp_path / 'x.pth', weights, backbone))
        assert_same(loaded, network)
        assert (loaded.record.mean, loaded.record.std, loaded.classes) == ([0.5] * 3, [0.2] * 3, ['a', 'b', 'c'])
        assert any(f"'{prefix}' was taken off" in note for note in loaded.notes)
    with pytest.raises(ValueError, match='in the order blue, green, red'):
        backbones.load(write_mmengine(tmp_path / 'x.pth', weights, backbone, rgb=False))
    with pytest.raises(ValueError, match="style 'caffe', whose stride sits in another convolution"):
        backbones.load(write_mmengine(tmp_path / 'x.pth', weights, "type='ResNet', depth=18, style='caffe'"))


def test_a_detectors_backbone_is_a_student_and_no_classifier(network, tmp_path, caplog):
    body = {f'backbone.net.{name}': value for name, value in network.state_dict().items() if 'fc.' not in name}
    backbone = "type='TimmBackbone', model='resnet18', channels=(4, 8, 8, 8), out_indices=(1, 2), frozen_stages=1"
    path = write_mmengine(tmp_path / 'd.pth', {**body, 'neck.conv.weight': torch.ones(2)}, backbone, classes=None)
    with pytest.raises(ValueError, match=r'is a backbone without a classifier .*fc\.weight'):
        backbones.load(path, num_classes=3)
    student = build_model(checkpoint=path, new_head=True, num_classes=7)
    assert torch.equal(student.layer4[0].conv1.weight, network.layer4[0].conv1.weight)
    assert student.fc.weight.shape == (7, 8)
    assert 'starts from random weights' in caplog.text


def test_deep_stems_of_openmmlab_have_timms_names(tmp_path):
    torch.manual_seed(0)
    network = timm.create_model('resnet18d', num_classes=3).eval()
    mmseg = {f'conv1.{index}.': f'stem.{index}.' for index in (0, 1, 3, 4, 6)} | {'bn1.': 'stem.7.'}
    mmpretrain = {f'conv1.{3 * index}.': f'stem.{index}.conv.' for index in range(3)}
    mmpretrain |= {f'conv1.{3 * index + 1}.': f'stem.{index}.bn.' for index in range(2)} | {'bn1.': 'stem.2.bn.'}
    for names in (mmseg, mmpretrain):
        weights = {}
        for name, value in network.state_dict().items():
            theirs = next((new + name.removeprefix(old) for old, new in names.items() if name.startswith(old)), name)
            weights['head.fc.' + name[3:] if name.startswith('fc.') else f'backbone.{theirs}'] = value
        assert_same(backbones.load(write_mmengine(tmp_path / 'x.pth', weights, "type='ResNetV1d', depth=18")), network)


def test_a_config_is_read_and_never_run():
    found = literal_config("a = dict(b=[1, -2.5], c=print('x'), d=('e',))\nimport os\nf = os.getcwd()\ng = dict(**h)")
    assert found == {'a': {'b': [1, -2.5], 'c': None, 'd': ['e']}, 'f': None, 'g': {}}
    assert literal_config('a = (') == literal_config('(' * 10**5) == {}


def randomised(name: str) -> nn.Module:
    """torchvision's model of three classes, whose norms do something."""
    torch.manual_seed(0)
    network = torchvision.models.get_model(name, weights=None, num_classes=3).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return network


@pytest.mark.parametrize(
    ('name', 'named'),
    [
        ('mobilenet_v3_small', 'mobilenet_v3_small'),
        ('mobilenet_v3_small', 'mobilenetv3_small_100,bn_eps=0.001'),
        ('regnet_y_400mf', 'regnety_004'),
        ('resnet18', 'resnet18'),
    ],
)
def test_torchvisions_weights_give_torchvisions_logits(name, named, tmp_path):
    network = randomised(name)
    torch.save(network.state_dict(), tmp_path / 'x.pth')
    loaded = backbones.load(f'{named},num_classes=3@{tmp_path / "x.pth"}')
    image = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(loaded.network(image), network(image), rtol=1e-5, atol=1e-6)


def test_torchvisions_weights_that_timms_model_computes_something_else_with_are_refused(tmp_path):
    path = tmp_path / 'x.pth'
    torch.save(randomised('mobilenet_v3_small').state_dict(), path)
    with pytest.raises(
        ValueError, match=r'does not compute \(logits differ .*; give mobilenetv3_small_100,bn_eps=0\.001@'
    ):
        backbones.load(f'mobilenetv3_small_100,num_classes=3@{path}')
    torch.save(timm.create_model('mobilenetv3_small_100', num_classes=3).state_dict(), path)
    with pytest.raises(ValueError, match=r"has timm's own names; give 'mobilenetv3_small_100@"):
        backbones.load(f'mobilenet_v3_small,num_classes=3@{path}')


def test_a_file_of_torchvisions_own_is_known_by_its_hash(monkeypatch, tmp_path):
    path = tmp_path / 'any name.pth'
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), path)
    first = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    own = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    listed = [SimpleNamespace(url=f'https://x/resnet18-{first}.pth', transforms=own.transforms)]
    real = torchvision.models.get_model_weights
    monkeypatch.setattr(
        torchvision_files.torchvision.models, 'get_model_weights', lambda n: listed if n == 'resnet18' else real(n)
    )
    record = backbones.load(path).record
    assert (record.model, record.input_size, record.interpolation) == ('resnet18', [3, 224, 224], 'bilinear')
    assert int(224 / record.crop_pct) == 256
    assert record.mean == [0.485, 0.456, 0.406]


def test_the_hub_is_a_folder_that_is_fetched(folder, network, monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    asked = []

    def download(repo, file, revision=None):
        asked.append((repo, file, revision))
        if not (folder / file).exists():
            raise LocalEntryNotFoundError('no network\nand more')
        return str(folder / file)

    monkeypatch.setattr(huggingface_hub, 'hf_hub_download', download)
    assert_same(backbones.load('hf-hub:me/mine@v1'), network)
    assert asked == [('me/mine', 'config.json', 'v1'), ('me/mine', 'model.safetensors', 'v1')]
    os.remove(folder / 'config.json')
    with pytest.raises(ValueError, match=r"'hf-hub:me/mine' cannot be fetched \(no network\); check the name"):
        backbones.load('hf-hub:me/mine')


class Own(nn.Module):
    """A network of a user's own."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 4)

    def forward(self, images):
        """Logits."""
        return self.linear(images.mean((2, 3)))


def test_a_network_of_a_users_own_is_taken_with_what_is_said_of_it():
    loaded = backbones.load(Own(), mean=[0.5] * 3, std=[0.25] * 3, classes=list('abcd'), input_size=32)
    assert (loaded.num_classes, loaded.classes, loaded.record.input_size) == (4, list('abcd'), [3, 32, 32])
    with pytest.raises(ValueError, match='nothing tells how images are normalised for Own; give mean and std'):
        backbones.load(Own())
    with pytest.raises(ValueError, match='3 names of classes are given, and Own has 4'):
        backbones.load(Own(), mean=[0.5] * 3, std=[0.25] * 3, classes=list('abc'))


def test_a_size_that_is_asked_for_is_taken_by_a_model_of_one_size(tmp_path):
    kwargs = dict(img_size=32, patch_size=8, embed_dim=16, depth=1, num_heads=2, num_classes=3)
    network = timm.create_model('deit_tiny_patch16_224', **kwargs)
    save_model(tmp_path / 'vit.pth', network, ModelRecord('deit_tiny_patch16_224', kwargs))
    loaded = backbones.load(tmp_path / 'vit.pth', input_size=48)
    assert (loaded.fixed_size, loaded.record.input_size) == ((48, 48), [3, 48, 48])
    assert loaded.record.weights_sha256 == weights_sha256(network.state_dict())
