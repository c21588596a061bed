"""Models under evaluation: where they come from and what they are shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from timm.data import resolve_data_config, resolve_model_data_config
from torch import Tensor, nn

from backbones.checkpoint import build_model, fixed_size, weights_sha256
from backbones.record import ModelRecord
from distill.base.images import check_class_folders
from distill.robustness import imagenet
from distill.robustness.onnx_model import OnnxModel
from distill.robustness.sources import Source, run_name


@dataclass
class Run:
    """A model under evaluation.

    Attributes:
        name: Key in ``results.json``.
        network: In eval mode.
        classes: Its classes in order, or None if its checkpoint does not tell.
        mean, std: Normalisation of values in [0, 1].
        transform: Arguments of timm's evaluation transform: size, interpolation, crop.
        record: Its entry under ``runs``.
        fixed_size: The one size that it takes, or None for any.
        device: Where its input goes.
    """

    name: str
    network: nn.Module
    classes: list[str] | None
    mean: Sequence[float]
    std: Sequence[float]
    transform: dict
    record: dict
    fixed_size: tuple[int, int] | None = None
    device: str = 'cpu'

    @torch.inference_mode()
    def predict(self, images: Tensor) -> Tensor:
        """Logits [B, K] of uint8 images [B, 3, H, W]."""
        mean = torch.tensor(self.mean, device=self.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=self.device).view(1, 3, 1, 1)
        images = images.to(self.device, memory_format=torch.channels_last).float().div_(255).sub_(mean).div_(std)
        return self.network(images).float().cpu()


def load_run(source: str, device: str, input_size: int | None = None) -> Run:
    """Load a model to evaluate.

    Args:
        source: A checkpoint of this project, an ONNX file, or a timm name for its pretrained weights; ``NAME=SOURCE``
            names it.
        device: Where it runs.
        input_size: Side of the images in pixels in place of the model's own.

    Raises:
        FileNotFoundError, ValueError: It cannot be loaded, or does not take that size.
    """
    named = Source.parse(source)
    named.check()
    path, is_file, is_onnx = named.path, named.is_file, named.is_onnx
    told = ModelRecord.read(path) if is_file else None
    network, facts = _load_onnx(path, device) if is_onnx else _load_timm(path, is_file, device, input_size)
    config, fixed = facts['config'], facts['fixed_size']
    if input_size and fixed not in (None, (input_size, input_size)):
        raise ValueError(f"'{path}' takes images of {fixed[0]}x{fixed[1]} pixels only; leave out --input-size for it")
    told = told or ModelRecord(Path(path).stem if is_onnx else path)
    own_size = fixed or (told.input_size or config['input_size'])[-2:]
    size = (input_size, input_size) if input_size else tuple(own_size)
    teacher = told.teacher if isinstance(told.teacher, dict) else {}
    classes = told.classes
    if classes is None and network.num_classes == len(imagenet.synsets()):
        classes = list(imagenet.synsets())
    record = {
        'model': told.model,
        'model_kwargs': told.model_kwargs,
        'teacher': run_name(teacher['checkpoint']) if teacher.get('checkpoint') else teacher.get('model'),
        'params': facts['params'],
        'checkpoint': path if is_file else None,
        'weights_sha256': facts['sha256'],
        'input_size': [3, *size],
        'mean': list(told.mean or config['mean']),
        'std': list(told.std or config['std']),
    }
    # A model trained at its own size is shown the whole image at that size; a pretrained one what it was tested with.
    crop_pct = 1.0 if told.input_size else config['crop_pct']
    return Run(
        named.name,
        network,
        classes,
        record['mean'],
        record['std'],
        dict(input_size=size, interpolation=config['interpolation'], crop_pct=crop_pct),
        record,
        fixed,
        device,
    )


def _load_timm(path: str, is_file: bool, device: str, input_size: int | None) -> tuple[nn.Module, dict]:
    network = build_model(checkpoint=path) if is_file else build_model(path, pretrained=True)
    # Of the weights as they are stored: another size resamples the position embeddings.
    facts = {'sha256': weights_sha256(network.state_dict()), 'params': sum(p.numel() for p in network.parameters())}
    if input_size and fixed_size(network) and hasattr(network, 'set_input_size'):
        network.set_input_size(img_size=(input_size, input_size))
    network = network.eval().to(device, memory_format=torch.channels_last)
    return network, facts | {'fixed_size': fixed_size(network), 'config': resolve_model_data_config(network)}


def _load_onnx(path: str, device: str) -> tuple[nn.Module, dict]:
    network = OnnxModel(path, device)
    size = network.fixed_size or (224, 224)
    config = resolve_data_config(pretrained_cfg={'input_size': (3, *size)})
    return network, {
        'sha256': network.sha256,
        'params': network.params,
        'fixed_size': network.fixed_size,
        'config': config,
    }


def find_classes(runs: Sequence[Run], data_root: str | None) -> None:
    """Give runs whose checkpoint does not tell their classes those of the clean set.

    Raises:
        ValueError: There is no clean set, it has another number of classes, or the runs do not share their classes.
    """
    for run in runs:
        if run.classes is None:
            folder = Path(data_root or '') / 'val'
            run.classes = check_class_folders(folder) if data_root and folder.is_dir() else []
            if len(run.classes) != run.network.num_classes:
                raise ValueError(
                    f"run '{run.name}' has {run.network.num_classes} classes, whose names its checkpoint does not "
                    f"tell, and '{folder}' {len(run.classes)} folders; save it with its description (.json)"
                )
    if len({tuple(sorted(run.classes)) for run in runs}) > 1:
        counts = ', '.join(f'{run.name} {len(run.classes)}' for run in runs)
        raise ValueError(f'runs of different classes ({counts}) are not evaluated together; run them one by one')
