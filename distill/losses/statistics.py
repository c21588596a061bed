"""Bring a teacher's features to a scale that does not depend on the teacher."""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.base.processes import sum_over_processes

STATISTICS = ('mean_std', 'phi_s', 'layer_norm', 'none')
WARMUP_STEPS = 128
"""Steps over which mean and covariance are gathered; a power of two, as the last refresh is then the full one."""


class Statistics(nn.Module):
    """Standardise a teacher's features by their statistics over the first steps of a run.

    - ``mean_std``: (y − μ) / σ, channel by channel.
    - ``phi_s``: α H Vᵀ (y − μ), with the eigenvectors V of the covariance, a Hadamard matrix H with rows of norm 1 and
      α = 1/√(mean eigenvalue). All channels then have a variance of 1, and distances are those of y times α: the one
      scale of a teacher, which makes the squared errors of several teachers comparable (Ranzinger et al., "PHI-S:
      Distribution Balancing for Label-Free Multi-Teacher Distillation", 2024).
    - ``layer_norm``: a LayerNorm without weights at each position; there is nothing to gather.
    - ``none``: y.

    Mean and covariance (unbiased) are those of all images and positions of the first ``warmup`` steps, over all
    processes. What is done to the features follows them after the steps 1, 2, 4, 8, … and the last one, and is fixed
    from then on: a target that never settles cannot be learnt. All is in the checkpoint, the rotation too, as
    eigenvectors have no sign of their own.

    Args:
        kind: One of ``STATISTICS``.
        chs: Width D of the features.
        warmup: Steps over which statistics are gathered.
    """

    steps: Tensor
    count: Tensor
    mean: Tensor
    scatter: Tensor
    transform: Tensor

    def __init__(self, kind: str, chs: int, warmup: int = WARMUP_STEPS):
        super().__init__()
        self.kind, self.warmup = kind, warmup
        self._is_fixed = kind in ('layer_norm', 'none')
        if self._is_fixed:
            return
        wide = (chs, chs) if kind == 'phi_s' else (chs,)
        self.register_buffer('steps', torch.zeros((), dtype=torch.long))
        self.register_buffer('count', torch.zeros(()))
        self.register_buffer('mean', torch.zeros(chs))
        self.register_buffer('scatter', torch.zeros(wide))
        self.register_buffer('transform', torch.eye(chs) if kind == 'phi_s' else torch.ones(chs))

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._is_fixed = self.kind in ('layer_norm', 'none')

    def forward(self, y: Tensor) -> Tensor:
        """Standardise features, in training after they have been counted.

        Args:
            y: Teacher's features [..., D] in fp32.
        """
        if self.training and not self._is_fixed:
            # The device is waited for in these first steps alone.
            self._is_fixed = self.steps.item() >= self.warmup
            if not self._is_fixed:
                self._gather(y.reshape(-1, y.shape[-1]))
        if self.kind == 'none':
            return y
        if self.kind == 'layer_norm':
            return F.layer_norm(y, y.shape[-1:])
        if self.kind == 'phi_s':
            return (y - self.mean) @ self.transform.t()
        return (y - self.mean) * self.transform

    @torch.no_grad()
    def _gather(self, rows: Tensor) -> None:
        """Add the features of a step to mean and covariance, by Chan et al.'s rule for the moments of two sets."""
        sums = sum_over_processes(torch.cat([rows.new_tensor([len(rows)]), rows.sum(dim=0)]))
        count, mean = sums[0], sums[1:] / sums[0]
        centred = rows - mean
        scatter = sum_over_processes(centred.t() @ centred if self.kind == 'phi_s' else centred.square().sum(dim=0))
        delta, total = mean - self.mean, self.count + count
        between = torch.outer(delta, delta) if self.kind == 'phi_s' else delta.square()
        self.scatter += scatter + between * (self.count * count / total)
        self.mean += delta * (count / total)
        self.count.copy_(total)
        self.steps += 1
        steps = int(self.steps.item())
        if steps & (steps - 1) == 0 or steps == self.warmup:
            self._refresh()

    def _refresh(self) -> None:
        """Make the transformation of the statistics."""
        covariance = self.scatter / (self.count - 1).clamp(min=1)
        variances = covariance.diagonal() if self.kind == 'phi_s' else covariance
        mean_variance = variances.mean().clamp(min=1e-12)
        if self.kind == 'mean_std':
            # A channel that hardly varies is not blown up to the size of the others.
            self.transform.copy_(variances.clamp(min=1e-4 * mean_variance).rsqrt())
            return
        vectors = torch.linalg.eigh(covariance)[1]
        # The largest entry of an eigenvector is positive, so that a refresh does not mirror the targets.
        largest = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True))
        vectors = vectors * largest.sign()
        self.transform.copy_(hadamard(len(self.mean)).to(vectors) @ vectors.t() * mean_variance.rsqrt())


@functools.cache
def hadamard(order: int) -> Tensor:
    """An orthogonal matrix [order, order] whose entries are all ±1/√order, where a construction is known.

    Sylvester's doubling and Paley's two constructions reach most widths of networks. For another order it is Hartley's
    matrix, whose entries have that size on average only.
    """
    found = _signs(order)
    if found is None:
        angle = 2 * torch.pi / order * torch.outer(torch.arange(order), torch.arange(order)).double().remainder(order)
        found = angle.cos() + angle.sin()
    return (found / order**0.5).float()


def _signs(order: int) -> Tensor | None:
    """A Hadamard matrix of ±1 of an order, in float64, or None if none of the constructions reaches it."""
    if order == 1:
        return torch.ones(1, 1, dtype=torch.float64)
    two = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    half = _signs(order // 2) if order == 2 or order % 4 == 0 else None
    if half is not None:
        return torch.kron(two, half)
    if order % 4:
        return None
    if _is_prime(order - 1):
        # Paley I: I + S, where S is the quadratic character of differences with a border, S = −Sᵀ.
        s = _bordered(order - 1, -1.0)
        return torch.eye(order, dtype=torch.float64) + s
    if _is_prime(order // 2 - 1) and (order // 2 - 1) % 4 == 1:
        # Paley II: each 0 of the symmetric S becomes [[1, −1], [−1, −1]], each ±1 becomes ±[[1, 1], [1, −1]].
        s = _bordered(order // 2 - 1, 1.0)
        zero = torch.tensor([[1.0, -1.0], [-1.0, -1.0]], dtype=torch.float64)
        return torch.kron(s, two) + torch.kron(torch.eye(order // 2, dtype=torch.float64), zero)
    return None


def _bordered(prime: int, corner: float) -> Tensor:
    """[[0, 1ᵀ], [±1, Q]] of the quadratic character Q of the differences of the numbers below a prime."""
    squares = set((torch.arange(1, prime) ** 2 % prime).tolist())
    character = torch.tensor([0.0] + [1.0 if one in squares else -1.0 for one in range(1, prime)], dtype=torch.float64)
    numbers = torch.arange(prime)
    matrix = torch.zeros(prime + 1, prime + 1, dtype=torch.float64)
    matrix[1:, 1:] = character[(numbers[:, None] - numbers[None, :]) % prime]
    matrix[0, 1:], matrix[1:, 0] = 1.0, corner
    return matrix


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % one for one in range(2, int(number**0.5) + 1))
