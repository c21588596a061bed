"""Effective receptive field: how strongly each input pixel moves the central feature of a stage.

Source: Luo et al., "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks", NeurIPS 2016.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from distill.explain.stages import stage_features


class ReceptiveField:
    """The effective receptive fields of some stages, over any number of images.

    A field is the gradient of the central feature with respect to the input: its root mean square over channels and
    images, summed over the colours before the root.

    Differs from Luo et al., who back-propagate ones: the channels get random signs here, because the plain sum of the
    channels behind a normalisation over channels is constant. The mean square over random signs is the sum of the
    channels' squared gradients.

    Args:
        network: A timm model in eval mode.
        indices: Numbers of the stages.
        seed: Seed of the signs.

    Attributes:
        centres: Row and column, in pixels from 0, at which the central feature of each stage lies on the input.
    """

    def __init__(self, network: nn.Module, indices: Sequence[int], seed: int = 0):
        self.network, self.indices = network, list(indices)
        self.generator = torch.Generator().manual_seed(seed)
        self.energy: Tensor | float = 0.0
        self.images = 0
        self.centres: list[tuple[float, float]] = []

    def add(self, images: Tensor) -> None:
        """Add a batch of normalised images [B, 3, H, W]."""
        images = images.detach().requires_grad_()
        with torch.enable_grad():
            stages = stage_features(self.network, images, self.indices)
            centres = [stage[:, :, stage.shape[2] // 2, stage.shape[3] // 2] for stage in stages]
        self.centres = [_input_centre(stage.shape[2:], images.shape[2:]) for stage in stages]
        gradients = []
        for index, centre in enumerate(centres):
            signs = torch.randint(2, centre.shape, generator=self.generator).to(centre) * 2 - 1
            kept = index + 1 < len(centres)
            gradients.append(torch.autograd.grad((centre * signs).sum(), images, retain_graph=kept)[0])
        squares = torch.stack(gradients).float().square().sum(dim=(1, 2))
        self.energy = self.energy + squares.cpu().double()
        self.images += len(images)

    def result(self) -> Tensor:
        """The fields [stages, H, W]."""
        return (self.energy / self.images).sqrt()


def _input_centre(feature_size: Sequence[int], input_size: Sequence[int]) -> tuple[float, float]:
    """The middle of the input's part at feature (H' // 2, W' // 2), if the features divide the input evenly."""
    sizes = zip(feature_size, input_size, strict=True)
    row, column = ((count // 2 + 0.5) * size / count - 0.5 for count, size in sizes)
    return row, column


def square_side(field: Tensor, centre: tuple[float, float], share: float) -> float:
    """Side in pixels of the smallest square around a point that holds a share of a field's sum.

    Args:
        field: A field [H, W].
        centre: Row and column of the point.
        share: The share, from 0 to 1.

    Returns:
        The side; 0 for a field of zeros.
    """
    if not field.any():
        return 0.0
    rows, columns = (torch.arange(size) - middle for size, middle in zip(field.shape, centre, strict=True))
    distance, order = torch.maximum(rows.abs()[:, None], columns.abs()[None, :]).flatten().sort()
    held = field.double().flatten()[order].cumsum(0)
    # Rounding must not ask for more than the whole field.
    first = int((held < share * (1 - 1e-9) * held[-1]).sum())
    return 2 * distance[first].item() + 1
