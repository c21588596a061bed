"""Hostile files: what a stranger's file must not do.

Each function makes a file that would run code, fill the memory, or read and write outside its folder, and has a command
read it. The command must refuse it in one line or take it as text, within the memory and the time that are allowed.
"""

import io
import json
import os
import pickle
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import torch

from campaign.bad_input import Scene
from campaign.ledger import Trial
from campaign.stage import run

PART = 'hostile files'
SECRET = 'the-secret-of-another-folder'
MEMORY_KIB = 6 << 20
"""Memory that a command may use: as much as its libraries and a small model take, twice."""

Trick = Callable[['Place'], tuple[str, list]]
TRICKS: dict[str, tuple[str, Trick]] = {}


class Place:
    """Folders of one trial.

    Attributes:
        scene: Copies of what commands read.
        canary: A file that code in a pickle would make, and that a path which leaves its folder would reach.
    """

    def __init__(self, scene: Scene):
        self.scene = scene
        self.canary = scene.folder / 'canary'
        self.secret = scene.folder / 'secret.txt'
        scene.inputs.mkdir(parents=True)
        self.secret.write_text(SECRET)

    def train(self, *options: str) -> tuple[str, list]:
        """A classifier's training on the scene's images."""
        from campaign.stage import CLASSIFIER, STUDENT

        scene = self.scene
        return 'train', scene.stage.train(STUDENT, scene.inputs / 'data/imagenet', scene.out, [*CLASSIFIER, *options])


def trick(kind: str) -> Callable[[Trick], Trick]:
    """Enter a function as a trick."""

    def enter(function: Trick) -> Trick:
        TRICKS[function.__name__.replace('_', ' ')] = (kind, function)
        return function

    return enter


class RunsCode:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.system, (f'touch {self.path}',)


def hostile_checkpoint(place: Place, path: Path) -> Path:
    """A checkpoint that runs code when it is loaded without care."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({'state_dict': {'a': torch.ones(2)}, 'meta': RunsCode(place.canary)}, path)
    return path


@trick('pickles')
def pickle_as_a_checkpoint_to_judge(place: Place) -> tuple[str, list]:
    path = hostile_checkpoint(place, place.scene.inputs / 'x.pth')
    data = place.scene.stage.data / 'imagenet'
    return 'robustness', [path, '--data-root', data, '--out', place.scene.out]


@trick('pickles')
def pickle_as_a_checkpoint_to_test(place: Place) -> tuple[str, list]:
    from campaign.stage import DETECTOR

    path = hostile_checkpoint(place, place.scene.inputs / 'x.pth')
    stage = place.scene.stage
    return 'test', stage.train(DETECTOR, stage.data / 'coco', place.scene.out, ['randomness.seed=0'], path)


@trick('pickles')
def pickle_as_a_checkpoint_to_resume(place: Place) -> tuple[str, list]:
    place.scene.copy('data/imagenet')
    path = hostile_checkpoint(place, place.scene.inputs / 'x.pth')
    command, arguments = place.train()
    return command, [arguments[0], '--resume', path, *arguments[1:]]


@trick('pickles')
def pickle_as_the_newest_checkpoint(place: Place) -> tuple[str, list]:
    place.scene.copy('data/imagenet')
    hostile_checkpoint(place, place.scene.out / 'epoch_1.pth')
    command, arguments = place.train()
    return command, [arguments[0], '--resume', *arguments[1:]]


@trick('pickles')
def pickle_to_start_from(place: Place) -> tuple[str, list]:
    place.scene.copy('data/imagenet')
    path = hostile_checkpoint(place, place.scene.inputs / 'x.pth')
    return place.train(f'load_from={path}')


@trick('pickles')
def pickle_as_a_student(place: Place) -> tuple[str, list]:
    place.scene.copy('data/imagenet')
    path = hostile_checkpoint(place, place.scene.inputs / 'x.pth')
    return place.train(f'model.student.checkpoint={path}')


@trick('pickles')
def pickle_as_a_backbone(place: Place) -> tuple[str, list]:
    from campaign.stage import DETECTION, DETECTOR

    path = hostile_checkpoint(place, place.scene.inputs / 'x.pth')
    stage = place.scene.stage
    options = [*DETECTION, f'model.backbone.checkpoint={path}']
    return 'train', stage.train(DETECTOR, stage.data / 'coco', place.scene.out, options)


@trick('pickles')
def plain_pickle_as_a_checkpoint(place: Place) -> tuple[str, list]:
    path = place.scene.inputs / 'x.pth'
    path.write_bytes(pickle.dumps(RunsCode(place.canary)))
    return 'explain', [path, path, '--images', place.scene.stage.data / 'imagenet/val', '--out', place.scene.out]


@trick('pickles')
def pickle_in_stored_predictions(place: Place) -> tuple[str, list]:
    """Arrays of objects, which numpy would unpickle."""
    import numpy as np

    place.scene.copy('judged')
    shutil.copytree(place.scene.inputs / 'judged', place.scene.out)
    for path in place.scene.out.glob('predictions/*/*.npz'):
        np.savez(path, paths=np.array([RunsCode(place.canary)], dtype=object))
    stage = place.scene.stage
    student = stage.root / 'student/student_best.pth'
    return 'robustness', [student, '--data-root', stage.data / 'imagenet', '--suite', 'clean', '--out', place.scene.out]


def png_of(width: int, height: int) -> bytes:
    """A PNG of some hundred bytes that says it has as many pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))

    head = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    return (
        b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head) + chunk(b'IDAT', zlib.compress(b'\0' * 1000)) + chunk(b'IEND', b'')
    )


@trick('bombs')
def image_of_a_billion_pixels_in_a_class_folder(place: Place) -> tuple[str, list]:
    data = place.scene.copy('data/imagenet')
    sorted(data.glob('train/*/*.jpg'))[0].write_bytes(png_of(60000, 60000))
    return place.train()


@trick('bombs')
def image_of_a_billion_pixels_to_judge(place: Place) -> tuple[str, list]:
    data = place.scene.copy('data/imagenet')
    sorted(data.glob('val/*/*.jpg'))[0].write_bytes(png_of(60000, 60000))
    student = place.scene.stage.root / 'student/student_best.pth'
    return 'robustness', [student, '--data-root', data, '--suite', 'clean', '--out', place.scene.out]


@trick('bombs')
def image_of_a_billion_pixels_in_annotations(place: Place) -> tuple[str, list]:
    from campaign.stage import DETECTION, DETECTOR

    data = place.scene.copy('data/coco')
    sorted(data.glob('val2017/*.jpg'))[0].write_bytes(png_of(60000, 60000))
    return 'train', place.scene.stage.train(DETECTOR, data, place.scene.out, DETECTION)


@trick('bombs')
def label_map_of_a_billion_pixels(place: Place) -> tuple[str, list]:
    from campaign.stage import SEGMENTATION, SEGMENTER

    data = place.scene.copy('data/ade20k')
    sorted(data.glob('annotations/training/*.png'))[0].write_bytes(png_of(60000, 60000))
    return 'train', place.scene.stage.train(SEGMENTER, data, place.scene.out, SEGMENTATION)


@trick('bombs')
def zip_bomb_as_a_checkpoint(place: Place) -> tuple[str, list]:
    path = place.scene.inputs / 'x.pth'
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('x/data.pkl', pickle.dumps({}, protocol=2))
        archive.writestr('x/version', '3')
        with archive.open('x/data/0', 'w', force_zip64=True) as bomb:
            for _ in range(2048):
                bomb.write(b'\0' * (4 << 20))
    data = place.scene.stage.data / 'imagenet'
    return 'robustness', [path, '--data-root', data, '--out', place.scene.out]


@trick('bombs')
def json_nested_without_an_end(place: Place) -> tuple[str, list]:
    place.scene.copy('judged')
    (place.scene.inputs / 'judged/results.json').write_text('[' * 200000)
    return 'report', [place.scene.inputs / 'judged', '--out', place.scene.out]


def add_member(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a file to a tar file under any name."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


@trick('paths')
def tar_whose_members_leave_it(place: Place) -> tuple[str, list]:
    data = place.scene.copy('data/imagenet')
    image = sorted(data.glob('train/*/*.jpg'))[0].read_bytes()
    with tarfile.open(data / 'train.tar', 'w') as archive:
        for path in sorted(data.glob('train/*/*.jpg')):
            archive.add(path, path.relative_to(data / 'train').as_posix())
        add_member(archive, '../../../canary', image)
        add_member(archive, f'{place.canary}', image)
        add_member(archive, '../../../canary.jpg', image)
    shutil.rmtree(data / 'train')
    return place.train()


@trick('paths')
def record_that_leaves_its_folder(place: Place) -> tuple[str, list]:
    for name in ('student_best.pth', 'student_best.json'):
        place.scene.copy(f'student/{name}')
    record = place.scene.inputs / 'student/student_best.json'
    content = json.loads(record.read_text())
    record.write_text(json.dumps({**content, 'model': f'local-dir:{place.scene.folder}'}))
    data = place.scene.stage.data / 'imagenet'
    return 'robustness', [record.with_suffix('.pth'), '--data-root', data, '--out', place.scene.out]


@trick('paths')
def picture_of_results_from_another_folder(place: Place) -> tuple[str, list]:
    """A report shows pictures of its results, and nothing else of the disk."""
    folder = place.scene.copy('judged')
    results = json.loads((folder / 'results.json').read_text())
    for sample, name in zip(results['samples'], ('../../secret.txt', str(place.secret), '../secret.txt'), strict=False):
        sample['image'] = name
    (folder / 'results.json').write_text(json.dumps(results))
    return 'report', [folder, '--out', place.scene.out]


@trick('paths')
def name_of_a_run_that_leaves_its_folder(place: Place) -> tuple[str, list]:
    stage = place.scene.stage
    student = f'../../canary={stage.root}/student/student_best.pth'
    return 'robustness', [student, '--data-root', stage.data / 'imagenet', '--suite', 'clean', '--out', place.scene.out]


@trick('paths')
def manifest_of_a_cache_that_leaves_its_folder(place: Place) -> tuple[str, list]:
    from campaign.stage import PUPIL

    cache, stage = place.scene.copy('cache'), place.scene.stage
    manifest = json.loads((cache / 'manifest.json').read_text())
    manifest['cache']['dtype'] = '../../canary'
    (cache / 'manifest.json').write_text(json.dumps(manifest))
    options = stage.teacher_options(f'model.teacher.cache={cache}')
    return 'train', stage.train(PUPIL, stage.data / 'imagenet', place.scene.out, options)


EVIL = '<img src=x onerror=alert(1)>'
"""Markup that must be text wherever it is shown. Names of folders cannot hold a slash."""


@trick('markup')
def markup_in_class_names(place: Place) -> tuple[str, list]:
    folder = place.scene.copy('judged')
    text = (folder / 'results.json').read_text()
    results = json.loads(text.replace('"circle', f'"{EVIL}circle').replace('"student"', f'"{EVIL}student"'))
    for sample in results['samples']:
        sample['target'] = EVIL + '</script><script>alert(2)</script>'
    (folder / 'results.json').write_text(json.dumps(results))
    return 'report', [folder, '--out', place.scene.out, '--title', EVIL]


class Hostile:
    """The trials of hostile files, by number; see `campaign.bad_input.BadInput`."""

    def __init__(self, stage, folder: Path):
        self.stage, self.folder = stage, folder

    def __call__(self, number: int) -> list[Trial]:
        """Play one trick, and judge."""
        import random

        name = sorted(TRICKS)[number % len(TRICKS)]
        kind, function = TRICKS[name]
        scene = Scene(self.stage, self.folder / f'{number:05d}', random.Random(number), name)
        place = Place(scene)
        before = {path for path in scene.folder.rglob('*') if scene.out not in path.parents}
        command, arguments = function(place)
        before |= set(scene.inputs.rglob('*'))
        status, output = run(command, arguments, 120)
        findings = self._judge(place, status, output)
        made = {path for path in scene.folder.rglob('*') if scene.out not in (path, *path.parents)} - before
        findings += [f'writes {path}' for path in sorted(made)[:3]]
        outcome = 'refused' if status else 'taken as text'
        shutil.rmtree(scene.folder)
        return [Trial(PART, f'{kind}: {name}', command, number, outcome, '; '.join(findings)[:1500])]

    @staticmethod
    def _judge(place: Place, status: int | None, output: str) -> list[str]:
        findings = []
        if status is None or status < 0:
            findings.append(f'ends by {"hanging" if status is None else f"signal {-status}"}')
        if 'Traceback (most recent call last)' in output:
            findings.append(f'traceback, {output.strip()[-400:]}')
        if status and 'error: ' not in output.strip().rpartition('\n')[2]:
            findings.append(f'exit status {status} without a line: {output[-400:]}')
        if place.canary.exists():
            findings.append('ran code, or wrote outside its folder')
        for path in place.scene.out.rglob('*.html'):
            page = path.read_text()
            findings += ['shows markup of a name as markup'] if EVIL in page or '<script>alert' in page else []
            import base64

            secrets = (SECRET, base64.b64encode(SECRET.encode()).decode()[:-2])
            findings += ['shows a file of another folder'] if any(secret in page for secret in secrets) else []
        return findings
