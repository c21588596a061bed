"""Record what the project computes and compare two records, so that a refactoring can be shown to change nothing.

python tests/bit_for_bit.py record REPO OUT.json [--parts models corruptions runs cache chain]
python tests/bit_for_bit.py compare BEFORE.json AFTER.json [--renamed OLD=NEW …]

REPO holds the code to run, say a clone of an older commit. Make both records with this file, on one machine and in one
environment: another CPU or torch computes other bits. Five minutes of one CPU core, 8 GiB of memory. Left out: times,
commands, where folders lie, this project's version, and whether a student's weights end in .pth or .safetensors.
Tensors and files are recorded as hashes, everything else as it is.
"""

import argparse
import hashlib
import json
import os
import pickle
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module, metadata, util
from pathlib import Path

import numpy as np
import timm
import torch
from safetensors.torch import load_file

RUNS = {  # As in tools/demo.py: run: (config, teacher)
    'deit-teacher': ('deit-mini_shapes', None),
    'robust-teacher': ('robust-resnet-mini_shapes', None),
    'robust-from-deit': ('deit-mini_robust-resnet-tiny_shapes', 'deit-teacher'),
    'deit-from-robust': ('robust-resnet-mini_deit-tiny_shapes', 'robust-teacher'),
    'robust-alone': ('robust-resnet-tiny_shapes', None),
    'deit-alone': ('deit-tiny_shapes', None),
}
BACKBONE = 'robust-from-deit'
DOWNSTREAM = {  # task: (config, data set, what limits its training)
    'cascade_rcnn': ('cascade-rcnn_robust-resnet-dw_fpn_tiny_shapes-coco', 'coco', 'max_epochs'),
    'deeplabv3': ('deeplabv3_robust-resnet-dw_tiny_shapes-ade20k', 'ade20k', 'max_iters'),
}
FOUR_STEPS = 'train_cfg.{}=4 train_cfg.val_interval=4 default_hooks.checkpoint.interval=4'
DATA = '--size 32 --train 200 --val 50 --shifted 30 --scene-size 64 --scenes-train 8 --scenes-val 4 --seed 0'
FIXED = dict(OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='', PYTHONHASHSEED='0', PYTHONDONTWRITEBYTECODE='1')
DROPPED = ('command', 'created', 'robust-backbones')  # when, how and by which version results were made
PACKAGES = ('torch', 'timm', 'numpy', 'scipy', 'pillow', 'opencv', 'matplotlib', 'mmengine', 'mmcv', 'mmdet', 'mmseg')


@dataclass
class Place:
    """The root of the code, and the folder that its commands run in."""

    repo: Path
    work: Path

    def run(self, name: str, script: str, *args: str) -> None:
        """Run a script of the project's tools on one thread."""
        command = [sys.executable, str(self.repo / 'tools' / script), *args]
        start, environment = time.monotonic(), {**os.environ, **FIXED, 'PYTHONPATH': str(self.repo)}
        done = subprocess.run(command, cwd=self.work, env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f'{done.stdout[-2000:]}\n{done.stderr[-2000:]}\n{name} failed')
        print(f'{time.monotonic() - start:5.0f} s  {name}', flush=True)

    def inside(self, part: str) -> dict:
        """What a function of `INSIDE` returns in a process that imports the code in `repo`."""
        self.run(part, str(Path(__file__).resolve()), 'inside', str(self.repo), f'{part}.json', '--parts', part)
        return self.read(f'{part}.json')

    def text(self, value: str) -> str:
        """A text without the places of folders and the format of a student's weights."""
        value = value.replace(f'{self.repo}/', '').replace(f'{self.work}/', '')
        return re.sub(r'student_best\.(pth|safetensors)', 'student_best', value)

    def plain(self, value):
        """A value as JSON has it, by `text`, with tensors as hashes, without the `DROPPED` keys."""
        if isinstance(value, dict):
            return {str(key): self.plain(its) for key, its in value.items() if key not in DROPPED}
        if isinstance(value, list | tuple):
            return [self.plain(item) for item in value]
        if isinstance(value, torch.Tensor):
            return tensor_sha256(value)
        value = value.item() if isinstance(value, np.generic) else value
        return self.text(value) if isinstance(value, str) else value

    def read(self, path: str):
        """The contents of a JSON file, plain; None if there is no such file."""
        return self.plain(json.loads((self.work / path).read_text())) if (self.work / path).is_file() else None

    def files(self, folder: str, *endings: str) -> dict[str, str]:
        """A hash of every file in a folder that ends so."""
        root = self.work / folder
        found = sorted(path for path in root.rglob('*') if path.is_file() and path.name.endswith(endings))
        return {path.relative_to(root).as_posix(): sha256(path.read_bytes()) for path in found}


def sha256(data: bytes | str) -> str:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def tensor_sha256(tensor: torch.Tensor) -> str:
    """Type, shape and a hash of the bytes."""
    data = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
    return f'{tensor.dtype} {tuple(tensor.shape)} {sha256(data)}'


def weights_record(weights: Mapping[str, torch.Tensor] | Path) -> dict:
    """Tensors by name, or those in a file, as a hash; the second one stays if they are merely renamed."""
    if isinstance(weights, Path):
        content = load_file(weights) if weights.suffix == '.safetensors' else torch.load(weights, weights_only=True)
        weights = content.get('state_dict', content)
    each = {name: tensor_sha256(tensor) for name, tensor in weights.items()}
    named = sha256('\n'.join(f'{name} {its}' for name, its in sorted(each.items())))
    return {'tensors': len(each), 'sha256': named, 'sha256_without_names': sha256('\n'.join(sorted(each.values())))}


def environment() -> dict:
    """What else the bits depend on."""
    versions = {its.name: its.version for its in metadata.distributions() if its.name.startswith(PACKAGES)}
    return {'python': sys.version.split()[0], 'cpu': torch.backends.cpu.get_cpu_capability(), **versions}


def models() -> dict:
    """Weights, logits and gradients of every model that the project adds to timm's."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    theirs = set(timm.list_models())
    import_module('backbones')
    return {name: model_record(name) for name in sorted(set(timm.list_models()) - theirs)}


@torch.no_grad()
def model_record(name: str) -> dict:
    """What a model is and says as it is built; what it says and learns with random values in place of constant ones."""
    torch.manual_seed(0)
    model = timm.create_model(name).eval()
    size = model.pretrained_cfg['input_size'][-1] if model.pretrained_cfg['fixed_input_size'] else 64
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    record = {'state': weights_record(model.state_dict()), 'size': size, 'logits': tensor_sha256(model(images))}
    generator = torch.Generator().manual_seed(1)  # As it is built, a branch whose last scale is 0 shows in no logit.
    for _, value in sorted(model.state_dict().items()):
        if value.is_floating_point() and (value == value.flatten()[0]).all():
            value.copy_(torch.empty_like(value).uniform_(0.5, 1.5, generator=generator))
    record['unsettled_logits'] = tensor_sha256(model(images))
    torch.manual_seed(1)
    with torch.enable_grad():
        model.train()(images).square().mean().backward()
    gradients = {key: its.grad for key, its in model.named_parameters() if its.grad is not None}
    return record | {'unsettled_gradients': weights_record(gradients)}


def corruptions() -> dict:
    """Ten images under every corruption, the two that have another definition under that as well."""
    # Until they were moved they were the judge's.
    places = ('distill.corruptions', 'distill.robustness.corruptions')
    found = import_module(next(place for place in places if util.find_spec(place)))

    images = draw_images()
    seeds = [(0, index) for index in range(10)]
    record = {'images': sha256(images.tobytes())}
    choices = [(kind, 'imagenet_c') for kind in (*found.KINDS, *found.EXTRA_KINDS)]
    for kind, definition in (*choices, ('elastic_transform', 'imagecorruptions'), ('frost', 'imagecorruptions')):
        cells = (found.corrupt(images, kind, severity, seeds, definition) for severity in found.SEVERITIES)
        record[f'{definition} {kind}'] = [sha256(cell.tobytes()) for cell in cells]
    return record


def draw_images() -> np.ndarray:
    """Smooth noise with a square on it, uint8 [10, 64, 64, 3]."""
    rng = np.random.default_rng(0)
    images = rng.random((10, 64, 64, 3))
    for step in (1, 2, 4, 8):
        images = sum(np.roll(images, (dy, dx), (1, 2)) for dy in (0, step) for dx in (0, step)) / 4
    for image in images:
        top, left, side = rng.integers(8, 32, 3)
        image[top : top + side, left : left + side] = rng.random(3)
    return ((images - images.min()) / np.ptp(images) * 255).round().astype(np.uint8)


def student(place: Place, run: str) -> str:
    """The weights of a run, which is trained for an epoch if it has not been, after its teacher."""
    for ending in ('pth', 'safetensors'):
        if (place.work / run / f'student_best.{ending}').is_file():
            return f'{run}/student_best.{ending}'
    config, teacher = RUNS[run]
    options = ['train_cfg.max_epochs=1', 'train_cfg.val_interval=1']
    options += [f'model.teacher.checkpoint={student(place, teacher)}'] if teacher else []
    config = str(place.repo / f'distill/configs/shapes/{config}.py')
    place.run(run, 'train.py', config, '--work-dir', run, '--data-root', 'data/imagenet', '--cfg-options', *options)
    return student(place, run)


def runs(place: Place) -> dict:
    """The six students of the demo, and the descriptions beside them."""
    weights = {run: weights_record(place.work / student(place, run)) for run in RUNS}
    return {run: weights[run] | {'description': place.read(f'{run}/student_best.json')} for run in RUNS}


def cache(place: Place) -> dict:
    """A teacher's stored predictions."""
    config, teacher = RUNS[BACKBONE]
    options = ['--data-root', 'data/imagenet', '--out', 'cache', '--topk', '4', '--views', '2', '--verify', '8']
    options += ['--cfg-options', f'model.teacher.checkpoint={student(place, teacher)}']
    place.run('cache', 'cache_teacher.py', str(place.repo / f'distill/configs/shapes/{config}.py'), *options)
    return {'manifest': place.read('cache/manifest.json'), 'rows': place.files('cache', '.rows')}


def chain(place: Place) -> dict:
    """From students to a report: robustness, a detector and a segmenter."""
    options = ['--data-root', 'data/imagenet', '--out', 'robustness', '--corruption-limit', '4']
    place.run('robustness', 'robustness.py', *(student(place, run) for run in RUNS), *options)
    robustness = {'results': place.read('robustness/results.json'), 'files': place.files('robustness', '.npz', '.png')}
    record = {'robustness': robustness} | {task: downstream(place, task) for task in DOWNSTREAM}
    place.run('report', 'report.py', *record, '--out', 'report')
    markdown = place.text((place.work / 'report/report.md').read_text().replace('\\', '')).splitlines()
    html = place.text((place.work / 'report/report.html').read_text())
    html = re.sub(r'<tr><th scope="row">(Command|Created)</th>.*?</tr>', '', html)
    report = {'results': place.read('report/results.json'), 'files': place.files('report', '.png')}
    report['markdown'] = [line for line in markdown if not line.startswith(('| Command |', '| Created |'))]
    return record | {'report': report | {'html': sha256(html)}}


def downstream(place: Place, task: str) -> dict:
    """A detector or segmenter after four steps on a student: weights, scores, predictions and pictures of them."""
    config, data, limit = DOWNSTREAM[task]
    config = str(place.repo / f'downstream_configs/{task}/{config}.py')
    options = f'--work-dir {task} --data-root data/{data} --cfg-options'.split()
    options.append(f'model.backbone.checkpoint={student(place, BACKBONE)}')
    place.run(task, 'train.py', config, *options, *FOUR_STEPS.format(limit).split())
    show = f'auto --out {task}/predictions.pkl --show-dir {task}/pictures --show-interval 2'.split()
    place.run(f'{task} test', 'test.py', config, *show, *options)
    (checkpoint,) = (place.work / task).glob('*_4.pth')
    predictions = pickle.loads((place.work / task / 'predictions.pkl').read_bytes())
    record = {'weights': weights_record(checkpoint), 'results': place.read(f'{task}/results.json')}
    return record | {'predictions': place.plain(predictions), 'pictures': place.files(f'{task}/pictures', '.png')}


INSIDE = {'environment': environment, 'models': models, 'corruptions': corruptions}
OUTSIDE = {'runs': runs, 'cache': cache, 'chain': chain}


def record(args: argparse.Namespace) -> None:
    """Record the parts that are asked for."""
    args.second.touch()  # Better to fail now than after minutes.
    with tempfile.TemporaryDirectory() as work:
        place = Place(args.first.resolve(), Path(work).resolve())
        found = {part: place.inside(part) for part in INSIDE if part in ('environment', *args.parts)}
        if not OUTSIDE.keys().isdisjoint(args.parts):
            place.run('data', 'make_data.py', 'data', *DATA.split())
            found['data'] = place.files('data', '')
        found |= {part: measure(place) for part, measure in OUTSIDE.items() if part in args.parts}
    args.second.write_text(json.dumps(found, indent=1) + '\n')
    print(f'{len(dict(leaves(found, {})))} values, {sum(os.times()[2:4]):.0f} s of CPU time')


def inside(args: argparse.Namespace) -> None:
    """Write what a function of `INSIDE` returns, once it is sure which code that is about."""
    if not all(Path(util.find_spec(name).origin).is_relative_to(args.first) for name in ('backbones', 'distill')):
        raise SystemExit(f"backbones and distill do not both come from '{args.first}'")
    args.second.write_text(json.dumps(INSIDE[args.parts[0]]()))


def leaves(value, names: Mapping[str, str], path: str = '') -> Iterator[tuple[str, str]]:
    """The values of a tree as JSON, by their paths, with other names for some keys."""
    if isinstance(value, dict | list) and value:
        for key, its in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(its, names, f'{path}/{names.get(key, key)}'.lstrip('/'))
    else:
        yield path, json.dumps(value, ensure_ascii=False)


def compare(args: argparse.Namespace) -> int:
    """Print every difference, with None for what is missing; returns 1 if there are any."""
    before, after = (json.loads(path.read_text()) for path in (args.first, args.second))
    alone = sorted(before.keys() ^ after.keys())
    old, new = dict(leaves(before, dict(pair.split('=', 1) for pair in args.renamed))), dict(leaves(after, {}))
    paths = [path for path in dict.fromkeys([*old, *new]) if path.partition('/')[0] not in alone]
    found = [f'{path}: {old.get(path)} → {new.get(path)}' for path in paths if old.get(path) != new.get(path)]
    found += [f'{part}: in one record only' for part in alone]
    print('\n'.join([*found, f'{len(found)} differences, {len(paths)} values compared']))
    return int(bool(found))


def main() -> int | None:
    """Read the command line and do as it says."""
    commands = {function.__name__: function for function in (record, compare, inside)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('command', choices=commands, help='inside is for its own use')
    parser.add_argument('first', type=Path, help='REPO or BEFORE.json')
    parser.add_argument('second', type=Path, help='OUT.json or AFTER.json')
    parser.add_argument('--parts', nargs='+', choices=(*INSIDE, *OUTSIDE), default=(*INSIDE, *OUTSIDE))
    parser.add_argument('--renamed', nargs='+', default=[], metavar='OLD=NEW', help='keys with a new name, anywhere')
    args = parser.parse_args()
    return commands[args.command](args)


if __name__ == '__main__':
    sys.exit(main())
