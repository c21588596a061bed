"""Models under evaluation: where they come from and what they are shown."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from timm.data import resolve_data_config
from torch import Tensor, nn

from backbones.checkpoint import fixed_size
from backbones.class_names import classes_or_imagenet
from backbones.loading import load
from backbones.record import ModelRecord
from backbones.sources.source import split_shown
from distill.base.classes import match_classes
from distill.base.folders import class_folders
from distill.base.images import normalise
from distill.engines.artefact import Manifest, artefact_record, caution
from distill.engines.onnx_runtime import read_metadata
from distill.results.entries import RunRecord
from distill.robustness.artefact_model import ArtefactModel
from distill.robustness.sources import Source, run_name


@dataclass
class Run:
    """A model under evaluation.

    Attributes:
        name: Key in ``results.json``.
        network: The model, in eval mode.
        classes: Names of its classes in order, or None if its checkpoint does not tell.
        mean, std: Normalisation of values in [0, 1].
        transform: Arguments of timm's evaluation transform: size, interpolation, crop.
        record: The run's entry under ``runs``.
        fixed_size: The one size that the model takes, or None for any.
        device: Where the model's input goes.
        notes: What was done to load the model and is worth a line on the screen.
        takes_raw: Whether the network normalises its images itself.
        head: What makes logits of the network's output, if that is features, see `distill.robustness.probe`.
    """

    name: str
    network: nn.Module
    classes: list[str] | None
    mean: Sequence[float]
    std: Sequence[float]
    transform: dict
    record: RunRecord
    fixed_size: tuple[int, int] | None = None
    device: str = 'cpu'
    notes: tuple[str, ...] = ()
    takes_raw: bool = False
    head: Any = None

    def predict(self, images: Tensor) -> Tensor:
        """Predict logits [B, K] of uint8 images [B, 3, H, W]."""
        return self.decide(self.forward(images))

    @property
    def shows(self) -> tuple:
        """What the output of `forward` follows from: the same network, shown the same."""
        return id(self.network), *self.mean, *self.std, self.takes_raw

    def prepare(self) -> None:
        """Have the classifier on the features learn, if there is one."""
        if self.head is not None:
            self.head.prepare()

    @torch.inference_mode()
    def decide(self, outputs: Tensor) -> Tensor:
        """Logits [B, K] of what `forward` gives."""
        return outputs if self.head is None else self.head(outputs)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        """The network's output for uint8 images [B, 3, H, W]: logits [B, K] or, of a probe's network, features."""
        if self.takes_raw:
            return self.network(images.cpu()).float().cpu()
        images = images.to(self.device, memory_format=torch.channels_last)
        return self.network(normalise(images, self.mean, self.std)).float().cpu()


def teacher_name(teacher: Mapping | Sequence[Mapping] | None) -> str | None:
    """Name the teacher of a student: the run that it comes from, else its model; of several, all: ``a + b``.

    Args:
        teacher: As a `ModelRecord` holds it.
    """
    if not teacher:
        return None
    if isinstance(teacher, Mapping):
        return run_name(teacher['checkpoint']) if teacher.get('checkpoint') else teacher.get('model')
    return ' + '.join(teacher_name(one) or 'unknown' for one in teacher)


def load_run(source: str, device: str, input_size: int | None = None, needs_classes: bool = True, **given) -> Run:
    """Load a model to evaluate.

    Args:
        source: What `backbones.load` takes, or an artefact of an engine; ``NAME=SOURCE`` names the run.
        device: Where the model runs.
        input_size: Side of the images in pixels in place of the model's own.
        needs_classes: Whether the model is judged as it is, and not its features.
        **given: Further arguments of `backbones.load`.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: The model cannot be loaded, or does not take that size.
    """
    named = Source.parse(source)
    named.check()
    if named.is_artefact and not needs_classes:
        raise ValueError(f"'{named.path}' is an exported file, which gives no features; give the model it was made of")
    if named.is_artefact:
        return _artefact_run(named, device, input_size, given)
    loaded = load(named.path, input_size=input_size, **given)
    params = sum(parameter.numel() for parameter in loaded.network.parameters())
    network = loaded.network.to(device).to(memory_format=torch.channels_last)
    origin = loaded.source, loaded.file, loaded.notes
    return make_run(named.name, network, loaded.record, device, params, *origin, needs_classes)


def make_run(
    name: str,
    network: nn.Module,
    record: ModelRecord,
    device: str,
    params: int,
    source: str,
    file: str | None,
    notes: Sequence[str] = (),
    needs_classes: bool = True,
) -> Run:
    """Make a run of a network.

    Args:
        name: Name of the run.
        network: In eval mode, on its device.
        record: What `backbones.load` knows of the network.
        device: Where the network's input goes.
        params: Number of parameters.
        source: What the user has named.
        file: Path of the file of weights, or None.
        notes: What was done to load the network.
        needs_classes: Whether the network is judged as it is, and not its features.
    """
    count: int = getattr(network, 'num_classes', 0)
    if not count and needs_classes:
        raise ValueError(
            f"'{source}' has no classifier (num_classes=0), so there is nothing to judge; give one that has, or judge "
            'its features by robust-backbones probe'
        )
    classes, origin = classes_or_imagenet(record.classes, count) if needs_classes else (None, None)
    height, width = (record.input_size or [])[-2:]
    entry: RunRecord = {
        'model': record.model,
        'model_kwargs': record.model_kwargs,
        'teacher': teacher_name(record.teacher),
        'params': params,
        'checkpoint': file,
        'weights_sha256': record.weights_sha256 or '',
        'input_size': [3, height, width],
        'mean': record.mean or [],
        'std': record.std or [],
        'source': source,
    }
    if origin is not None:
        entry['classes_from'] = origin
    if record.seen_kinds:
        entry['seen_kinds'] = record.seen_kinds
    transform = dict(input_size=(height, width), interpolation=record.interpolation, crop_pct=record.crop_pct)
    if record.crop_mode not in (None, 'center'):
        transform['crop_mode'] = record.crop_mode
    fixed = fixed_size(network)
    return Run(name, network, classes, entry['mean'], entry['std'], transform, entry, fixed, device, tuple(notes))


def _artefact_run(named: Source, device: str, input_size: int | None, given: Mapping) -> Run:
    """The run of an artefact of an engine, which its manifest or the record beside it describes."""
    model_kwargs, shown = split_shown(given)
    if any(value is not None for value in model_kwargs.values()):
        raise ValueError(
            f"'{named.path}' is an exported file, which takes no {', '.join(model_kwargs)}; leave that out"
        )
    path = str(named.file)
    network = ArtefactModel(path, device)
    fixed = network.fixed_size
    if input_size and fixed not in (None, (input_size, input_size)):
        raise ValueError(f"'{path}' takes images of {fixed[0]}x{fixed[1]} pixels only; leave out --input-size for it")
    if network.takes_raw and {'mean', 'std'} & set(shown):
        raise ValueError(f"'{path}' normalises its images itself; leave out mean and std for it")
    record = _record_of(path, network.manifest, told=network.takes_raw or {'mean', 'std'} <= set(shown))
    plain = {key: list(value) if isinstance(value, (list, tuple)) else value for key, value in shown.items()}
    record = ModelRecord.from_json({**record.to_json(), **plain}, path)
    config = resolve_data_config(pretrained_cfg={'input_size': (3, *(fixed or (224, 224)))})
    size = (input_size, input_size) if input_size else fixed or (record.input_size or config['input_size'])[-2:]
    record = replace(
        record,
        mean=list(record.mean or config['mean']),
        std=list(record.std or config['std']),
        crop_pct=record.crop_pct or (1.0 if record.input_size else config['crop_pct']),
        interpolation=record.interpolation or config['interpolation'],
        input_size=[3, *size],
        weights_sha256=network.sha256,
    )
    run = make_run(named.name, network, record, device, network.params, named.path, path)
    if (manifest := network.manifest) is not None:
        run.record['artefact'] = artefact_record(manifest)
        notes = tuple(filter(None, [caution(manifest)]))
        run = replace(run, notes=notes)
    return replace(run, fixed_size=fixed, takes_raw=network.takes_raw)


def _record_of(path: str, manifest: Manifest | None, told: bool) -> ModelRecord:
    """What is known of the model in an artefact: of its manifest, the record beside it, or an ONNX file's metadata.

    Args:
        path: The artefact.
        manifest: What stands beside it, or None.
        told: Whether the normalisation is known from elsewhere.

    Raises:
        ValueError: A file that cannot tell how images are normalised has lost its manifest.
    """
    names = ('model', 'classes', 'mean', 'std', 'crop_pct', 'crop_mode', 'interpolation')
    if manifest is not None:
        known = {name: getattr(manifest, name) for name in names}
        told = {name: manifest.details.get(name) for name in ('teacher', 'seen_kinds')}
        return ModelRecord(**known, input_size=[3, *manifest.size], **told)
    record = ModelRecord.read(path)
    if record is None and Path(path).suffix == '.onnx':
        texts = read_metadata(path)
        shown = json.loads(texts['preprocessing']) if 'preprocessing' in texts else {}
        known = {name: shown[name] for name in names if name in shown}
        if shown:
            known |= {'classes': json.loads(texts['classes']), 'input_size': [3, *shown['size']]}
        return ModelRecord(texts.get('model') or Path(path).stem, **known)
    if record is None and not told:
        raise ValueError(
            f"'{path}' has no manifest '{Manifest.path_beside(path).name}' beside it, which says how images are "
            'shown to it; copy that too, or give --mean and --std'
        )
    return record or ModelRecord(Path(path).stem)


def find_classes(runs: Sequence[Run], data_root: str | None) -> None:
    """Give runs whose checkpoint does not tell their classes those of the clean set.

    Raises:
        ValueError: There is no clean set, it has another number of classes, or the runs do not share their classes.
    """
    for run in runs:
        if run.classes is None:
            folder = Path(data_root or '') / 'val'
            run.classes = class_folders(folder) if data_root and folder.is_dir() else []
            if len(run.classes) != run.network.num_classes:
                raise ValueError(
                    f"run '{run.name}' has {run.network.num_classes} classes, whose names its checkpoint does not "
                    f"tell, and '{folder}' {len(run.classes)} folders; name them (--class-names FILE)"
                )
            run.record['classes_from'] = 'data'
    for run in runs[1:]:
        try:
            match_classes(run.classes or [], runs[0].classes or [], f"run '{run.name}'", f"run '{runs[0].name}'")
        except ValueError as error:
            counts = ', '.join(f'{run.name} {len(run.classes or ())}' for run in runs)
            raise ValueError(
                f'runs of different classes ({counts}) are not evaluated together; run them one by one: {error}'
            ) from None
