"""The command: a picture of each image and one file for all, from a classifier, without OpenMMLab."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from distill.cli.predict import main
from distill.predict.record import FILE_NAME, PARTIAL_NAME

REPO = Path(__file__).parents[2]
WITHOUT_MMENGINE = """
import sys
for name in ('mmengine', 'mmcv', 'mmdet', 'mmseg', 'pycocotools'):
    sys.modules[name] = None
from distill.cli.predict import main
sys.exit(main(sys.argv[1:]))
"""


def run(*arguments) -> int:
    return main([*map(str, arguments), '--device', 'cpu', '--workers', '0'])


def test_pictures_keep_the_tree_and_the_file_names_them(checkpoint, photos, tmp_path, capsys):
    out = tmp_path / 'out'
    assert run(photos, '--model', checkpoint, '--out', out, '--topk', 2) == 0
    content = json.loads((out / FILE_NAME).read_text())
    names = ['a.jpg', 'a.png', 'b.png', 'more/a.png', 'more/c.webp']
    assert [entry['name'] for entry in content['images']] == names
    assert sorted(str(path.relative_to(out / 'pictures')) for path in out.rglob('*.jpg')) == [f'{n}.jpg' for n in names]
    for entry in content['images']:
        assert Image.open(out / entry['picture']).size[0] > entry['width']
        assert len(entry['top']) == 2
    assert (content['finished'], content['counts']['predicted']) == (True, 5)
    assert len(content['model']['weights_sha256']) == 64
    assert 'seed' not in content['provenance']
    assert '5 images' in capsys.readouterr().out


def test_a_broken_image_ends_the_command_and_what_was_done_before_is_kept(checkpoint, photos, tmp_path, capsys):
    (photos / 'b.png').write_text('no image')
    out = tmp_path / 'out'
    assert run(photos, '--model', checkpoint, '--out', out, '--batch-size', 2) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert 'b.png' in error
    assert '--skip-broken' in error
    assert not (out / FILE_NAME).exists()
    assert [entry['name'] for entry in json.loads((out / PARTIAL_NAME).read_text())['images']] == ['a.jpg', 'a.png']


def test_a_broken_image_is_named_counted_and_skipped(checkpoint, photos, tmp_path, capsys):
    (photos / 'b.png').write_text('no image')
    out = tmp_path / 'out'
    assert run(photos, '--model', checkpoint, '--out', out, '--skip-broken', '--no-pictures') == 0
    content = json.loads((out / FILE_NAME).read_text())
    assert content['counts'] == {'images': 5, 'predicted': 4, 'skipped': 1}
    assert 'no image' in content['images'][2]['skipped']
    assert [path.name for path in out.iterdir()] == [FILE_NAME]
    assert 'b.png' in capsys.readouterr().out


def test_the_first_images_alone(checkpoint, photos, tmp_path):
    assert run(photos, '--model', checkpoint, '--out', tmp_path / 'out', '--limit', 2, '--no-pictures') == 0
    assert len(json.loads((tmp_path / 'out' / FILE_NAME).read_text())['images']) == 2


def test_classes_are_named_by_a_file(checkpoint, photos, tmp_path, capsys):
    names = tmp_path / 'names.txt'
    names.write_text('\n'.join(f'thing {k}' for k in range(10)))
    more = ['--no-pictures', '--class-names', names]
    assert run(photos / 'a.png', '--model', checkpoint, '--out', tmp_path / 'out', *more) == 0
    content = json.loads((tmp_path / 'out' / FILE_NAME).read_text())
    assert content['images'][0]['top'][0]['class'].startswith('thing ')
    names.write_text('one\n')
    assert run(photos / 'a.png', '--model', checkpoint, '--out', tmp_path / 'other', *more) == 1
    assert 'has 10' in capsys.readouterr().err
    assert not (tmp_path / 'other').exists()


@pytest.mark.parametrize(
    'options', [['--topk', '0'], ['--score-threshold', '7'], ['--limit', '0'], ['--workers', '-1']]
)
def test_a_wrong_option_is_one_line(checkpoint, photos, tmp_path, capsys, options):
    assert main([str(photos), '--model', str(checkpoint), '--out', str(tmp_path / 'out'), *options]) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / 'out').exists()


def test_a_folder_without_images_is_one_line(checkpoint, tmp_path, capsys):
    (tmp_path / 'in').mkdir()
    assert run(tmp_path / 'in', '--model', checkpoint, '--out', tmp_path / 'out') == 1
    assert 'has no image' in capsys.readouterr().err


def test_a_classifier_needs_nothing_of_openmmlab(checkpoint, photos, tmp_path):
    arguments = [photos, '--model', checkpoint, '--out', tmp_path / 'out', '--device', 'cpu', '--workers', '1']
    command = [sys.executable, '-c', WITHOUT_MMENGINE, *map(str, arguments)]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / 'out' / FILE_NAME).read_text())['finished'] is True


def test_a_detector_without_openmmlab_says_what_to_install(checkpoint, photos, tmp_path):
    config = 'cascade-rcnn_robust-resnet-dw_fpn_tiny_bccd'
    arguments = [photos, '--model', checkpoint, '--config', config, '--out', tmp_path / 'out', '--device', 'cpu']
    command = [sys.executable, '-c', WITHOUT_MMENGINE, *map(str, arguments)]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 1
    assert 'pip install' in done.stderr.strip().splitlines()[-1]
