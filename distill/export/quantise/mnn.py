"""Quantise files of MNN by its offline quantiser.

Of its methods ``EMA`` is used. ``KL`` and ``ADMM`` of MNN 3.6 end with a segmentation fault on networks that torch has
exported, and they alone would know layers to leave out. The quantiser shows a network images and nothing else: of a
detector or segmenter, which takes the size of the image too, MNN's converter writes the weights in 8 bits.
"""

import json
import os
from collections.abc import Collection
from pathlib import Path

from PIL import Image

from distill.engines.mnn import MARK, convert, run_tool
from distill.engines.quiet import caught_output
from distill.export.quantise.calibration import Calibration
from distill.export.quantise.quantiser import Task

BATCH = 4
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
            'path': f'{images.absolute()}/',
            'used_sample_num': len(self.task.calibration),
            'batch_size': self.task.manifest.batch or min(BATCH, len(self.task.calibration)),
            'feature_quantize_method': 'EMA',
            'weight_quantize_method': 'MAX_ABS',
        }
        config.write_text(json.dumps(options))
        fixed, quantised = self.task.folder / 'fixed.mnn', self.task.folder / 'quantised.mnn'
        self._fix_size(fixed)
        said = run_tool('mnnquant', *map(os.path.abspath, (fixed, quantised, config)))
        if said or not quantised.is_file():
            reason = said or 'it does not say why'
            raise ValueError(f"MNN does not quantise '{self.task.path}' ({reason}); take another engine for int8")
        axes = '0' if self.task.manifest.batch is None else ''
        rewrite(quantised, out, f'{MARK}{self.name}={axes}')

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
        rewrite(self.task.path, out, mark_of(self.task.path), '--weightQuantBits', '8')

    def write_only(self, out: str | os.PathLike, layer: str, calibration: Calibration) -> None:
        """MNN quantises everything or nothing."""
        raise ValueError(NO_LAYERS)


def mark_of(path: str | os.PathLike) -> str:
    """What a file of MNN says of axes of any size, see `distill.engines.mnn`."""
    with caught_output():
        import MNN

        return MNN.nn.load_module_from_file(os.fspath(path), [], []).get_info().get('bizCode', '')


def rewrite(path: Path, out: str | os.PathLike, mark: str, *options: str) -> None:
    """Write a file of MNN anew; see `convert`.

    Raises:
        ValueError: MNN does not convert it.
    """
    if said := convert('MNN', path, out, mark, *options):
        raise ValueError(f"MNN does not convert '{path}' ({said})")


def make(task: Task) -> Mnn | MnnWeights:
    """The quantiser of a file of MNN."""
    return MnnWeights(task) if task.calibration.sizes else Mnn(task)
