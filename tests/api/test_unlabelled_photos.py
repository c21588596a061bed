"""A recipe for a foundation model on photos that nobody labelled: one call, and one command."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from PIL import Image

import distill
from backbones.checkpoint import read_weights
from distill.cli.train import main as train

RECIPE = 'foundation/dinov2-s_robust-resnet-dw-s_200e_folder'
# Small networks, and a teacher with random weights: those of DINOv2 come from a network.
SMALL = {
    'model.teachers.0.pretrained': False,
    'model.teachers.0.depth': 1,
    'model.teachers.0.embed_dim': 32,
    'model.teachers.0.num_heads': 2,
    'model.teachers.0.size': 28,
    'model.student.depths': [1, 1, 1, 1],
    'model.student.dims': [8, 8, 16, 16],
    'train_dataloader.dataset.transform.input_size': 32,
    'epochs': 1,
    'batch_size': 4,
    'num_workers': 0,
}
OPTIONS = [f'{key}={value}'.replace(' ', '') for key, value in SMALL.items()]


@pytest.fixture(scope='module')
def photos(tmp_path_factory) -> Path:
    """Two folders, of ten and of four images in folders of several depths and in three formats."""
    root, generator = tmp_path_factory.mktemp('photos'), torch.Generator().manual_seed(0)
    for place in range(14):
        folder = root / ('mine' if place < 10 else 'web') / 'holiday'[: place % 3] / 'x'
        folder.mkdir(parents=True, exist_ok=True)
        pixels = torch.randint(0, 256, (40, 48, 3), generator=generator, dtype=torch.uint8).numpy()
        Image.fromarray(pixels).save(folder / f'{place}.{("jpg", "png", "webp")[place % 3]}')
    (root / 'mine' / 'notes.txt').write_text('no image')
    return root


def weights(work_dir: Path) -> dict[str, torch.Tensor]:
    return read_weights(work_dir / 'student_best.safetensors')


def equal(one: Path, other: Path) -> bool:
    return all(torch.equal(value, weights(other)[name]) for name, value in weights(one).items())


def test_one_call_and_one_command_do_the_same(photos, tmp_path):
    result = distill.train(RECIPE, photos / 'mine', tmp_path / 'call', **SMALL)
    assert (result.epoch, result.iter) == (1, 2)
    assert result.student().network(torch.zeros(1, 3, 32, 32)).shape == (1, 64)
    folders = ['--data-root', str(photos / 'mine'), '--work-dir', str(tmp_path / 'command')]
    assert train([RECIPE, *folders, '--cfg-options', *OPTIONS]) == 0
    assert equal(tmp_path / 'call', tmp_path / 'command')


def test_several_folders_have_their_shares(photos, tmp_path, capsys):
    mine, web = str(photos / 'mine'), str(photos / 'web')
    folders = ['--source', mine, '3', '--source', web, '1', '--work-dir', str(tmp_path / 'command')]
    assert train([RECIPE, *folders, '--cfg-options', *OPTIONS]) == 0
    distill.train(RECIPE, {mine: 3, web: 1}, tmp_path / 'call', **SMALL)
    distill.train(RECIPE, [mine, web], tmp_path / 'plain', **SMALL)
    assert equal(tmp_path / 'call', tmp_path / 'command')
    assert not equal(tmp_path / 'call', tmp_path / 'plain')
    for run, found in (('call', [dict(root=mine, weight=3), dict(root=web, weight=1)]), ('plain', None)):
        dataset = Config.fromfile(next((tmp_path / run).glob('*.py'))).train_dataloader.dataset
        assert dataset.sources == (found or [dict(root=mine), dict(root=web)])
        assert 'root' not in dataset
    capsys.readouterr()
    command = [RECIPE, '--work-dir', str(tmp_path / 'none')]
    for arguments, message in (
        (['--source', mine, '--source', str(photos / 'none')], "none' does not exist; make or unpack the data there"),
        (['--source', mine, '--data-root', web], 'exclude each other; name it as a --source too'),
        (['--source', mine, '--source', web, '2'], f"--source '{mine}' has no weight and another has one"),
        (['--source', mine, 'much', '--source', web, '2'], '--source has the weights much, 2; give a number for each'),
        (['--source', mine, '-1', '--source', web, '2'], 'weight of a source is -1.0'),
        (['--source', mine, web, '2'], 'is more than a path and a weight; write --source once for each set'),
        (['--source', mine, '--source', mine], f"--source '{mine}' comes twice"),
    ):
        assert train([*command, *arguments, '--cfg-options', *OPTIONS]) == 1
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        assert message in lines[0]
    assert train(['robust-resnet-tiny_shapes', '--source', mine, '--source', web]) == 1
    assert 'trains on images with labels, of which there is one set' in capsys.readouterr().err
    with pytest.raises(ValueError, match='give a path, a list of paths, or a dict with the weight of each'):
        distill.train(RECIPE, [], tmp_path / 'none', **SMALL)
