"""Linear classifiers of features: multinomial logistic regression, and ridge regression in closed form.

Both standardise the features by the training images, leave the bias free of the regulariser, and choose its strength on
a held-out part of the training images; then they learn from all of these. Nothing is drawn: they start at zero, and
which images are held out is decided by the caller.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

STRENGTHS = tuple(10.0**power for power in range(1, -6, -1))
"""Strengths λ of the regulariser that are tried, the strongest first."""
WITHOUT_CHOICE = 1e-2
"""λ where no class has two images, so that none can be held out."""
STEPS = 200
"""Steps of L-BFGS for each λ at the most."""


@dataclass(frozen=True)
class LinearProbe:
    """A linear classifier.

    Attributes:
        weight: [K, D], of features as they are.
        bias: [K].
        strength: λ that was chosen.
        held_out_top1_pct: Its accuracy on the held-out images, in percent; None where there were none.
    """

    weight: Tensor
    bias: Tensor
    strength: float
    held_out_top1_pct: float | None

    def __call__(self, features: Tensor) -> Tensor:
        """Logits [B, K] of features [B, D]."""
        features = features.to(self.weight.device, self.weight.dtype)
        return (features @ self.weight.T + self.bias).float().cpu()


Path = Callable[[Tensor, Tensor, int, Sequence[float]], list[tuple[Tensor, Tensor]]]
"""Fits weight and bias for each strength, of standardised features [N, D] and labels [N] of K classes."""


def fit_probe(
    path: Path, features: Tensor, labels: Tensor, num_classes: int, held_out: Tensor, device: str = 'cpu'
) -> LinearProbe:
    """Fit a linear classifier, in float64.

    Args:
        path: `logistic` or `ridge`.
        features: Features of the training images [N, D].
        labels: Their classes [N].
        num_classes: K.
        held_out: Which images the strength is chosen on [N].
        device: Where it is fitted.
    """
    x, y = features.to(device, torch.float64), labels.to(device)
    mean, std = x.mean(dim=0), x.std(dim=0, correction=0)
    std = torch.where(std > 1e-12 * mean.abs().clamp(min=1.0), std, 1.0)  # What does not vary tells nothing.
    x = (x - mean) / std
    strength, accuracy = WITHOUT_CHOICE, None
    if held_out.any():
        out = held_out.to(device)
        fitted = path(x[~out], y[~out], num_classes, STRENGTHS)
        hits = [((x[out] @ w.T + b).argmax(dim=1) == y[out]).double().mean().item() for w, b in fitted]
        best = max(range(len(hits)), key=lambda place: hits[place])  # The first of equals: the strongest.
        strength, accuracy = STRENGTHS[best], 100 * hits[best]
    weight, bias = path(x, y, num_classes, (strength,))[0]
    weight = weight / std
    return LinearProbe(weight, bias - weight @ mean, strength, accuracy)


def logistic(x: Tensor, labels: Tensor, num_classes: int, strengths: Sequence[float]) -> list[tuple[Tensor, Tensor]]:
    """Minimise ``mean cross entropy + λ/2 ‖W‖²`` by L-BFGS, each λ from the solution of the one before."""
    weight = torch.zeros(num_classes, x.shape[1], dtype=x.dtype, device=x.device, requires_grad=True)
    bias = torch.zeros(num_classes, dtype=x.dtype, device=x.device, requires_grad=True)
    found = []
    for strength in strengths:
        optimizer = torch.optim.LBFGS(
            [weight, bias],
            max_iter=STEPS,
            tolerance_grad=1e-6,
            tolerance_change=1e-12,
            history_size=10,
            line_search_fn='strong_wolfe',
        )

        def closure(optimizer=optimizer, strength=strength) -> Tensor:
            optimizer.zero_grad()
            loss = cross_entropy(x @ weight.T + bias, labels) + strength / 2 * weight.square().sum()
            loss.backward()
            return loss

        with torch.enable_grad():
            optimizer.step(closure)
        found.append((weight.detach().clone(), bias.detach().clone()))
    return found


def ridge(x: Tensor, labels: Tensor, num_classes: int, strengths: Sequence[float]) -> list[tuple[Tensor, Tensor]]:
    """Minimise ``mean ‖W x + b − onehot(y)‖² + λ ‖W‖²`` in closed form, by one decomposition for all λ.

    With centred x and targets, ``W = Yᵀ X (Xᵀ X + N λ I)⁻¹``. The outputs are no logarithms of probabilities: its
    confidences mean nothing.
    """
    targets = one_hot(labels, num_classes).to(x.dtype)
    mean, share = x.mean(dim=0), targets.mean(dim=0)
    centred = x - mean
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(x))
    product = (targets - share).T @ centred / len(x) @ vectors
    found = []
    for strength in strengths:
        weight = product / (values.clamp(min=0) + strength) @ vectors.T
        found.append((weight, share - weight @ mean))
    return found
