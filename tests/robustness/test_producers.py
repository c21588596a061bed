"""The results of every command fit one schema and merge into one file."""

from pathlib import Path

import pytest
import torch

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

import backbones.openmmlab  # noqa: F401 - before anything imports mmcv's operators

# isort: split
from mmengine.config import Config
from mmengine.registry import init_default_scope

from distill.cli.robustness import main as evaluate
from distill.cli.test import main as run_test
from distill.report.collect import collect
from distill.results.files import read_results
from distill.results.schema import validate
from distill.synthetic.ade20k import write_ade20k
from distill.synthetic.coco import write_coco

REPO = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_producer_fits_the_schema(checkpoints, shapes, tmp_path):
    """tools/test.py in each of its tasks, and their merge with the results of tools/robustness.py, as in the demo."""
    out = tmp_path / 'robustness'
    arguments = ['--data-root', str(shapes), '--out', str(out), '--suite', 'clean', 'stylized', '--workers', '0']
    assert evaluate([str(checkpoints[0]), *arguments]) == 0
    write_coco(tmp_path / 'coco', size=64, train=4, val=2)
    write_ade20k(tmp_path / 'ade20k', size=64, train=4, val=2)
    tasks = {
        'distill/configs/shapes/robust-resnet-tiny_shapes.py': shapes,
        'downstream_configs/cascade_rcnn/cascade-rcnn_robust-resnet-dw_fpn_tiny_shapes-coco.py': tmp_path / 'coco',
        'downstream_configs/deeplabv3/deeplabv3_robust-resnet-dw_tiny_shapes-ade20k.py': tmp_path / 'ade20k',
    }
    folders = [out]
    for name, data in tasks.items():
        config = Config.fromfile(REPO / name)
        scope = config.get('default_scope', 'mmengine')
        init_default_scope(scope)
        model = __import__(f'{scope}.registry', fromlist=['MODELS']).MODELS.build(config.model)
        folders.append(tmp_path / Path(name).stem)
        folders[-1].mkdir()
        torch.save({'state_dict': model.state_dict()}, folders[-1] / 'iter_1.pth')
        assert run_test([str(REPO / name), 'auto', '--work-dir', str(folders[-1]), '--data-root', str(data)]) == 0
    contents = [read_results(folder) for folder in folders]
    assert set(contents[1]['scores']) == {'top1_pct', 'top5_pct'}
    merged = collect(folders, tmp_path / 'merged')
    validate(merged)
    assert {'classification', 'detection', 'segmentation'} <= set(merged)
