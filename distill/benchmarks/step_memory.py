"""Memory of a training step, computed without making it: from the sizes of what a model keeps for its backward pass."""

from dataclasses import dataclass

import timm
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import backbones  # noqa: F401  registers models

BYTES_A_WEIGHT = 16
"""Weight, gradient and Adam's two moments in single precision."""
BATCHES = (8, 16)
CLASSES = 1000


@dataclass(frozen=True)
class StepMemory:
    """What a step holds when the forward pass of the student ends, which is about its peak.

    Attributes:
        fixed_mib: Weights, gradients, Adam's moments and weights in bf16, in MiB.
        image_mib: What is kept for the backward pass, in MiB for each image.
    """

    fixed_mib: float
    image_mib: float

    def of_batch(self, batch_size: int) -> float:
        """MiB of a step with so many images."""
        return self.fixed_mib + self.image_mib * batch_size

    def largest_batch(self, memory_mib: float, share: float = 0.9) -> int:
        """Images of the largest step that fits a share of a card's memory in MiB; the rest is the libraries'."""
        return max(0, int((share * memory_mib - self.fixed_mib) / self.image_mib))


def step_memory(name: str, size_px: int | None = None, **kwargs) -> StepMemory:
    """Compute the memory of a training step in bf16 by autocast.

    Tensors have sizes and no contents, so nothing is computed but these. A teacher beside the student adds its weights;
    its activations are gone when the student's pile up.

    Args:
        name: timm's name.
        size_px: Side of the images; None for the model's own.
        kwargs: Further arguments of ``timm.create_model``.
    """
    kept = [_kept(name, size_px, batch_size, kwargs) for batch_size in BATCHES]
    image = (kept[1][0] - kept[0][0]) / (BATCHES[1] - BATCHES[0])
    fixed = kept[0][0] - image * BATCHES[0] + BYTES_A_WEIGHT * kept[0][1]
    return StepMemory(fixed / 2**20, image / 2**20)


def _kept(name: str, size_px: int | None, batch_size: int, kwargs: dict) -> tuple[int, int]:
    """Bytes that a forward pass keeps beside the weights, and the number of weights."""
    with torch.device('meta'):
        network = timm.create_model(name, num_classes=CLASSES, **kwargs).train()
    side = size_px or network.default_cfg['input_size'][-1]
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        kept[storage._cdata] = storage  # Held, so that no other gets its address.
        return value

    with FakeTensorMode(allow_non_fake_inputs=True):
        network.to_empty(device='cpu')
        weights = {weight.untyped_storage()._cdata for weight in network.parameters()}
        images = torch.empty(batch_size, 3, side, side).to(memory_format=torch.channels_last)
        targets = torch.empty(batch_size, CLASSES)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
            with torch.autocast('cpu', torch.bfloat16):
                logits = network(images)
            loss = F.cross_entropy(logits.float(), targets)
        held = sum(storage.nbytes() for key, storage in kept.items() if key not in weights)
        del loss
    return held, sum(weight.numel() for weight in network.parameters())
