"""What a command's model argument means: a name, a path, both, and paths with an equals sign in them."""

import pytest

import backbones.sources.source
from backbones.hub import folder
from backbones.weights.checkpoint_file import ENDINGS
from distill.robustness.sources import CHECKPOINTS, CONFIG, HUB_FILES, Source, split_named


def test_endings_of_weights_are_the_same_in_both_lists():
    assert (CHECKPOINTS, CONFIG, HUB_FILES) == (ENDINGS, folder.CONFIG, folder.WEIGHTS_NAMES)


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
        # A name before the file, with arguments, and a run's name before both.
        ('resnet18@lr=0.1/a.ckpt', 'a', 'resnet18@lr=0.1/a.ckpt'),
        ('resnet18,num_classes=3,mean=[0.5,0.5,0.5]@gone.pth', 'gone', None),
        ('mine=resnet18,num_classes=3@lr=0.1/a.ckpt', 'mine', 'resnet18,num_classes=3@lr=0.1/a.ckpt'),
        ('mine=resnet18@gone.pth', 'mine', 'resnet18@gone.pth'),
        ('at@home/ä b.pth', 'ä b', 'at@home/ä b.pth'),
        ('resnet18@at@home/ä b.pth', 'ä b', None),
        ('model_best.pth.tar', 'model_best', None),
        # Folders, and what is not on this machine.
        ('hub/model', 'model', None),
        ('hub/model/model.safetensors', 'model', None),
        ('mine=local-dir:hub/model', 'mine', 'local-dir:hub/model'),
        ('hf-hub:timm/resnet18.a1_in1k@main', 'resnet18.a1_in1k', None),
        ('resnet18,drop_rate=0.1', 'resnet18', None),
    ],
)
def test_the_path_that_exists_wins(text, name, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for there in ('lr=0.1', 'at@home', 'resnet50', 'hub/model'):
        (tmp_path / there).mkdir(parents=True)
    for file in ('at@home/ä b.pth', 'hub/model/config.json', 'hub/model/model.safetensors'):
        (tmp_path / file).touch()
    for file in ('a.ckpt', 'epoch=3-step=9.ckpt', 'student_best.pth'):
        (tmp_path / 'lr=0.1' / file).touch()
    source = Source.parse(text)
    assert (source.name, source.path) == (name, path or text)
    # The package that loads the model means the same by the same text.
    loaded = backbones.sources.source.Source.parse(source.path)
    assert loaded.path == source.file
    assert split_named(source.path) == backbones.sources.source.split_named(source.path)


def test_missing_files_and_folders_are_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"checkpoint 'runs/a=b\.ckpt' does not exist"):
        Source.parse('runs/a=b.ckpt').check()
    with pytest.raises(FileNotFoundError, match=r"folder 'gone' does not exist"):
        Source.parse('local-dir:gone').check()
    with pytest.raises(ValueError, match=r'is a folder without config\.json .*; name the file .*, this one has none'):
        Source.parse(str(tmp_path)).check()
    (tmp_path / 'a.pth').touch()
    with pytest.raises(ValueError, match=r'name the file of weights in it, such as a\.pth'):
        Source.parse(f'resnet18@{tmp_path}').check()
    with pytest.raises(ValueError, match='name is empty'):
        Source.parse('x=').check()
