"""Engines open what they wrote and nothing that is damaged, elsewhere or code."""

import importlib.util
import json
import os
import pickle
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from distill.engines import MODULES, SUFFIXES, Names, by_name, by_suffix, named_inputs
from distill.engines.installed import missing_modules
from distill.engines.pt2 import CONFIGS, MODEL
from distill.engines.quiet import caught_output

NAMES = Names(('images',), ('logits',))
ANY_BATCH = {'images': {0: 'batch'}}
QUICK = ('onnx', 'openvino', 'mnn', 'torch')


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, stride=2), nn.Linear(4, 5)

    def forward(self, images):
        return self.head(self.conv(images).relu().mean((2, 3)))


@pytest.fixture(scope='module')
def network():
    torch.manual_seed(0)
    return Small().eval()


@pytest.fixture(scope='module')
def written(tmp_path_factory, network):
    """A file of each engine that writes soon."""
    folder = tmp_path_factory.mktemp('artefacts')
    paths = {}
    for name in QUICK:
        engine = by_name(name)
        if engine.missing() is None:
            paths[name] = folder / f'small{engine.suffix}'
            engine.write(network, (torch.randn(2, 3, 8, 8),), paths[name], NAMES, ANY_BATCH)
    return paths


def copied(path: Path, folder: Path) -> Path:
    """A copy of an artefact, with its weights."""
    for file in path.parent.glob(f'{path.stem}.*'):
        if file.suffix in (path.suffix, '.bin' if path.suffix == '.xml' else path.suffix):
            (folder / file.name).write_bytes(file.read_bytes())
    return folder / path.name


def of(written, name: str) -> Path:
    return written[name] if name in written else pytest.skip(f'{name} is not installed')


@pytest.mark.parametrize('name', QUICK)
def test_an_engine_computes_what_the_network_computes_for_any_batch(name, written, network):
    path = of(written, name)
    session = by_suffix(path).open(path, threads=1)
    assert session.inputs[0].shape == (None, 3, 8, 8)
    for count in (1, 3):
        images = torch.randn(count, 3, 8, 8)
        found = session.run(images.numpy())
        np.testing.assert_allclose(found[0], network(images).detach().numpy(), atol=1e-6)
    for wrong in (np.zeros((1, 3, 9, 8), np.float32), np.zeros((1, 3, 8, 8), np.float64)):
        with pytest.raises(ValueError, match=r'the artefact takes float32 of \[any, 3, 8, 8\]'):
            session.run(wrong)


@pytest.mark.parametrize('name', QUICK)
@pytest.mark.parametrize('damage', ['truncated', 'empty', 'pickle'])
def test_a_damaged_file_is_one_line(name, damage, written, tmp_path):
    path = copied(of(written, name), tmp_path)
    content = path.read_bytes()
    damaged = {'truncated': content[: len(content) // 2], 'empty': b'', 'pickle': pickle.dumps({'weight': [1.0]})}
    path.write_bytes(damaged[damage])
    with pytest.raises(ValueError, match=r'cannot be read .*; export it again') as caught:
        by_name(name).open(path)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('name', MODULES)
def test_a_file_that_is_not_there(name, tmp_path):
    if by_name(name).missing():
        pytest.skip('not installed')
    with pytest.raises(FileNotFoundError, match='does not exist; export it first or correct the path'):
        by_name(name).open(tmp_path / f'x{by_name(name).suffix}')


def test_weights_of_openvino_that_are_cut_or_gone(written, tmp_path):
    path = copied(of(written, 'openvino'), tmp_path)
    weights = path.with_suffix('.bin')
    weights.write_bytes(weights.read_bytes()[:20])
    with pytest.raises(ValueError, match='cannot be read by OpenVINO'):
        by_name('openvino').open(path)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match='does not exist; copy both files'):
        by_name('openvino').open(path)


@pytest.mark.parametrize('location', ['../secret.bin', '/etc/passwd', 'link.bin', 'inside.bin ../secret.bin', ''])
@pytest.mark.parametrize('place', ['initializer', 'constant', 'sparse', 'function'])
def test_onnx_reads_no_data_outside_its_folder(location, place, written, tmp_path):
    onnx = pytest.importorskip('onnx')
    inside = tmp_path / 'inside'
    inside.mkdir()
    (tmp_path / 'secret.bin').write_bytes(bytes(1000))
    os.symlink(tmp_path / 'secret.bin', inside / 'link.bin')
    (inside / 'inside.bin').write_bytes(bytes(1000))
    model = onnx.load(of(written, 'onnx'))
    tensor = onnx.TensorProto(name='t', data_type=onnx.TensorProto.FLOAT, dims=[4])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    # The last of several is the one that is read.
    entries = [onnx.StringStringEntryProto(key='location', value=one) for one in location.split()]
    tensor.external_data.extend(entries)
    if place == 'initializer':
        model.graph.initializer.append(tensor)
    elif place == 'constant':
        model.graph.node.append(onnx.helper.make_node('Constant', [], ['c'], value=tensor))
    else:
        sparse = onnx.SparseTensorProto(values=tensor, dims=[4])
        node = onnx.helper.make_node('Constant', [], ['c'])
        node.attribute.append(onnx.AttributeProto(name='sparse_value', type=11, sparse_tensor=sparse))
        if place == 'sparse':
            model.graph.node.append(node)
        else:
            model.functions.add(name='f', domain='mine').attribute_proto.extend(node.attribute)
    (inside / 'x.onnx').write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match='outside its folder; export it as one file'):
        by_name('onnx').open(inside / 'x.onnx')


def test_onnx_with_an_operator_of_a_library_is_refused(written, tmp_path):
    onnx = pytest.importorskip('onnx')
    model = onnx.load(of(written, 'onnx'))
    model.graph.node[0].domain = 'my.operators'
    (tmp_path / 'x.onnx').write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=r'operator my\.operators::.*needs a library of code, and none is loaded'):
        by_name('onnx').open(tmp_path / 'x.onnx')


class Runs:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def rewritten(source: Path, path: Path, change) -> None:
    """Copy a program of torch with its entries changed."""
    with zipfile.ZipFile(source) as archive:
        entries = {name.partition('/')[2]: archive.read(name) for name in archive.namelist()}
    change(entries)
    with zipfile.ZipFile(path, 'w') as archive:
        for name, content in entries.items():
            archive.writestr(f'x/{name}', content)


def with_program(change):
    """A change of the description of a program."""

    def changed(entries):
        program = json.loads(entries[MODEL])
        change(program)
        entries[MODEL] = json.dumps(program).encode()

    return changed


def test_loading_a_program_of_torch_runs_no_code(written, tmp_path):
    mark, path = tmp_path / 'ran', tmp_path / 'x.pt2'
    evil = pickle.dumps(Runs(mark))

    def pickled_weight(entries):
        config = json.loads(entries[CONFIGS[0]])
        entry = next(iter(config['config'].values()))
        entry['use_pickle'] = True
        entries[f'data/weights/{entry["path_name"]}'] = evil
        entries[CONFIGS[0]] = json.dumps(config).encode()

    def node(program, **changes):
        program['graph_module']['graph']['nodes'][0].update(changes)

    refused = {
        'is a pickle, which may be code': pickled_weight,
        "'torch.os.system' is no operation": with_program(lambda p: node(p, target='torch.os.system')),
        'from_file.* is no operation': with_program(lambda p: node(p, target='torch.ops.aten.from_file.default')),
        'is no expression of a size': with_program(
            lambda p: p.update(range_constraints={}, extra={'expr_str': f'open("{mark}", "w")'})
        ),
        'no plain container': with_program(
            lambda p: p['graph_module']['module_call_graph'][0]['signature'].update(
                in_spec='[1, {"type": "collections.defaultdict", "context": "null", "children_spec": []}]'
            )
        ),
    }
    for message, change in refused.items():
        rewritten(of(written, 'torch'), path, change)
        with pytest.raises(ValueError, match=message):
            by_name('torch').open(path)

    def harmless(entries):
        entries['data/sample_inputs/model.pt'] = evil
        entries['extra/code.pkl'] = evil
        with_program(lambda p: p.update(guards_code=[f'open("{mark}", "w")']))(entries)

    rewritten(of(written, 'torch'), path, harmless)
    assert by_name('torch').open(path).run(np.zeros((1, 3, 8, 8), np.float32))[0].shape == (1, 5)
    assert not mark.exists()
    # The same file does run code where it is loaded as it is.
    rewritten(of(written, 'torch'), path, pickled_weight)
    with pytest.raises(Exception, match=r'.'):
        torch.export.load(path)
    assert mark.exists()


def test_no_paths_of_the_machine_are_in_the_files(written):
    for path in written.values():
        assert b'site-packages' not in path.read_bytes(), path


def test_opening_a_file_writes_nothing_into_the_users_folders(written, tmp_path):
    code = 'import sys; from distill.engines import by_suffix; [by_suffix(path).open(path, 1) for path in sys.argv[1:]]'
    quick = [str(path) for path in written.values()]
    subprocess.run([sys.executable, '-c', code, *quick], env={**os.environ, 'HOME': str(tmp_path)}, check=True)
    assert [str(path) for path in tmp_path.rglob('*') if path.is_file()] == []


@pytest.mark.skipif(not hasattr(signal, 'SIGCHLD'), reason='there is no such signal here')
def test_sessions_of_openvino_end_in_any_order(written):
    """Of two cores of OpenVINO 2026.4, the first of which ends first, a stack for signals is left that is gone."""
    code = (
        'import signal, subprocess, sys\n'
        'from distill.engines import by_name\n'
        'signal.signal(signal.SIGCHLD, lambda *_: None)\n'
        "first, second = (by_name('openvino').open(sys.argv[1], 1) for _ in range(2))\n"
        'del first\n'
        'del second\n'
        "subprocess.run([sys.executable, '-c', ''], check=True)\n"
    )
    assert subprocess.run([sys.executable, '-c', code, str(of(written, 'openvino'))]).returncode == 0


def test_lookup():
    assert {by_name(name).suffix for name in MODULES} == set(SUFFIXES)
    assert [by_suffix(f'x{suffix}').name for suffix in SUFFIXES] == list(SUFFIXES.values())
    with pytest.raises(ValueError, match=r"engine 'tflite' is unknown; choose from onnx, openvino, mnn"):
        by_name('tflite')
    with pytest.raises(ValueError, match=r"'x\.tflite' is no artefact of an engine; those end in \.onnx"):
        by_suffix('x.tflite')


def test_inputs_by_name(written):
    session = by_name('onnx').open(of(written, 'onnx'))
    images = np.zeros((1, 3, 8, 8), np.float32)
    np.testing.assert_array_equal(session.run({'images': images})[0], session.run(images)[0])
    with pytest.raises(ValueError, match='the inputs are pictures; the artefact takes images'):
        named_inputs({'pictures': images}, session.inputs)


def test_a_missing_engine_is_one_line(monkeypatch, written, tmp_path):
    path = of(written, 'openvino')
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None if name == 'openvino' else find(name))
    assert missing_modules('openvino', 'openvino') == (
        "openvino, which is not installed; pip install 'robust-backbones[openvino]'"
    )
    with pytest.raises(ValueError, match=r'needs openvino, which is not installed; pip install'):
        by_name('openvino').open(path)


def test_what_a_library_prints_is_caught(capfd):
    with caught_output() as said:
        os.write(1, b'noise\n')
        assert said() == 'noise\n'
    assert capfd.readouterr().out == ''


def test_the_working_directory_has_no_part_in_a_file_of_mnn(tmp_path, monkeypatch):
    """MNN's converter keeps large weights in a file of one name there, which two of them would share."""
    engine = by_name('mnn')
    if engine.missing():
        pytest.skip('MNN is not installed')
    torch.manual_seed(0)
    network, images = nn.Sequential(nn.Flatten(), nn.Linear(3072, 256)).eval(), torch.randn(2, 3, 32, 32)
    monkeypatch.chdir(tmp_path)
    Path('.__convert_external_data.bin').symlink_to('/dev/null')
    engine.write(network, (images,), 'large.mnn', NAMES, ANY_BATCH)
    assert {path.name for path in tmp_path.iterdir()} == {'.__convert_external_data.bin', 'large.mnn'}
    found = engine.open('large.mnn', threads=1).run(images.numpy())
    np.testing.assert_allclose(found[0], network(images).detach().numpy(), atol=1e-5)
