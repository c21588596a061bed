"""Models under evaluation: where they come from and what they are shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from timm.data import resolve_data_config, resolve_model_data_config
from torch import Tensor, nn

from backbones.checkpoint import build_model, fixed_size, weights_sha256
from backbones.class_names import known_classes
from backbones.record import ModelRecord
from distill.base.classes import match_classes
from distill.base.folders import class_folders
from distill.base.images import normalise
from distill.results.entries import RunRecord
from distill.robustness import imagenet
from distill.robustness.onnx_model import OnnxModel
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

    @torch.inference_mode()
    def predict(self, images: Tensor) -> Tensor:
        """Predict logits [B, K] of uint8 images [B, 3, H, W]."""
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


def load_run(source: str, device: str, input_size: int | None = None) -> Run:
    """Load a model to evaluate.

    Args:
        source: A checkpoint of this project, an ONNX file, or a timm name for its pretrained weights; ``NAME=SOURCE``
            names the run.
        device: Where the model runs.
        input_size: Side of the images in pixels in place of the model's own.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The model cannot be loaded, or does not take that size.
    """
    named = Source.parse(source)
    named.check()
    path, is_file, is_onnx = named.path, named.is_file, named.is_onnx
    described = ModelRecord.read(path) if is_file else None
    loaded = _load_onnx(path, device) if is_onnx else _load_timm(path, is_file, device, input_size)
    fixed = loaded.fixed_size
    if input_size and fixed not in (None, (input_size, input_size)):
        raise ValueError(f"'{path}' takes images of {fixed[0]}x{fixed[1]} pixels only; leave out --input-size for it")
    described = described or ModelRecord(Path(path).stem if is_onnx else path)
    own_size = fixed or (described.input_size or loaded.config['input_size'])[-2:]
    size = (input_size, input_size) if input_size else tuple(own_size)
    classes = described.classes or loaded.classes
    if classes is None and loaded.network.num_classes == len(imagenet.synsets()):
        classes = list(imagenet.synsets())
    record: RunRecord = {
        'model': described.model,
        'model_kwargs': described.model_kwargs,
        'teacher': teacher_name(described.teacher),
        'params': loaded.params,
        'checkpoint': path if is_file else None,
        'weights_sha256': loaded.sha256,
        'input_size': [3, *size],
        'mean': list(described.mean or loaded.config['mean']),
        'std': list(described.std or loaded.config['std']),
    }
    # A model trained at its own size is shown the whole image at that size; a pretrained one what it was tested with.
    crop_pct = 1.0 if described.input_size else loaded.config['crop_pct']
    return Run(
        named.name,
        loaded.network,
        classes,
        record['mean'],
        record['std'],
        dict(input_size=size, interpolation=loaded.config['interpolation'], crop_pct=crop_pct),
        record,
        fixed,
        device,
    )


@dataclass
class _Loaded:
    """A network, and what is known of it without its record.

    Attributes:
        network: In eval mode, on its device.
        params: Number of parameters.
        sha256: Hash of the weights.
        fixed_size: The one size that the network takes, or None for any.
        config: How timm would show images: size, interpolation, crop, mean and std.
        classes: Names of the classes that timm's configuration tells, or None.
    """

    network: nn.Module
    params: int
    sha256: str
    fixed_size: tuple[int, int] | None
    config: dict
    classes: list[str] | None = None


def _load_timm(path: str, is_file: bool, device: str, input_size: int | None) -> _Loaded:
    network = build_model(checkpoint=path) if is_file else build_model(path, pretrained=True)
    # Of the weights as they are stored: another size resamples the position embeddings.
    sha256, params = weights_sha256(network.state_dict()), sum(p.numel() for p in network.parameters())
    set_input_size = getattr(network, 'set_input_size', None)
    if input_size and fixed_size(network) and set_input_size is not None:
        set_input_size(img_size=(input_size, input_size))
    network = network.eval().to(device).to(memory_format=torch.channels_last)
    classes = None if is_file else known_classes(None, network.pretrained_cfg, network.num_classes)
    return _Loaded(network, params, sha256, fixed_size(network), resolve_model_data_config(network), classes)


def _load_onnx(path: str, device: str) -> _Loaded:
    network = OnnxModel(path, device)
    config = resolve_data_config(pretrained_cfg={'input_size': (3, *(network.fixed_size or (224, 224)))})
    return _Loaded(network, network.params, network.sha256, network.fixed_size, config)


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
                    f"tell, and '{folder}' {len(run.classes)} folders; save it with its description (.json)"
                )
    for run in runs[1:]:
        try:
            match_classes(run.classes or [], runs[0].classes or [], f"run '{run.name}'", f"run '{runs[0].name}'")
        except ValueError as error:
            counts = ', '.join(f'{run.name} {len(run.classes or ())}' for run in runs)
            raise ValueError(
                f'runs of different classes ({counts}) are not evaluated together; run them one by one: {error}'
            ) from None
