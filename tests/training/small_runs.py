"""Training runs that take a second, and how their checkpoints are compared."""

from pathlib import Path

import torch

from distill.cli.train import main as train

CONFIGS = Path(__file__).parents[2] / 'distill' / 'configs' / 'shapes'
TINY = ['model.student.dims=[8,8,16,16]', 'model.student.depths=[1,1,1,1]', 'model.student.kernel_size=3']
SHORT = [
    'train_dataloader.batch_size=20',
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
    'val_dataloader.num_workers=0',
    'val_dataloader.persistent_workers=False',
    'train_cfg.val_interval=1',
    'model.data_preprocessor.random_erasing=0.5',
    'model.student.drop_path_rate=0.3',
    'visualizer.vis_backends=[]',
    'model.data_preprocessor.mixup.mixup_alpha=0.8',
    'model.data_preprocessor.mixup.cutmix_alpha=1',
    'model.data_preprocessor.mixup.num_classes=10',
    'model.losses.0.label_smoothing=0',
]
STEPWISE = [f'default_hooks.checkpoint.{option}' for option in ('by_epoch=False', 'interval=1', 'max_keep_ckpts=9')]


def run_training(config: str, data_root: Path, work_dir: Path, *arguments: str, epochs: int = 2, options=()) -> int:
    options = [*TINY, *SHORT, f'train_cfg.max_epochs={epochs}', *options]
    command = [str(CONFIGS / config), '--data-root', str(data_root), '--work-dir', str(work_dir), *arguments]
    return train([*command, '--cfg-options', *options])


def assert_same_checkpoints(path: Path, other: Path) -> None:
    expected, found = (torch.load(file, weights_only=True) for file in (path, other))
    for part in ('state_dict', 'ema_state_dict'):
        for key, value in expected[part].items():
            assert torch.equal(found[part][key], value), key
