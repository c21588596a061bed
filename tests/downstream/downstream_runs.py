"""Small runs of detectors and segmenters: configs, command lines and settings that several test files use."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / 'downstream_configs'
LEAVES = [path for kind in ('cascade_rcnn', 'deeplabv3') for path in sorted((FOLDER / kind).glob('*.py'))]
CONFIGS = {
    'det': 'cascade_rcnn/cascade-rcnn_robust-resnet-dw_fpn_tiny_shapes-coco.py',
    'mask': 'cascade_rcnn/cascade-mask-rcnn_robust-resnet-dw_fpn_tiny_shapes-coco.py',
    'seg': 'deeplabv3/deeplabv3_robust-resnet-dw_tiny_shapes-ade20k.py',
}
"""One small config of each task."""
LENGTH = {'det': 'train_cfg.max_epochs={} param_scheduler.1.T_max=2', 'seg': 'train_cfg.max_iters={}'}
LENGTH['mask'] = LENGTH['det']
WORKERS = ['train_dataloader.num_workers=1', 'train_dataloader.persistent_workers=True']
WHOLE = {'mask': 2, 'det': 2, 'seg': 5}
"""Epochs of a detector and steps of a segmenter in a run that others resume."""
MID_EPOCH = 'default_hooks.checkpoint.by_epoch=False'


def arguments(task: str, data: Path, work_dir: Path) -> list[str]:
    """The command line that the tools have in common.

    Args:
        task: A key of ``CONFIGS``.
        data: The folder of the fixture ``data``.
        work_dir: Work directory.
    """
    folder = data / ('ade20k' if task == 'seg' else 'coco')
    return [str(FOLDER / CONFIGS[task]), '--data-root', str(folder), '--work-dir', str(work_dir)]


def options(task: str, length: int, *more: str) -> list[str]:
    """Settings of a run of two batches of four images an epoch.

    Args:
        task: A key of ``CONFIGS``.
        length: Epochs of a detector, steps of a segmenter.
        more: Further settings.
    """
    settings = [*LENGTH[task].format(length).split(), 'train_dataloader.batch_size=4', 'visualizer.vis_backends=[]']
    settings += ['train_cfg.val_interval=100', 'default_hooks.checkpoint.interval=1']
    return ['--cfg-options', *settings, *more]
