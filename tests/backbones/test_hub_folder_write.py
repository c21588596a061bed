"""A written folder is read back by plain timm: the same logits, names and preprocessing, or nothing is written."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import nn

import backbones
from backbones.checkpoint import save_model
from backbones.deploy import deploy
from backbones.hub.writer import write_folder
from backbones.record import ModelRecord

TINY = {'dims': [8, 8, 16, 16], 'depths': [1, 1, 1, 1], 'kernel_size': 3, 'patch_size': 4}
VIT = {'depth': 1, 'embed_dim': 24, 'num_heads': 2, 'img_size': 32, 'patch_size': 8}
MODELS = [
    # Of each family the smallest, or a small variant; of timm the kinds that take another way.
    ('robust_resnet_dw_small', {**TINY, 'num_classes': 3, 'drop_path_rate': 0.1}, 32),
    ('robust_resnet_up_inverted_dw_small_rep', {**TINY, 'small_kernel_size': 1, 'layer_scale_init_value': 0.1}, 32),
    ('resnet_down_inverted_dw_small', {'dims': (8, 8, 16, 16), 'depths': (1, 1, 1, 1), 'in_chans': 1}, 64),
    ('convnext_roadmap_patchify', {}, 32),
    ('cbam_resnet18', {'num_classes': 2}, 64),
    ('condensenet86_cifar', {}, 32),
    ('deit_small_conv_stem_224', {}, 224),
    ('resnest50_fast_1s1x64d', {'global_pool': 'max'}, 64),
    ('shake_shake26_2x32d', {}, 32),
    ('shufflenet_v1_g3_x1_0', {}, 64),
    pytest.param('wide_resnet28_10', {}, 32, marks=pytest.mark.slow),
    ('deit_tiny_distilled_patch16_224', {**VIT, 'num_classes': 7}, 32),
    ('deit_tiny_patch16_224', {**VIT, 'class_token': False, 'global_pool': 'avg', 'dynamic_img_size': True}, 48),
    ('resnet18', {'num_classes': 0}, 64),
]


def record_for(name: str, kwargs: dict, size: int, **more) -> ModelRecord:
    channels = kwargs.get('in_chans', 3)
    shown = {'input_size': [channels, size, size], 'mean': [0.25] * channels, 'std': [0.5] * channels}
    return ModelRecord(name, dict(kwargs), **shown, crop_pct=0.9, crop_mode='squash', interpolation='bilinear', **more)


def make(name: str, kwargs: dict) -> nn.Module:
    """A network whose norms have seen something."""
    torch.manual_seed(0)
    network = timm.create_model(name, **kwargs).eval()
    for key, value in network.state_dict().items():
        if key.endswith('running_var'):
            value.uniform_(0.05, 0.5)
    return network


@pytest.mark.parametrize(('name', 'kwargs', 'size'), MODELS)
def test_timm_makes_the_same_model_of_a_folder(tmp_path, name, kwargs, size):
    network, record = make(name, kwargs), record_for(name, kwargs, size)
    write_folder(tmp_path / 'm', network, record, '# card')
    again = timm.create_model(f'local-dir:{tmp_path / "m"}', pretrained=True).eval()
    images = torch.rand(2, *record.input_size)
    with torch.inference_mode():
        logits = network(images)
        assert not torch.equal(*logits)  # Of two images: the network is alive.
        assert torch.equal(logits, again(images))
    config = timm.data.resolve_model_data_config(again)
    shown = {name: list(value) if isinstance(value, tuple) else value for name, value in config.items()}
    assert shown == {name: value for name, value in vars(record).items() if name in shown}
    assert {path.name for path in tmp_path.rglob('*')} == {'m', 'config.json', 'model.safetensors', 'README.md'}


def test_the_deployed_form_of_a_model_is_saved(tmp_path):
    name, kwargs = 'robust_resnet_dw_small_rep', {**TINY, 'small_kernel_size': 1, 'num_classes': 3}
    plain = deploy(make(name, kwargs), **TINY, small_kernel_size=1)
    write_folder(tmp_path / 'm', plain, record_for('robust_resnet_dw_small', {**TINY, 'num_classes': 3}, 32), '')
    assert not [key for key in load_file(tmp_path / 'm/model.safetensors') if 'small' in key]


def test_a_folder_gives_the_complete_record_back(tmp_path):
    name, kwargs = 'robust_resnet_dw_small', {**TINY, 'num_classes': 2}
    known = {'classes': ['n01440764', 'n01443537'], 'epoch': 3, 'seed': 7, 'scores': {'top1_pct': 50.5}}
    record = record_for(name, kwargs, 32, teacher=[{'model': 'deit', 'checkpoint': 'runs/deit.pth'}], **known)
    network = make(name, kwargs)
    write_folder(tmp_path / 'm', network, record, '')
    loaded = backbones.load(tmp_path / 'm')
    for field in ('model', 'model_kwargs', 'teacher', 'classes', 'input_size', 'mean', 'std', 'crop_pct', 'crop_mode'):
        assert getattr(loaded.record, field) == getattr(record, field), field
    assert (loaded.record.epoch, loaded.record.seed, loaded.record.scores) == (3, 7, {'top1_pct': 50.5})
    config = json.loads((tmp_path / 'm/config.json').read_text())
    assert config['label_descriptions']['n01440764'] == 'tench, Tinca tinca'
    assert 'tag' not in config['pretrained_cfg']  # Of timm's weights, which these are not.


def test_what_timm_would_make_otherwise_is_refused_and_nothing_is_left(tmp_path):
    record = record_for('robust_resnet_dw_small', TINY, 32)
    for change in ('other layer', 'other weights', 'other argument'):
        network, told = make('robust_resnet_dw_small', TINY), record
        if change == 'other layer':
            network.stem.register_forward_hook(lambda module, images, output: output * 2)
        elif change == 'other weights':
            network.stem.register_buffer('extra', torch.zeros(1))
        else:
            told = record_for('robust_resnet_dw_small', {**TINY, 'act_layer': nn.Tanh}, 32)
        with pytest.raises(ValueError, match=r'cannot be (saved|written)'):
            write_folder(tmp_path / 'm', network, told, '')
        assert list(tmp_path.iterdir()) == []


def test_only_a_folder_of_its_own_is_replaced_and_only_when_asked(tmp_path):
    network, record = make('robust_resnet_dw_small', TINY), record_for('robust_resnet_dw_small', TINY, 32)
    folder = tmp_path / 'm'
    folder.mkdir()  # An empty one is as good as none.
    write_folder(folder, network, record, 'first')
    with pytest.raises(OSError, match='--overwrite'):
        write_folder(folder, network, record, 'second')
    assert (folder / 'README.md').read_text() == 'first'
    write_folder(folder, network, record, 'second', overwrite=True)
    assert (folder / 'README.md').read_text() == 'second'
    (folder / 'thesis.tex').write_text('')
    with pytest.raises(OSError, match='other files'):
        write_folder(folder, network, record, 'third', overwrite=True)
    broken = make('robust_resnet_dw_small', TINY)
    broken.stem.register_buffer('extra', torch.zeros(1))
    (folder / 'thesis.tex').unlink()
    with pytest.raises(ValueError, match='other model'):
        write_folder(folder, broken, record, 'fourth', overwrite=True)
    assert (folder / 'README.md').read_text() == 'second'
    assert [path.name for path in tmp_path.iterdir()] == ['m']


def test_a_full_disk_leaves_nothing_and_is_told_in_one_line(tmp_path, monkeypatch):
    def no_space(path, content):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(Path, 'write_bytes', no_space)
    network, record = make('robust_resnet_dw_small', TINY), record_for('robust_resnet_dw_small', TINY, 32)
    with pytest.raises(OSError, match=r"cannot be saved to '.*' \(No space left on device\)"):
        write_folder(tmp_path / 'm', network, record, '')
    assert list(tmp_path.iterdir()) == []


def test_weights_in_disguise_or_of_another_model_are_refused(tmp_path):
    network, record = make('robust_resnet_dw_small', TINY), record_for('robust_resnet_dw_small', TINY, 32)
    write_folder(tmp_path / 'm', network, record, '')
    weights = tmp_path / 'm/model.safetensors'
    whole = weights.read_bytes()

    class Evil:
        def __reduce__(self):
            return print, ('run',)

    torch.save({'stem.weight': Evil()}, weights)
    with pytest.raises(ValueError, match='is a pickle'):
        backbones.load(tmp_path / 'm')
    for damaged in (b'', whole[: len(whole) // 2], b'\xff' * 100):
        weights.write_bytes(damaged)
        with pytest.raises(ValueError, match=r'model\.safetensors'):
            backbones.load(tmp_path / 'm')
    other = timm.create_model('robust_resnet_dw_small', **TINY)
    save_model(tmp_path / 'other.safetensors', other, record)
    weights.write_bytes((tmp_path / 'other.safetensors').read_bytes())
    with pytest.raises(ValueError, match='other weights'):
        backbones.load(tmp_path / 'm')


def test_a_process_that_imports_timm_and_backbones_only_gets_the_same_logits(tmp_path):
    kwargs = {**TINY, 'num_classes': 3}
    network, record = make('robust_resnet_dw_small', kwargs), record_for('robust_resnet_dw_small', kwargs, 32)
    write_folder(tmp_path / 'm', network, record, '')
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        torch.save((images, network(images)), tmp_path / 'expected.pth')
    program = (
        'import sys, timm, backbones, torch\n'
        "model = timm.create_model('local-dir:m', pretrained=True).eval()\n"
        "images, logits = torch.load('expected.pth')\n"
        'with torch.inference_mode(): assert torch.equal(model(images), logits)\n'
        "assert not {'distill', 'mmengine', 'mmcv'} & set(sys.modules)\n"
    )
    environment = {'PYTHONPATH': str(Path(backbones.__file__).parents[1]), 'PATH': '', 'OMP_NUM_THREADS': '1'}
    subprocess.run([sys.executable, '-c', program], cwd=tmp_path, check=True, env=environment)
