"""A small student that several test files evaluate."""

from collections.abc import Sequence
from pathlib import Path

import timm
import torch

from backbones.checkpoint import save_model
from backbones.record import ModelRecord

MODEL = 'robust_resnet_dw_small'
MODEL_KWARGS = dict(dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), kernel_size=3, patch_size=4, num_classes=10)
MEAN, STD = [0.5, 0.45, 0.4], [0.2, 0.25, 0.3]


def save_student(path: Path, classes: Sequence[str], seed: int) -> Path:
    """Save an untrained student with its description."""
    torch.manual_seed(seed)
    network = timm.create_model(MODEL, **MODEL_KWARGS)
    path.parent.mkdir(parents=True, exist_ok=True)
    description = dict(classes=list(classes), input_size=[3, 32, 32], mean=MEAN, std=STD)
    save_model(path, network, ModelRecord(MODEL, MODEL_KWARGS, **description))
    return path
