"""What a command's model argument means: a name, a path, both, and paths with an equals sign in them."""

import pytest

from backbones.checkpoint_file import ENDINGS
from distill.robustness.sources import CHECKPOINTS, Source


def test_endings_of_weights_are_the_same_in_both_lists():
    assert CHECKPOINTS == ENDINGS


@pytest.mark.parametrize(
    ('text', 'name', 'path'),
    [
        ('resnet50', 'resnet50', 'resnet50'),
        ('mine=resnet50', 'mine', 'resnet50'),
        ('x/model.ckpt', 'model', 'x/model.ckpt'),
        ('mine=x/model.safetensors', 'mine', 'x/model.safetensors'),
        # These are there.
        ('lr=0.1/a.ckpt', 'a', 'lr=0.1/a.ckpt'),
        ('mine=lr=0.1/a.ckpt', 'mine', 'lr=0.1/a.ckpt'),
        ('lr=0.1/epoch=3-step=9.ckpt', 'epoch=3-step=9', 'lr=0.1/epoch=3-step=9.ckpt'),
        ('a=b=lr=0.1/epoch=3-step=9.ckpt', 'a=b', 'lr=0.1/epoch=3-step=9.ckpt'),
        ('lr=0.1/student_best.pth', 'lr=0.1', 'lr=0.1/student_best.pth'),
        # These are not.
        ('runs/lr=0.1/gone.pth', 'gone', 'runs/lr=0.1/gone.pth'),
        ('mine=gone.bin', 'mine', 'gone.bin'),
    ],
)
def test_the_path_that_exists_wins(text, name, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'lr=0.1').mkdir()
    for file in ('a.ckpt', 'epoch=3-step=9.ckpt', 'student_best.pth'):
        (tmp_path / 'lr=0.1' / file).touch()
    source = Source.parse(text)
    assert (source.name, source.path) == (name, path)


def test_missing_files_and_folders_are_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"checkpoint 'runs/a=b\.ckpt' does not exist"):
        Source.parse('runs/a=b.ckpt').check()
    with pytest.raises(ValueError, match=f"is a folder; name the checkpoint in it, or give 'local-dir:{tmp_path}'"):
        Source.parse(str(tmp_path)).check()
