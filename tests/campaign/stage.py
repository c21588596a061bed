"""What the campaign works on: small data sets, and what every command of the project writes of them.

A stage is made once, in half a minute, and never changed: a trial takes a copy of the parts that it breaks.
"""

import hashlib
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import processes

REPO = Path(__file__).parents[2]
DISTILL = REPO / 'distill/configs/shapes'
DOWNSTREAM = REPO / 'downstream_configs'
DETECTOR = DOWNSTREAM / 'cascade_rcnn/cascade-rcnn_robust-resnet-dw_fpn_tiny_shapes-coco.py'
SEGMENTER = DOWNSTREAM / 'deeplabv3/deeplabv3_robust-resnet-dw_tiny_shapes-ade20k.py'
STUDENT = DISTILL / 'robust-resnet-tiny_shapes.py'
PUPIL = DISTILL / 'deit-mini_robust-resnet-tiny_shapes.py'
"""A student that has a teacher."""

LOADERS = [
    f'{part}_dataloader.{option}'
    for part in ('train', 'val')
    for option in ('num_workers=0', 'persistent_workers=False')
]
TINY = ['model.student.dims=[8,8,16,16]', 'model.student.depths=[1,1,1,1]', 'model.student.kernel_size=3']
SHORT = [*LOADERS, 'visualizer.vis_backends=[]', 'train_cfg.val_interval=1']
CLASSIFIER = [*TINY, *SHORT, 'train_dataloader.batch_size=20', 'train_cfg.max_epochs=2']
STEPWISE = ['default_hooks.checkpoint.by_epoch=False', 'default_hooks.checkpoint.interval=1']
DENSE = [*SHORT, 'train_dataloader.batch_size=4', 'default_hooks.checkpoint.interval=1']
DETECTION = [*DENSE, 'train_cfg.max_epochs=2', 'train_cfg.val_interval=2', 'param_scheduler.1.T_max=2']
SEGMENTATION = [*DENSE, 'train_cfg.max_iters=2', 'train_cfg.val_interval=2']

PRELOADED = ['torchvision', 'timm.task', 'mmengine.runner', 'matplotlib.pyplot', 'backbones.openmmlab', 'mmdet.models',
             'mmseg.models', 'mmdet.datasets', 'mmseg.datasets', 'distill.downstream.register',
             'distill.training.register']  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """The folder that everything lies in.

    Attributes:
        root: The folder: ``data/{imagenet,coco,ade20k}``, ``student``, ``cache``, ``detector``, ``segmenter`` and
            ``judged``, each as its command has written it.
    """

    root: Path

    @property
    def data(self) -> Path:
        """The embedded data sets."""
        return self.root / 'data'

    def train(self, config: Path, data: Path, out: Path, options: Sequence[str], *arguments: object) -> list[str]:
        """The command line of tools/train.py."""
        places = ['--data-root', data, '--work-dir', out]
        return list(map(str, [config, *places, *arguments, '--cfg-options', *options]))

    def teacher_options(self, *more: str) -> list[str]:
        """Settings of a run whose teacher is this stage's student."""
        teacher = f'model.teacher.checkpoint={self.root / "student/student_best.pth"}'
        mixing = {'mode': 'pair', 'mixup_alpha': 0.8, 'cutmix_alpha': 1.0, 'num_classes': 10}
        mixed = [f'model.data_preprocessor.mixup.{name}={value}' for name, value in mixing.items()]
        return [*CLASSIFIER, teacher, 'model.losses.0.label_smoothing=0', *mixed, *more]


def run(command: str, arguments: Iterable[object], seconds: float = 300) -> tuple[int | None, str]:
    """Run a command of the project to its end; returns the exit status, None after too long, and the output."""
    started = processes.start(command, list(arguments))
    return finish(started, seconds)


def finish(started: processes.Started, seconds: float) -> tuple[int | None, str]:
    """Wait for a command; returns the exit status, negative for a signal and None after too long, and the output."""
    started.process.join(seconds)
    if started.process.exitcode is None:
        started.process.kill()
        started.process.join()
        return None, ''.join(started.lines())
    return started.process.exitcode, ''.join(started.lines())


def preload() -> None:
    """Have the processes of the commands start with the heavy packages in memory, those of OpenMMLab included."""
    sys.path.insert(0, str(REPO))
    processes.CONTEXT.set_forkserver_preload(PRELOADED)


def make_stage(root: Path) -> Stage:
    """Write the data sets, and have each command write what it writes of them.

    Raises:
        RuntimeError: A command fails on inputs that are right.
    """
    stage = Stage(root)
    data = stage.data
    sizes = ['--train', 80, '--val', 40, '--shifted', 20, '--scene-size', 64, '--scenes-train', 8, '--scenes-val', 4]
    judged = [root / 'student/student_best.pth', '--data-root', data / 'imagenet', '--suite', 'clean', 'stylized']
    steps = {
        'data': ('data', [data, *sizes]),
        'student': ('train', stage.train(STUDENT, data / 'imagenet', root / 'student', CLASSIFIER)),
        'cache': ('cache', cache_arguments(stage, data / 'imagenet', root / 'cache')),
        'detector': ('train', stage.train(DETECTOR, data / 'coco', root / 'detector', DETECTION)),
        'segmenter': ('train', stage.train(SEGMENTER, data / 'ade20k', root / 'segmenter', SEGMENTATION)),
        'judged': ('robustness', [*judged, '--workers', 0, '--out', root / 'judged']),
    }
    for name, (command, arguments) in steps.items():
        status, output = run(command, arguments)
        if status != 0:
            raise RuntimeError(f'the stage has no {name}: exit status {status}\n{output[-2000:]}')
    return stage


def cache_arguments(stage: Stage, data: Path, out: Path) -> list[str]:
    """The command line of tools/cache_teacher.py."""
    options = stage.teacher_options()
    arguments = [PUPIL, '--data-root', data, '--out', out, '--views', '2', '--topk', '3', '--cfg-options', *options]
    return list(map(str, arguments))


def hashes(folder: Path) -> dict[str, str]:
    """Hashes of all files of a folder, by their paths in it; links are not followed."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob('*'))
        if path.is_file() and not path.is_symlink()
    }
