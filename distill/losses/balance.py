"""Balance what several teachers ask of a student."""

import torch
from torch import Tensor, nn

from distill.base.processes import rank_and_count, sum_over_processes

BALANCES = ('weights', 'size')
MOMENTUM = 0.99


class Balance(nn.Module):
    """Factors of the losses of several teachers.

    - ``weights``: the weight of each, as the config has it. Standardised targets are of one scale already.
    - ``size``: the weight divided by the running mean of the teacher's loss. Each teacher then adds its weight to the
      sum, whatever its losses measure, and goes on doing so as they fall.

    The running mean is exponential with a momentum of 0.99 and without the bias of its beginning, of the mean over all
    processes, the current step included. It is in the checkpoint.

    Args:
        kind: One of ``BALANCES``.
        weights: Of the teachers.

    Raises:
        ValueError: The kind is unknown.
    """

    sizes: Tensor
    steps: Tensor

    def __init__(self, kind: str, weights: list[float]):
        super().__init__()
        if kind not in BALANCES:
            raise ValueError(f"balance '{kind}' is unknown; choose from {', '.join(BALANCES)}")
        self.kind, self.weights = kind, weights
        if kind == 'size':
            self.register_buffer('sizes', torch.zeros(len(weights)))
            self.register_buffer('steps', torch.zeros(()))

    @torch.no_grad()
    def forward(self, losses: list[Tensor]) -> list[float | Tensor]:
        """The factor of each teacher's loss, in training after that has been counted.

        Args:
            losses: Of the teachers, without their weights: scalars.
        """
        if self.kind == 'weights':
            return list(self.weights)
        if self.training:
            now = sum_over_processes(torch.stack([loss.detach().float() for loss in losses])) / rank_and_count()[1]
            self.sizes.lerp_(now.to(self.sizes), 1 - MOMENTUM)
            self.steps += 1
        means = self.sizes / (1 - MOMENTUM**self.steps).clamp(min=1e-12)
        means = torch.where(means > 1e-12, means, torch.ones_like(means))
        return [weight / mean for weight, mean in zip(self.weights, means.unbind(), strict=True)]
