"""Quantise files of MNN by its offline quantiser, in a process of its own, because it may end with a signal.

Of its methods ``EMA`` is used. ``KL`` and ``ADMM`` of MNN 3.6 end with a segmentation fault on networks that torch has
exported, and they alone would know layers to leave out. The quantiser shows a network images and nothing else: of a
detector or segmenter, which takes the size of the image too, MNN's converter writes the weights in 8 bits.
"""

import json
import os
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

from PIL import Image

from distill.engines.mnn import MARK
from distill.engines.quiet import caught_output, last_line
from distill.export.quantise.calibration import Calibration
from distill.export.quantise.quantiser import Task

BATCH = 4
QUANTISE = 'import sys, _tools; sys.exit(not _tools.mnnquant(["mnnquant", *sys.argv[1:]]))'
"""The extension alone: `MNN.tools` installs packages and reports its use."""
NO_LAYERS = 'MNN keeps no layers in fp32; leave --keep, --keep-fp32 and --accuracy-drop out'


class Mnn:
    """See `Quantiser`."""

    can_keep = False
    fixed = ('height', 'width')
    method = "MNN's offline quantiser, moving averages of ranges (EMA), int8 weights per channel"
    layers: list[str] = []

    def __init__(self, task: Task):
        if task.manifest.dtype != 'float32':
            raise ValueError(
                f"'{task.path}' takes {task.manifest.dtype} images, and MNN's quantiser normalised ones only; export "
                'it with the normalisation outside'
            )
        self.task = task

    def write(self, out: str | os.PathLike, keep: Collection[str] = ()) -> None:
        """See `Quantiser.write`."""
        images, config = self.task.folder / 'images', self.task.folder / 'config.json'
        images.mkdir(exist_ok=True)
        for index, image in enumerate(self.task.calibration.images):
            Image.fromarray(image).save(images / f'{index:05}.png', compress_level=1)
        height, width = self.task.manifest.size
        options = {
            'format': 'RGB',
            'mean': [255 * value for value in self.task.manifest.mean],
            'normal': [1 / (255 * value) for value in self.task.manifest.std],
            'width': width,
            'height': height,
            'path': f'{images}/',
            'used_sample_num': len(self.task.calibration),
            'batch_size': self.task.manifest.batch or min(BATCH, len(self.task.calibration)),
            'feature_quantize_method': 'EMA',
            'weight_quantize_method': 'MAX_ABS',
        }
        config.write_text(json.dumps(options))
        fixed, quantised = self.task.folder / 'fixed.mnn', self.task.folder / 'quantised.mnn'
        self._fix_size(fixed)
        done = subprocess.run(
            [sys.executable, '-c', QUANTISE, os.fspath(fixed), os.fspath(quantised), os.fspath(config)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode or not quantised.is_file():
            reason = last_line(done.stderr) or last_line(done.stdout) or f'it ended with {done.returncode}'
            raise ValueError(f"MNN does not quantise '{self.task.path}' ({reason}); take another engine for int8")
        axes = '0' if self.task.manifest.batch is None else ''
        convert(quantised, out, f'{MARK}{self.name}={axes}')

    def _fix_size(self, out: Path) -> None:
        """Write the fp32 artefact with the manifest's size, which the quantiser needs."""
        with caught_output():
            import MNN

            info = MNN.nn.load_module_from_file(os.fspath(self.task.path), [], []).get_info()
            (self.name,) = info['inputNames']
            values = MNN.expr.load_as_dict(os.fspath(self.task.path))
            values[self.name].resize([self.task.manifest.batch or 1, 3, *self.task.manifest.size])
            MNN.expr.save([values[name] for name in info['outputNames']], os.fspath(out))

    def write_only(self, out: str | os.PathLike, layer: str, calibration: Calibration) -> None:
        """MNN quantises everything or nothing."""
        raise ValueError(NO_LAYERS)


class MnnWeights:
    """The weights of a detector or segmenter; see `Quantiser`."""

    can_keep = False
    fixed = ()
    method = "MNN's converter, int8 weights per channel; activations stay in fp32"
    layers: list[str] = []

    def __init__(self, task: Task):
        self.task = task

    def write(self, out: str | os.PathLike, keep: Collection[str] = ()) -> None:
        """See `Quantiser.write`."""
        convert(self.task.path, out, mark_of(self.task.path), '--weightQuantBits', '8')

    def write_only(self, out: str | os.PathLike, layer: str, calibration: Calibration) -> None:
        """MNN quantises everything or nothing."""
        raise ValueError(NO_LAYERS)


def mark_of(path: str | os.PathLike) -> str:
    """What a file of MNN says of axes of any size, see `distill.engines.mnn`."""
    with caught_output():
        import MNN

        return MNN.nn.load_module_from_file(os.fspath(path), [], []).get_info().get('bizCode', '')


def convert(path: Path, out: str | os.PathLike, mark: str, *options: str) -> None:
    """Write a file of MNN anew.

    Args:
        path: The file.
        out: The file to write.
        mark: What it says of axes of any size, see `distill.engines.mnn`.
        *options: Of MNN's converter.

    Raises:
        ValueError: MNN does not convert it.
    """
    with caught_output() as said:
        import _tools

        files = ['--modelFile', os.fspath(path), '--MNNModel', os.fspath(out)]
        done = _tools.mnnconvert(['mnnconvert', '-f', 'MNN', *files, '--bizCode', mark, *options])
        printed = said()
    if not done or not Path(out).is_file():
        raise ValueError(f"MNN does not convert '{path}' ({last_line(printed) or 'it does not say why'})")


def make(task: Task) -> Mnn | MnnWeights:
    """The quantiser of a file of MNN."""
    return MnnWeights(task) if task.calibration.sizes else Mnn(task)
