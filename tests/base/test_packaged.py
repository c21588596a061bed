"""Configs are found by path, by name and by unique parts of a name, from any folder."""

import pytest

from distill.base.extras import how_to_install, missing_extra
from distill.base.packaged import CONFIG, MATRIX, ROOT, find, matching, packaged


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Outside of the clone."""
    monkeypatch.chdir(tmp_path)


def test_every_name_is_unique_and_finds_its_file():
    for kind in (CONFIG, MATRIX):
        files = packaged(kind)
        assert len({file.name.lower() for file in files}) == len(files) > 0
        for file in files:
            assert find(file.name, kind) == str(file.path)
            assert file.headline().endswith('.'), file.path


@pytest.mark.parametrize(
    ('text', 'folder', 'name'),
    [
        ('DeiT-S_Robust-ResNet-DW-S_300e', 'distill/configs/imagenet', 'deit-s_robust-resnet-dw-s_300e_imagenet'),
        ('shapes/deit-mini_shapes', 'distill/configs/shapes', 'deit-mini_shapes'),
        ('cascade-mask-rcnn_r50_1x', 'downstream_configs/cascade_rcnn', 'cascade-mask-rcnn_r50_fpn_1x_coco'),
        ('deit-mini_shapes', 'distill/configs/shapes', 'deit-mini_shapes'),  # Though it is in other names too.
        ('distill/configs/shapes/deit-mini_shapes.py', 'distill/configs/shapes', 'deit-mini_shapes'),
    ],
)  # fmt: skip
def test_unique_parts_suffice(text, folder, name):
    assert find(text) == str(ROOT / folder / f'{name}.py')


def test_a_file_of_the_user_comes_first(tmp_path):
    for name in ('deit-mini_shapes', 'deit-mini_shapes.py'):
        (tmp_path / name).touch()
        assert find(name) == name


@pytest.mark.parametrize(
    ('text', 'error', 'message'),
    [
        ('robust-resnet-tiny', ValueError, r'is ambiguous, it fits .*robust-resnet-tiny_cifar10.*; give more'),
        ('deti-mini_shapse', FileNotFoundError, 'as a file or as a name; did you mean deit-mini_shapes'),
        ('zzz', FileNotFoundError, 'does not exist, as a file or as a name; `robust-backbones configs` lists'),
        ('', FileNotFoundError, 'does not exist'),
        ('zz*', FileNotFoundError, 'does not exist'),
        ('mine/deit-mini_shapes', FileNotFoundError, 'does not exist'),
        # A file of the user's that is not there must not become one of this project's by its name alone.
        ('deit-mini_shapes.py', FileNotFoundError, "does not exist; 'deit-mini_shapes' without a folder and an ending"),
        ('mine/deit-mini_shapes.py', FileNotFoundError, "does not exist; 'deit-mini_shapes' without a folder"),
        ('distill/configs/shapes/zzz.py', FileNotFoundError, 'does not exist; `robust-backbones configs`'),
        ('.', FileNotFoundError, 'is a folder, and no name'),
    ],
)  # fmt: skip
def test_what_is_not_found_is_one_line(text, error, message):
    with pytest.raises(error, match=message) as caught:
        find(text)
    assert '\n' not in str(caught.value)


def test_ambiguity_lists_few_choices_whole_and_counts_the_others():
    with pytest.raises(ValueError, match=r'and [0-9]+ more; give more') as caught:
        find('a')
    assert len(str(caught.value)) < 1000
    fits = [file.name for file in matching('deit-mini*shapes')]
    with pytest.raises(ValueError, match='is ambiguous') as caught:
        find('deit-mini*shapes')
    assert all(name in str(caught.value) for name in fits)


def test_a_matrix_has_names_too():
    assert find('shapes', MATRIX) == str(ROOT / 'distill' / 'matrices' / 'shapes.py')
    with pytest.raises(FileNotFoundError, match=r"matrix 'nothing' does not exist.*choose from .*cifar10, .*shapes"):
        find('nothing', MATRIX)


def test_a_missing_library_names_its_extra():
    assert how_to_install('mmdet.models') == "pip install 'robust-backbones[openmmlab]'"
    missing = ModuleNotFoundError("No module named 'mmengine'", name='mmengine')
    assert missing_extra(missing) == (
        "this needs 'mmengine', which is not installed; pip install 'robust-backbones[distill]'"
    )
    assert missing_extra(ModuleNotFoundError('x', name='somebody_elses')) is None
    assert missing_extra(KeyError('mmengine')) is None
    screen = ImportError('libGL.so.1: cannot open shared object file: No such file or directory')
    assert missing_extra(screen).endswith('opencv-python-headless, which needs no screen')
