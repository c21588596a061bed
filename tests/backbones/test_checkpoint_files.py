"""Checkpoints of other programs: what stands around the weights is taken off, and no code of a file runs."""

import argparse
import collections
import datetime
import pathlib
import pickle
import random
import sys
import types
import zipfile

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from backbones.checkpoint import build_model, read_weights, weights_sha256
from backbones.weights.checkpoint_file import read_checkpoint
from backbones.weights.stand_ins import Inert

NARROW = dict(channels=(8, 8, 8, 8), num_classes=3)


@pytest.fixture(scope='module')
def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return timm.create_model('resnet18', **NARROW).state_dict()


def assert_builds(path, weights) -> None:
    built = build_model('resnet18', path, **NARROW).state_dict()
    assert weights_sha256(built) == weights_sha256(weights)


def inside(weights, part: str) -> dict:
    """Put a part before the last two of each name, as a wrapped submodule does."""
    return {'.'.join([*name.split('.')[:-2], part, *name.split('.')[-2:]]): value for name, value in weights.items()}


WRAPPED = {
    'compiled': lambda w: {f'_orig_mod.{k}': v for k, v in w.items()},
    'DDP': lambda w: {f'module.{k}': v for k, v in w.items()},
    'compiled, then DDP': lambda w: {f'module._orig_mod.{k}': v for k, v in w.items()},
    'DDP, then compiled': lambda w: {f'_orig_mod.module.{k}': v for k, v in w.items()},
    'Fabric': lambda w: {f'_forward_module.module.{k}': v for k, v in w.items()},
    'FSDP': lambda w: inside(w, '_fsdp_wrapped_module'),
    'a compiled part': lambda w: inside(w, '_orig_mod'),
    'data-parallel features': lambda w: inside(w, 'module'),
    'Lightning and its loss': lambda w: {f'model.{k}': v for k, v in w.items()} | {'criterion.weight': torch.ones(3)},
    'detector': lambda w: {f'backbone.net.{k}': v for k, v in w.items()} | {'neck.weight': torch.ones(3)},
    'compiled Lightning': lambda w: {f'model._orig_mod.backbone.{k}': v for k, v in w.items()},
    'unknown module': lambda w: {f'lit.trunk.{k}': v for k, v in w.items()},
    'average': lambda w: {f'module.{k}': v for k, v in w.items()} | {'n_averaged': torch.tensor(3)},
    'average beside': lambda w: (
        {f'ema_model.{k}': v for k, v in w.items()} | {f'model.{k}': v + 1 for k, v in w.items()}
    ),
    'student beside its teacher': lambda w: (
        {f'teacher.{k}': v + 1 for k, v in w.items()} | {f'student.{k}': v for k, v in w.items()}
    ),
}


@pytest.mark.parametrize('kind', WRAPPED)
def test_wrappers_are_taken_off_names(kind, weights, tmp_path):
    torch.save({'state_dict': WRAPPED[kind](weights)}, tmp_path / 'x.ckpt')
    assert_builds(tmp_path / 'x.ckpt', weights)


@pytest.mark.parametrize(
    'contain',
    [
        lambda w: w,
        lambda w: {'model_state_dict': w, 'epoch': 3, 'optimizer_state_dict': {'state': {}}},
        lambda w: {'model': {'state_dict': w}},
        lambda w: {'module': w, 'ds_version': '0.14', 'dp_world_size': 8},
        lambda w: {'ema': {'decay': 0.9}, 'model': w},
        lambda w: {'model': {k: v.numpy() for k, v in w.items()}},
        lambda w: {**w, 'head._extra_state': None},
    ],
)
@pytest.mark.parametrize('as_zip', [True, False])
def test_containers_in_both_formats_of_torch(contain, as_zip, weights, tmp_path):
    torch.save(contain(weights), tmp_path / 'x.pth.tar', _use_new_zipfile_serialization=as_zip)
    assert_builds(tmp_path / 'x.pth.tar', weights)


@pytest.mark.parametrize('name', ['model.safetensors', 'pytorch_model.bin', 'a=b.pth'])
def test_safetensors_are_told_by_their_content(name, weights, tmp_path):
    save_file({k: v.contiguous() for k, v in weights.items()}, tmp_path / name)
    assert_builds(tmp_path / name, weights)


def test_weights_that_lack_some_names_are_never_loaded_in_part(weights, tmp_path):
    most = {f'model.{k}': v for k, v in weights.items() if k != 'layer1.0.conv1.weight'}
    torch.save({'state_dict': most}, tmp_path / 'x.ckpt')
    with pytest.raises(ValueError, match=r"x\.ckpt' \(its names without 'model\.'\) .*: 1 missing \(layer1\.0\.conv1"):
        build_model('resnet18', tmp_path / 'x.ckpt', **NARROW)
    torch.save({f'{one}.{k}': v for k, v in weights.items() for one in 'ab'}, tmp_path / 'x.ckpt')
    with pytest.raises(ValueError, match=r'all weights several times, under a\., b\.; keep those that are meant'):
        build_model('resnet18', tmp_path / 'x.ckpt', **NARROW)


def test_other_classes_and_a_missing_name_have_a_way_out(weights, tmp_path):
    torch.save(weights, tmp_path / 'x.ckpt')
    with pytest.raises(ValueError, match=r'fc\.weight is \(3, 8\) and should be \(7, 8\).*; give num_classes=3'):
        build_model('resnet18', tmp_path / 'x.ckpt', **{**NARROW, 'num_classes': 7})
    with pytest.raises(
        ValueError, match=r"nothing in or beside checkpoint '.*x\.ckpt' names it; give 'NAME@.*x\.ckpt'"
    ):
        build_model(checkpoint=tmp_path / 'x.ckpt')
    (tmp_path / 'config.json').write_text('{}')
    with pytest.raises(ValueError, match=r'names it \(config\.json beside it is not used: .* names no architecture'):
        build_model(checkpoint=tmp_path / 'x.ckpt')


@pytest.fixture
def other_program(monkeypatch):
    """Classes of a package that is gone when the checkpoint is read."""
    module = types.ModuleType('gone')
    for name, base in (('Callback', object), ('Hparams', dict), ('Steps', list)):
        setattr(module, name, type(name, (base,), {'__module__': 'gone'}))
    module.Callback.Inner = type('Inner', (), {'__module__': 'gone', '__qualname__': 'Callback.Inner'})
    monkeypatch.setitem(sys.modules, 'gone', module)
    yield module
    sys.modules.pop('gone', None)


def test_objects_of_other_programs_are_inert_and_plain_values_are_kept(other_program, weights, tmp_path):
    callback = other_program.Callback()
    callback.best = np.float32(0.5)
    callback.inner = other_program.Callback.Inner()
    content = {
        'pytorch-lightning_version': '2.4',
        'hyper_parameters': other_program.Hparams(lr=0.1),
        'steps': other_program.Steps([1, 2]),
        'callbacks': {'early': callback},
        'args': argparse.Namespace(out=pathlib.Path('a/b')),
        'when': datetime.datetime(2026, 1, 2),
        'random': (random.Random(0).getstate(), np.random.RandomState(0).get_state(), np.random.default_rng(0)),
        'array': np.arange(6.0).reshape(2, 3).T,
        'scalars': [np.int64(3), np.bool_(True), np.float64(0.25), np.str_('x')],
        'queue': collections.deque([1, 2], maxlen=5),
        'factory': collections.defaultdict(list, a=[1]),
        'state_dict': weights,
    }
    torch.save(content, tmp_path / 'x.ckpt')
    sys.modules.pop('gone')
    found = read_checkpoint(tmp_path / 'x.ckpt')
    assert (found['hyper_parameters'], found['steps'], found['queue']) == ({'lr': 0.1}, [1, 2], [1, 2])
    assert isinstance(found['callbacks']['early'], Inert)
    assert found['callbacks']['early'].state['best'] == 0.5
    assert found['args'].state == {'out': 'a/b'}
    assert found['when'] == content['when']
    np.testing.assert_array_equal(found['array'], content['array'])
    np.testing.assert_array_equal(found['random'][1][1], content['random'][1][1])
    assert found['scalars'] == [3, True, 0.25, 'x']
    assert found['factory'] == {'a': [1]}
    assert_builds(tmp_path / 'x.ckpt', weights)


def write_raw(path, pickled: bytes) -> None:
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('x/data.pkl', b'\x80\x02' + pickled + b'.')
        archive.writestr('x/version', '3\n')
        archive.writestr('x/byteorder', 'little')


@pytest.mark.parametrize(
    'pickled',
    [
        b'cos\nsystem\nX\x04\x00\x00\x00true\x85R',
        b'cposix\nsystem\nX\x04\x00\x00\x00true\x85R',
        b'c__builtin__\neval\nX\x01\x00\x00\x001\x85R',
        b'cbuiltins\nexec\nX\x01\x00\x00\x001\x85R',
        b'c__builtin__\ngetattr\nc__builtin__\ndict\nX\x04\x00\x00\x00keys\x86R)R',
        b'cbuiltins\ngetattr\nccollections\nOrderedDict\nX\x08\x00\x00\x00fromkeys\x86R',
        b'csubprocess\nPopen\nX\x04\x00\x00\x00true\x85R',
        b'cimportlib\nimport_module\nX\x02\x00\x00\x00os\x85R',
        b'crunpy\nrun_path\nX\x01\x00\x00\x00x\x85R',
        b'ctorch.hub\nload\nX\x01\x00\x00\x00x\x85R',
        b'cnumpy.testing._private.utils\nrunstring\nX\x01\x00\x00\x00x}\x86R',
        b'cpip\nmain\n]\x85R',
        b'coperator\nattrgetter\nX\x06\x00\x00\x00system\x85R',
        b'cwebbrowser\nopen\nX\x01\x00\x00\x00x\x85R',
        b'ccopyreg\n_reconstructor\nccollections\nOrderedDict\nc__builtin__\nobject\nN\x87R',
        b'cnumpy.core.multiarray\n_reconstruct\nccollections\nOrderedDict\nK\x00\x85c_codecs\nencode\n\x87R',
    ],
)
def test_a_pickle_that_calls_what_it_should_not_is_refused(pickled, tmp_path):
    write_raw(tmp_path / 'bad.pth', pickled)
    with pytest.raises(ValueError, match=r"bad\.pth' holds Python objects .*not loaded") as error:
        read_checkpoint(tmp_path / 'bad.pth')
    assert '\n' not in str(error.value)


FILES = {
    'empty': (b'', 'is empty; copy'),
    'web page': (b'\n<!DOCTYPE html><html><body>Sign in</body></html>', 'is a web page or XML'),
    'LFS': (b'version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n', "Git LFS.*'git lfs pull'"),
    'text': (b'Rate limit exceeded', "no file of torch.save or safetensors .it begins b'Rate limit"),
    'half a zip': (b'PK\x03\x04' + bytes(500), 'is damaged'),
    'protocol 4': (pickle.dumps({'a': 1}, protocol=4), 'is a pickle of protocol 4'),
    'half a legacy file': (pickle.dumps(0x1950A86A20F9469CFC6C, 2) + b'\x80\x02', 'is damaged'),
    'other pickle': (pickle.dumps({'a': [1]}, 2), 'is damaged'),
    'half of safetensors': ((900).to_bytes(8, 'little') + b'{"a":', 'is damaged'),
    'HDF5': (b'\x89HDF\r\n\x1a\n' + bytes(99), 'is an HDF5 file'),
    'gzip': (b'\x1f\x8b\x08' + bytes(99), 'is compressed by gzip; unpack it'),
}


@pytest.mark.parametrize('kind', FILES)
def test_files_that_are_no_weights_are_told_in_one_line(kind, tmp_path):
    content, message = FILES[kind]
    (tmp_path / 'x.pth').write_bytes(content)
    with pytest.raises(ValueError, match=rf"x\.pth' .*{message}") as error:
        read_weights(tmp_path / 'x.pth')
    assert '\n' not in str(error.value)


def test_folders_archives_programs_and_models_are_told_in_one_line(weights, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.pth' does not exist"):
        read_weights(tmp_path / 'gone.pth')
    with pytest.raises(ValueError, match=r'is a folder; .* this one has none'):
        read_weights(tmp_path)
    torch.save(weights, tmp_path / 'w.pth')
    with pytest.raises(ValueError, match=r'is a folder; .* such as w\.pth'):
        read_weights(tmp_path)
    whole = (tmp_path / 'w.pth').read_bytes()
    (tmp_path / 'w.pth').write_bytes(whole[:-500])
    with pytest.raises(ValueError, match='is damaged'):
        read_weights(tmp_path / 'w.pth')
    np.savez(tmp_path / 'x.npz', a=np.ones(3))
    with pytest.raises(ValueError, match=r'zip file of something else .with a\.npy'):
        read_weights(tmp_path / 'x.npz')
    with zipfile.ZipFile(tmp_path / 'bomb.pth', 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('x/data.pkl', b'\x80\x02}.')
        archive.writestr('x/data/0', bytes(10**7))
    with pytest.raises(ValueError, match='would grow to more than 100 times'):
        read_weights(tmp_path / 'bomb.pth')
    torch.save({'model': torch.nn.Linear(2, 2), 'epoch': 1}, tmp_path / 'model.pth')
    with pytest.raises(ValueError, match=r'torch\.nn\.modules\.linear\.Linear: a whole model.*state_dict\(\)'):
        read_weights(tmp_path / 'model.pth')
    torch.save({'epoch': 3, 'lr': 0.1}, tmp_path / 'log.pth')
    with pytest.raises(ValueError, match=r'holds no state dict; .* it has epoch, lr'):
        read_weights(tmp_path / 'log.pth')
    torch.save([1, 2], tmp_path / 'list.pth')
    with pytest.raises(ValueError, match='holds no state dict, but a list'):
        read_weights(tmp_path / 'list.pth')
