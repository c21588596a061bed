"""timm's Hugging Face folder as somebody else's word: what it says is checked, and nothing is followed out of it."""

import json
import os
from pathlib import Path

import pytest

from backbones.hub.folder import read_folder


def folder_with(tmp_path, weights='model.safetensors', **changes) -> Path:
    """A folder as timm writes it, with changes to its config; weights are an empty file."""
    config = {
        'architecture': 'robust_resnet_dw_small',
        'num_classes': 3,
        'label_names': ['ant', 'bee', 'cow'],
        'model_args': {'num_classes': 3, 'dims': [8, 8, 8, 8], 'global_pool': 'avg'},
        'pretrained_cfg': {'input_size': [3, 32, 48], 'mean': [0.1, 0.2, 0.3], 'std': [1.0, 1.0, 1.0], 'crop_pct': 1.0},
    }
    (tmp_path / 'config.json').write_text(json.dumps({**config, **changes}))
    if weights:
        (tmp_path / weights).write_bytes(b'')
    return tmp_path


def test_a_folder_describes_the_model_as_timm_takes_it(tmp_path):
    folder = folder_with(tmp_path, robust_backbones={'teacher': {'model': 'deit'}, 'seed': 7, 'top1_pct': 12.5})
    record, weights = read_folder(folder)
    assert record.model == 'robust_resnet_dw_small'
    assert record.model_kwargs == {'num_classes': 3, 'dims': [8, 8, 8, 8], 'global_pool': 'avg'}
    assert record.classes == ['ant', 'bee', 'cow']
    assert (record.input_size, record.mean, record.crop_pct) == ([3, 32, 48], [0.1, 0.2, 0.3], 1.0)
    assert (record.crop_mode, record.interpolation) == ('center', 'bicubic')  # timm's defaults
    assert (record.teacher, record.seed, record.scores) == ({'model': 'deit'}, 7, {'top1_pct': 12.5})
    assert weights == folder / 'model.safetensors'


def test_a_folder_of_one_level_and_a_folder_without_weights(tmp_path):
    (tmp_path / 'config.json').write_text(
        json.dumps({'architecture': 'resnet18', 'num_classes': 2, 'labels': ['a', 'b'], 'input_size': [1, 64, 64]})
    )
    record, weights = read_folder(tmp_path)
    assert weights is None
    assert record.classes == ['a', 'b']
    assert record.model_kwargs == {'num_classes': 2, 'in_chans': 1}
    assert len(record.mean) == 1


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'architecture': 'resnet1888'}, "'resnet1888' is unknown; did you mean resnet18"),
        ({'architecture': 'local-dir:../other'}, 'architecture'),
        ({'architecture': ['resnet18']}, 'architecture'),
        ({'model_args': {'act_layer': 'os.system'}}, 'model_args.act_layer'),
        ({'model_args': {'stem': '../../secret'}}, 'model_args.stem'),
        ({'model_args': {'dims': [8, 'C:evil']}}, 'model_args.dims'),
        ({'model_args': {'checkpoint_path': 'weights'}}, 'model_args.checkpoint_path'),
        ({'model_args': {'pretrained_cfg_overlay': {'file': 'x'}}}, 'model_args.pretrained_cfg_overlay'),
        ({'model_args': [1]}, 'model_args'),
        ({'model_args': {'num_classes': 5}}, 'num_classes is 3'),
        ({'num_classes': -1}, 'num_classes'),
        ({'num_classes': 10**12}, 'num_classes'),
        ({'pretrained_cfg': {'file': '/etc/passwd'}}, 'pretrained_cfg.file'),
        ({'pretrained_cfg': {'file': '..'}}, 'pretrained_cfg.file'),
        ({'pretrained_cfg': {'url': 'file:///etc/passwd'}}, 'pretrained_cfg.url'),
        ({'pretrained_cfg': {'state_dict': {'a': 1}}}, 'pretrained_cfg.state_dict'),
        ({'pretrained_cfg': {'custom_load': 'module:load'}}, 'pretrained_cfg.custom_load'),
        ({'auto_map': {'AutoModel': 'modeling.Net'}}, 'auto_map'),
        ({'pretrained_cfg': {'input_size': [3, 0, 4]}}, 'input_size'),
        ({'pretrained_cfg': {'mean': [0.5, 0.5]}}, 'mean'),
        ({'pretrained_cfg': {'crop_pct': 'a lot'}}, 'crop_pct'),
        ({'pretrained_cfg': {'interpolation': 'eval'}}, 'interpolation'),
        ({'pretrained_cfg': 'x.json'}, 'pretrained_cfg'),
        ({'label_names': 'abc'}, 'label_names'),
        ({'label_names': {'a': 'b'}}, 'label_names'),
        ({'label_names': [1, 2, 3]}, 'label_names'),
        ({'label_descriptions': {'ant': 1}}, 'label_descriptions'),
        ({'robust_backbones': {'seed': 'x'}}, 'seed'),
    ],
)
def test_a_wrong_value_is_refused_in_one_line(tmp_path, changes, words):
    with pytest.raises(ValueError, match=r'config\.json') as caught:
        read_folder(folder_with(tmp_path, **changes))
    assert words in str(caught.value)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('content', ['', '[', '[]', '{}', '[' * 100_000, '{"model_type": "bert"}'])
def test_a_config_that_is_none_is_refused(tmp_path, content):
    (tmp_path / 'config.json').write_text(content)
    with pytest.raises(ValueError, match=r'config.json'):
        read_folder(tmp_path)


def test_a_huge_config_is_not_read(tmp_path):
    folder = folder_with(tmp_path)
    with open(folder / 'config.json', 'ab') as file:
        file.truncate(17 * 2**20)
    with pytest.raises(ValueError, match='at most'):
        read_folder(folder)


def test_links_may_lead_into_the_cache_of_the_hub_and_nowhere_else(tmp_path):
    snapshot, blobs, outside = (
        tmp_path / 'models--a--b' / 'snapshots' / 'abc',
        tmp_path / 'models--a--b' / 'blobs',
        tmp_path / 'o',
    )
    for folder in (snapshot, blobs, outside):
        folder.mkdir(parents=True)
    folder_with(blobs).joinpath('model.safetensors').rename(blobs / 'weights')
    os.symlink('../../blobs/config.json', snapshot / 'config.json')
    os.symlink('../../blobs/weights', snapshot / 'model.safetensors')
    assert read_folder(snapshot)[1] == snapshot / 'model.safetensors'
    (outside / 'weights').write_bytes(b'')
    (snapshot / 'model.safetensors').unlink()
    os.symlink(outside / 'weights', snapshot / 'model.safetensors')
    with pytest.raises(ValueError, match='link out of its folder'):
        read_folder(snapshot)


def test_the_file_of_weights_is_the_one_that_timm_takes(tmp_path):
    folder = folder_with(tmp_path, weights='pytorch_model.bin')
    assert read_folder(folder)[1].name == 'pytorch_model.bin'
    (folder / 'pytorch_model.bin').rename(folder / 'a.pth')
    assert read_folder(folder)[1].name == 'a.pth'
    (folder / 'b.pth').write_bytes(b'')
    with pytest.raises(ValueError, match='several files of weights'):
        read_folder(folder)
