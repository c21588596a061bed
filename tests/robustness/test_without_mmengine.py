"""A timm model is judged where nothing of OpenMMLab is installed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import timm

from backbones.checkpoint import save_model
from backbones.record import ModelRecord
from distill.results.schema import validate

REPO = Path(__file__).parents[2]
BLOCKED = ('mmengine', 'mmcv', 'mmdet', 'mmseg')
PROGRAM = f"""
import importlib, pkgutil, sys
from importlib.abc import MetaPathFinder

class NotInstalled(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {BLOCKED}:
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)

sys.meta_path.insert(0, NotInstalled())
try:
    import mmengine
except ModuleNotFoundError:
    pass
else:
    sys.exit('mmengine is not blocked')

import distill.base, distill.results, distill.robustness
for package in (distill.base, distill.results, distill.robustness):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):
        importlib.import_module(module.name)
from distill.cli.robustness import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def checkpoint(shapes, tmp_path) -> Path:
    """A small timm model of the embedded classes."""
    classes = sorted(folder.name for folder in (shapes / 'val').iterdir())
    path = tmp_path / 'resnet.pth'
    save_model(path, timm.create_model('test_resnet', num_classes=10), ModelRecord(
        'test_resnet', {'num_classes': 10}, classes=classes, input_size=[3, 32, 32]
    ))  # fmt: skip
    return path


def test_every_module_of_the_judge_is_imported_and_a_model_evaluated(checkpoint, shapes, tmp_path):
    arguments = [str(checkpoint), '--data-root', str(shapes), '--out', str(tmp_path / 'out'), '--corruption-limit', '2']
    arguments += ['--suite', 'clean', 'corruption', 'rendition', '--workers', '0', '--device', 'cpu']
    done = subprocess.run([sys.executable, '-c', PROGRAM, *arguments], cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / 'out' / 'results.json').read_text())
    validate(results)
    assert set(results['classification']['resnet']) == {'clean', 'corruption', 'rendition'}
