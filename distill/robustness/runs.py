"""Models under evaluation: where they come from and what they are shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from backbones.checkpoint import build_model, fixed_size, read_description, weights_sha256


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
    """

    name: str
    network: nn.Module
    classes: list[str] | None
    mean: Sequence[float]
    std: Sequence[float]
    transform: dict
    record: dict

    @torch.inference_mode()
    def predict(self, images: Tensor) -> Tensor:
        """Logits [B, K] of uint8 images [B, 3, H, W]."""
        device = next(self.network.parameters()).device
        mean = torch.tensor(self.mean, device=device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=device).view(1, 3, 1, 1)
        images = images.to(device, memory_format=torch.channels_last).float().div_(255).sub_(mean).div_(std)
        return self.network(images).float().cpu()


def run_name(checkpoint: str) -> str:
    """The name of a run: the work directory of a ``student_best.pth``, else the file's own."""
    path = Path(checkpoint)
    return path.resolve().parent.name if path.stem == 'student_best' else path.stem


def load_run(source: str, device: str) -> Run:
    """Load a model to evaluate.

    Args:
        source: A checkpoint of this project, or a timm name for its pretrained weights; ``NAME=SOURCE`` names it.
        device: Where it runs.
    """
    name, _, path = source.rpartition('=')
    is_file = Path(path).suffix in ('.pth', '.tar', '.pt') or Path(path).exists()
    description = (read_description(path) if is_file else None) or {}
    network = build_model(checkpoint=path) if is_file else build_model(path, pretrained=True)
    network = network.eval().to(device, memory_format=torch.channels_last)
    config = resolve_model_data_config(network)
    size = fixed_size(network) or description.get('input_size', config['input_size'])[-2:]
    teacher = description.get('teacher') or {}
    record = {
        'model': description.get('model', path),
        'model_kwargs': description.get('model_kwargs', {}),
        'teacher': run_name(teacher['checkpoint']) if teacher.get('checkpoint') else teacher.get('model'),
        'params': sum(p.numel() for p in network.parameters()),
        'checkpoint': path if is_file else None,
        'weights_sha256': weights_sha256(network.state_dict()),
        'input_size': [3, *size],
        'mean': list(description.get('mean', config['mean'])),
        'std': list(description.get('std', config['std'])),
    }
    # A model trained at its own size is shown the whole image at that size; a pretrained one what it was tested with.
    crop_pct = 1.0 if 'input_size' in description else config['crop_pct']
    transform = dict(input_size=tuple(size), interpolation=config['interpolation'], crop_pct=crop_pct)
    return Run(
        name or (run_name(path) if is_file else path),
        network,
        description.get('classes'),
        record['mean'],
        record['std'],
        transform,
        record,
    )
