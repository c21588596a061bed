"""Trainings of a second, as calls: settings that several test files use."""

from pathlib import Path

import torch
from torch import nn

import distill

STUDENT = dict(dims=[8, 8, 16, 16], depths=[1, 1, 1, 1], kernel_size=3)
SHORT = dict(
    epochs=2,
    batch_size=20,
    num_workers=0,
    train_cfg=dict(val_interval=1),
    model=dict(student=STUDENT),
)
"""What makes a training of shapes small; ``SHORT_OPTIONS`` is the same for the command line."""
SHORT_OPTIONS = [
    'epochs=2',
    'batch_size=20',
    'num_workers=0',
    'train_cfg.val_interval=1',
    'model.student.dims=[8,8,16,16]',
    'model.student.depths=[1,1,1,1]',
    'model.student.kernel_size=3',
]
ALONE, TAUGHT = 'robust-resnet-tiny_shapes', 'deit-mini_robust-resnet-tiny_shapes'


class Net(nn.Module):
    """A network of a user's own: nothing of timm's, only images in and logits out."""

    def __init__(self, width: int = 8, seed: int = 0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.stem = nn.Sequential(nn.Conv2d(3, width, 4, 4), nn.BatchNorm2d(width), nn.ReLU())
            self.head = nn.Linear(width, 10)

    def forward(self, images):
        return self.head(self.stem(images).mean((2, 3)))


def student(result: 'distill.TrainResult') -> dict[str, torch.Tensor]:
    """The weights of the best student of a training."""
    return torch.load(result.student_best, weights_only=True)


def assert_same(a: dict[str, torch.Tensor] | Path, b: dict[str, torch.Tensor] | Path) -> None:
    """Compare two sets of weights, bit for bit."""
    a, b = (torch.load(one, weights_only=True) if isinstance(one, Path) else one for one in (a, b))
    assert list(a) == list(b)
    assert [key for key in a if not torch.equal(a[key], b[key])] == []
