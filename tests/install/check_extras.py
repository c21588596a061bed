"""Install each extra alone, in an environment of its own, and run its commands in an empty folder.

python tests/install/check_extras.py                       all extras
python tests/install/check_extras.py robustness distill    some of them; `none` is the wheel without an extra

The wheel is built from this folder. torch, torchvision, timm and what these need are shared with the environment that
runs this script, and nothing else is. Afterwards the folder, the home folder and the installed packages are looked at:
commands write to the current folder and the given paths only.
"""

import argparse
import importlib.metadata
import os
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

from packaging.requirements import Requirement

REPO = Path(__file__).resolve().parents[2]
PACKAGES = ('backbones', 'distill', 'downstream_configs')
SHARED = ('torch', 'torchvision', 'timm', 'setuptools')
DATA = 'data shapes --size 32 --train 40 --val 20 --shifted 10 --scene-size 64 --scenes-train 8 --scenes-val 4'
LOADERS = ' '.join(
    f'{part}_dataloader.{option}'
    for part in ('train', 'val')
    for option in ('num_workers=0', 'persistent_workers=False')
)
SHORT = f'{LOADERS} train_cfg.val_interval=1'
TINY = 'model.student.dims=[8,8,16,16] model.student.depths=[1,1,1,1] model.student.kernel_size=3'
STUDENT = f'{TINY} {SHORT} train_dataloader.batch_size=20 train_cfg.max_epochs=1'
DETECTOR = f'{SHORT} train_dataloader.batch_size=4 train_cfg.max_epochs=1'
SEGMENTER = f'{SHORT} train_dataloader.batch_size=4 train_cfg.max_iters=2'
SAVE = """
import backbones, timm
from backbones.checkpoint import save_model
from backbones.record import ModelRecord
for seed, name in enumerate(('one', 'two')):
    kwargs = dict(dims=[8, 8, 16, 16], depths=[1, 1, 1, 1], kernel_size=3, patch_size=4, num_classes=10)
    record = ModelRecord('robust_resnet_dw_small', kwargs, input_size=[3, 32, 32])
    save_model(name + '.pth', timm.create_model(record.model, **kwargs), record)
"""
JUDGE = [
    'models resnet50 --json models.json',
    'robustness one.pth two.pth --data-root shapes/imagenet --out judged --suite clean sketch --workers 0',
    'explain one.pth two.pth --images shapes/imagenet/val --out explained --count 4 --shown 1 --workers 0',
    'predict shapes/imagenet/val --model one.pth --out predicted --limit 3',
    'save one.pth models/one --results judged',
    'predict shapes/imagenet/val --model models/one --out again --limit 3',
    'report judged explained --out report',
]
DISTIL = [
    f'train robust-resnet-tiny_shapes --data-root shapes/imagenet --cfg-options {STUDENT}',
    'robustness work_dirs/robust-resnet-tiny_shapes/student_best.pth --data-root shapes/imagenet --suite clean '
    '--out student --workers 0',
    'report student',
    'cache deit-mini_robust-resnet-tiny_shapes --data-root shapes/imagenet --out cache --topk 3 --views 1 '
    f'--cfg-options {STUDENT} model.teacher.checkpoint=two.pth model.teacher.model=robust_resnet_dw_small',
    'transfer shapes --data-root shapes/imagenet --plan',
    'print-config deit-mini_robust-resnet-tiny_shapes --out whole.py',
    'flops shapes/deit-mini_shapes',
    'browse deit-mini_shapes --data-root shapes/imagenet --number 2 --output-dir pictures',
    'configs deit-mini_shapes --copy mine',
]
DENSE = [
    f'train cascade-rcnn_robust-resnet-dw_fpn_tiny_shapes-coco --data-root shapes/coco --work-dir detector '
    f'--cfg-options {DETECTOR}',
    'test cascade-rcnn_robust-resnet-dw_fpn_tiny_shapes-coco auto --data-root shapes/coco --work-dir detector',
    f'train deeplabv3_robust-resnet-dw_tiny_shapes-ade20k --data-root shapes/ade20k --work-dir segmenter '
    f'--cfg-options {SEGMENTER}',
    'predict shapes/coco/val2017 --model detector/epoch_1.pth --out found --score-threshold 0.01',
    'predict shapes/ade20k/images/validation --model segmenter/iter_2.pth --out segmented',
    'report detector',
    'flops cascade-rcnn_robust-resnet-dw_fpn_tiny_shapes-coco --shape 64',
    'configs cascade-rcnn_robust-resnet-dw_fpn_tiny_shapes-coco --copy mine',
]


@dataclass(frozen=True)
class Extra:
    """What an extra can do, and what it says where more is needed.

    Attributes:
        commands: Command lines that end well.
        refused: Command lines that end with one line, and the extra that the line names.
    """

    commands: Sequence[str]
    refused: tuple[str, str] | None = None


EXPORT = 'export one.pth --out artefacts --input-size 32 --fixed-size --to'
TRAIN_DETECTOR = 'flops cascade-rcnn_robust-resnet-dw_fpn_tiny_shapes-coco'
EXTRAS = {
    'none': Extra(['--help', '--version', 'configs', 'train --help'], ('models', 'robustness')),
    'robustness': Extra([DATA, *JUDGE], ('train robust-resnet-tiny_shapes', 'distill')),
    'distill': Extra([DATA, *JUDGE[1:4], *DISTIL], (TRAIN_DETECTOR, 'openmmlab')),
    'openmmlab': Extra([DATA, *JUDGE[1:2], *DISTIL[:3], *DENSE]),
    'export': Extra(
        [
            f'{EXPORT} onnx torch',
            DATA,
            'predict shapes/imagenet/val --model artefacts/one.onnx --out predicted --limit 3',
        ],
        (f'{EXPORT} openvino', 'openvino'),
    ),
    'openvino,robustness': Extra([f'{EXPORT} openvino onnx'], (f'{EXPORT} mnn', 'mnn')),
    'mnn,robustness': Extra([f'{EXPORT} mnn']),
    'executorch,robustness': Extra([f'{EXPORT} executorch'], (f'{EXPORT} onnx', 'onnx')),
    'onedl': Extra([DATA, *JUDGE[1:2], *DISTIL[:3], *DENSE]),
}


def build_wheel(folder: Path) -> Path:
    """Build the wheel from a copy of the repository, so that nothing is left in it.

    Raises:
        ValueError: The wheel lacks a file of the packages, such as a config.
    """
    copy = folder / 'source'
    copy.mkdir()
    for name in PACKAGES:
        shutil.copytree(REPO / name, copy / name, ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE'):
        shutil.copy(REPO / name, copy)
    command = [sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '--wheel-dir', folder, copy]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob('*.whl')
    files = {str(path.relative_to(REPO)) for name in PACKAGES for path in (REPO / name).rglob('*') if path.is_file()}
    lacking = {file for file in files if not file.endswith('.pyc')} - set(ZipFile(wheel).namelist())
    if lacking:
        raise ValueError(f'the wheel lacks {len(lacking)} files: {", ".join(sorted(lacking)[:5])}')
    return wheel


def share(folder: Path) -> None:
    """Link to the distributions of `SHARED`, and all that they need, from a folder."""
    waiting, done = [(name, '') for name in SHARED], set()
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in done:
            continue
        done.add((name, extra))
        found = importlib.metadata.distribution(name)
        needed = [Requirement(text) for text in found.requires or ()]
        for one in needed:
            if one.marker is None or one.marker.evaluate({'extra': extra}):
                waiting += [(one.name, asked) for asked in ('', *one.extras)]
        for top in {file.parts[0] for file in found.files if file.parts[0] not in ('..', '__pycache__')}:
            if not (folder / top).is_symlink():
                (folder / top).symlink_to(found.locate_file(top))


def install(extra: str, wheel: Path, folder: Path, shared: Path) -> Path:
    """Make an environment with the wheel and one extra; returns its folder of programs."""
    venv.create(folder, with_pip=True)
    (site,) = folder.glob('lib/python*/site-packages')
    (site / 'shared.pth').write_text(f'{shared}\n')
    what = str(wheel) if extra == 'none' else f'{wheel}[{extra}]'
    programs = folder / 'bin'
    pip = [programs / 'python', '-m', 'pip']
    tested = (REPO / 'constraints.txt').read_text().splitlines(keepends=True)
    constraints = folder / 'constraints.txt'
    constraints.write_text(''.join(line for line in tested if extra != 'onedl' or not line.startswith('opencv-')))
    subprocess.run([*pip, 'install', '-q', '-c', constraints, what], check=True, env=clean())
    if extra != 'none' and subprocess.run([programs / 'python', '-c', 'import cv2'], capture_output=True).returncode:
        # A machine without a screen's libraries: what the error of a command says.
        subprocess.run([*pip, 'uninstall', '-q', '-y', 'opencv-python'], check=True)
        headless = ['install', '-q', '-c', constraints, '--force-reinstall', '--no-deps', 'opencv-python-headless']
        subprocess.run([*pip, *headless], check=True)
    return programs


def clean(**more: object) -> dict[str, str]:
    """The environment of a process that finds nothing of this repository."""
    kept = {name: value for name, value in os.environ.items() if name not in ('PYTHONPATH', 'VIRTUAL_ENV')}
    return {**kept, **{name: str(value) for name, value in more.items()}}


def snapshot(folder: Path) -> set[str]:
    """The files below a folder, but for what Python compiles."""
    found = (path for path in folder.rglob('*') if path.is_file())
    return {str(path.relative_to(folder)) for path in found if path.suffix != '.pyc'}


def check(name: str, wheel: Path, folder: Path, shared: Path) -> list[str]:
    """Install an extra and run its commands; returns what is wrong, a line each."""
    extra, wrong = EXTRAS[name], []
    programs = install(name, wheel, folder / 'environment', shared)
    work, home = folder / 'work', folder / 'home'
    work.mkdir()
    home.mkdir()
    environment = clean(HOME=home, OMP_NUM_THREADS=1)
    before = snapshot(folder / 'environment')

    def run(*command: object) -> subprocess.CompletedProcess:
        return subprocess.run(list(map(str, command)), cwd=work, env=environment, capture_output=True, text=True)

    done = run(programs / 'python', '-c', SAVE)
    if done.returncode:
        wrong.append(f'{name}: a model cannot be saved\n{done.stderr}')
    for line in extra.commands:
        start = time.monotonic()
        done = run(programs / 'robust-backbones', *line.split())
        print(f'{name}: [{time.monotonic() - start:3.0f} s] {line}', flush=True)
        if done.returncode:
            wrong.append(f'{name}: `{line}` ends with {done.returncode}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}')
    if extra.refused:
        line, needed = extra.refused
        done = run(programs / 'robust-backbones', *line.split())
        last = done.stderr.splitlines()[-1:] or ['']
        told = f"pip install 'robust-backbones[{needed}]'" in last[0] and 'Traceback' not in done.stderr
        if done.returncode != 1 or not told:
            wrong.append(f'{name}: `{line}` does not say what to install\n{done.stderr}')
    if added := snapshot(folder / 'environment') - before:
        wrong.append(f'{name}: written among the installed packages: {", ".join(sorted(added)[:5])}')
    if added := snapshot(home):
        wrong.append(f'{name}: written to the home folder: {", ".join(sorted(added)[:5])}')
    return wrong


def main() -> int:
    """Check the extras that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('extras', nargs='*', metavar='EXTRA', help=f'of {", ".join(EXTRAS)} (default: all)')
    names = parser.parse_args().extras or list(EXTRAS)
    if unknown := [name for name in names if name not in EXTRAS]:
        parser.error(f'extra {unknown[0]!r} is unknown; choose from {", ".join(EXTRAS)}')
    wrong = []
    with TemporaryDirectory(prefix='extras-') as text:
        folder = Path(text)
        wheel = build_wheel(folder)
        (shared := folder / 'shared').mkdir()
        share(shared)
        for name in names:
            (folder / name).mkdir()
            wrong += check(name, wheel, folder / name, shared)
    print('\n'.join(wrong) or f'extras that work alone: {", ".join(names)}')
    return bool(wrong)


if __name__ == '__main__':
    sys.exit(main())
