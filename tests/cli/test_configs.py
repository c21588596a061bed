"""`robust-backbones configs`: the list, and copies that hold all that a config inherits."""

import json
import re

import pytest
from mmengine.config import Config

from distill.base.packaged import CONFIG, find, packaged
from distill.cli.configs import main


def test_the_list_has_every_config_with_task_and_headline(tmp_path, capsys):
    assert main(['--json', str(tmp_path / 'list.json')]) == 0
    shown, listed = capsys.readouterr().out, json.loads((tmp_path / 'list.json').read_text())
    assert set(listed) == {file.name for file in packaged(CONFIG)}
    for name, entry in listed.items():
        assert name in shown
        assert entry['headline'] in shown
        assert entry['task'] in ('distillation', 'detection', 'segmentation', 'dense distillation')


def test_a_single_config_is_shown_with_its_path(capsys):
    assert main(['deit-s_robust-resnet-dw-s_300e']) == 0
    assert find('deit-s_robust-resnet-dw-s_300e_imagenet') in capsys.readouterr().out


@pytest.mark.parametrize(
    'name',
    [
        'deit-mini_robust-resnet-tiny_shapes',
        'cascade-mask-rcnn_robust-resnet-dw-s_fpn_4conv1fc-giou_ms-crop-3x_coco',
        'deeplabv3_robust-resnet-dw_tiny_shapes-ade20k',
    ],
)
def test_a_copy_is_whole_and_equal(name, tmp_path, capsys):
    assert main([name, '--copy', str(tmp_path / 'new' / 'mine')]) == 0
    copy = tmp_path / 'new' / 'mine' / f'{name}.py'
    assert capsys.readouterr().out == f'config: {copy}\n'
    assert '_base_' not in copy.read_text()
    assert 'tools/' not in copy.read_text()  # There is none outside of a clone.
    assert Config.fromfile(copy, import_custom_modules=False).to_dict() == (
        Config.fromfile(find(name), import_custom_modules=False).to_dict()
    )
    copy.write_text('mine')
    assert main([name, '--copy', str(copy.parent)]) == 1
    assert 'is there already; move it away' in capsys.readouterr().err
    assert copy.read_text() == 'mine'


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['zzz'], "config 'zzz' does not exist, as a file or as a name"),
        (['--copy', 'x'], '--copy needs the name of a config'),
        (['robust-resnet', '--copy', 'x'], "config 'robust-resnet' is ambiguous"),
        (['deit-mini_shapes', '--copy', __file__], "--copy '.*' is a file; give a folder"),
    ],
)
def test_mistakes_are_one_line(arguments, message, capsys):
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert re.search(message, error)
