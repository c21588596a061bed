"""A teacher so small that it costs nothing, and the settings of the runs that it teaches."""

from pathlib import Path

import torch
from mmengine.config import Config

from backbones.checkpoint import build_model, save_model
from backbones.record import ModelRecord

CONFIG = Path(__file__).parents[2] / 'distill/configs/shapes/deit-mini_robust-resnet-tiny_shapes.py'
NAME = 'deit_tiny_patch16_224'
TEACHER = dict(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=10)
MIXUP = dict(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=10, mode='pair')
TRANSFORM = Config.fromfile(CONFIG).train_dataloader.dataset.transform
BATCH = 8


def options(checkpoint: Path, **overrides) -> list[str]:
    """Settings in place of the config's."""
    settings = {
        'model.teacher.checkpoint': checkpoint,
        'model.student.dims': '[8,16,32,64]',
        'model.student.depths': '[1,1,1,1]',
        'model.student.kernel_size': 3,
        'model.data_preprocessor.random_erasing': 0.5,
        **{f'model.data_preprocessor.mixup.{name}': value for name, value in MIXUP.items()},
        'model.losses.0.label_smoothing': 0,
        'train_dataloader.dataset.type': 'Views',
        'train_dataloader.dataset.seed': 11,
        'train_dataloader.batch_size': BATCH,
        'train_dataloader.num_workers': 0,
        'train_dataloader.persistent_workers': False,
        'val_dataloader.num_workers': 0,
        'val_dataloader.persistent_workers': False,
        'train_cfg.max_epochs': 2,
        'visualizer.vis_backends': '[]',
        **{name.replace('__', '.'): value for name, value in overrides.items()},
    }
    return [f'{name}={value}' for name, value in settings.items()]


def save_teacher(path: Path, bias: float = 0.0, classes: list[str] | None = None) -> Path:
    """Write a DeiT whose predictions are far from even, and a record, with the names of its classes if they are given.

    Args:
        path: File of the weights.
        bias: Is added to the bias of the head.
        classes: Names of the classes in the order of the logits.
    """
    torch.manual_seed(3)
    model = build_model(NAME, **TEACHER)
    torch.nn.init.normal_(model.head.weight, std=0.5)
    model.head.bias.data += bias
    save_model(path, model, ModelRecord(NAME, TEACHER, classes=classes))
    return path
