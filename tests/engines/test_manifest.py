"""The manifest beside an artefact: written, read back, and refused where it is of something else."""

import json
from dataclasses import replace

import pytest

from distill.engines.artefact import Manifest, Verification, artefact_sha256

PLAIN = Manifest(
    engine='onnx',
    engine_version='1.0',
    sha256='',
    source='resnet18',
    model='resnet18',
    weights_sha256=None,
    steps=['batch norms folded: 20'],
    task='classification',
    size=[64, 96],
    dynamic=['batch'],
    batch=None,
    dtype='float32',
    mean=[0.1, 0.2, 0.3],
    std=[1.0, 1.0, 1.0],
    crop_pct=0.9,
    crop_mode='center',
    interpolation='bicubic',
    classes=['Katze', '犬'],
    outputs=['logits'],
    verification=Verification('synthetic', 16, 1e-4, 1e-6, 1e-7, 1.0),
)


@pytest.fixture
def artefact(tmp_path):
    path = tmp_path / 'm.xml'
    path.write_text('<net/>')
    path.with_suffix('.bin').write_bytes(b'weights')
    return path


def test_a_manifest_is_read_as_it_was_written(artefact):
    manifest = replace(PLAIN, sha256=artefact_sha256(artefact))
    assert Manifest.read(artefact) is None
    manifest.write(artefact)
    assert (artefact.parent / 'm.xml.json').is_file()
    assert Manifest.read(artefact) == manifest


@pytest.mark.parametrize('file', ['m.xml', 'm.bin'])
def test_a_file_that_is_not_the_described_one_is_refused(artefact, file):
    replace(PLAIN, sha256=artefact_sha256(artefact)).write(artefact)
    with (artefact.parent / file).open('ab') as changed:
        changed.write(b' ')
    with pytest.raises(ValueError, match='it is damaged or of another model; export it again'):
        Manifest.read(artefact)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda m: m.pop('size'), 'lacks size; export the model again'),
        (lambda m: m.update(colour='red'), 'has colour, which is unknown; export the model again'),
        (lambda m: m.update(format=99), r'is no manifest of format 1 \(it says 99\)'),
        (lambda m: m.update(dtype='float64'), "dtype is 'float64'; expected one of float32, uint8"),
        (lambda m: m.update(std=[0, 1, 1]), 'expected three numbers above 0'),
        (lambda m: m['verification'].pop('count'), 'verification.* lacks count'),
        (lambda m: m.clear(), r'is no manifest of format 1 \(it says None\)'),
    ],
)
def test_a_manifest_with_a_mistake_is_one_line(artefact, change, message):
    replace(PLAIN, sha256=artefact_sha256(artefact)).write(artefact)
    path = Manifest.path_beside(artefact)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        Manifest.read(artefact)
