"""Linear CKA between representations, from minibatches.

``CKA(X, Y) = HSIC(XXᵀ, YYᵀ) / √(HSIC(XXᵀ, XXᵀ) · HSIC(YYᵀ, YYᵀ))``

Sources: Kornblith et al., "Similarity of Neural Network Representations Revisited", ICML 2019, for CKA; Nguyen et
al., "Do Wide and Deep Networks Learn the Same Things?", ICLR 2021, for means of the unbiased HSIC over minibatches,
which do not depend on the batch size; Song et al., "Feature Selection via Dependence Maximization", JMLR 2012, for
that estimator.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

MIN_IMAGES = 4
"""The estimator divides by n (n - 3)."""


def u_centred_gram(features: Tensor) -> Tensor:
    """The U-centred Gram matrix of a linear kernel; the inner product of two of them is the unbiased HSIC.

    With ``K`` the Gram matrix without its diagonal, ``Ã_ij = K_ij - Σ_j K_ij / (n-2) - Σ_i K_ij / (n-2)
    + ΣΣ K / ((n-1)(n-2))`` off the diagonal and 0 on it (Székely and Rizzo, Annals of Statistics 2014); then
    ``HSIC₁(K, L) = ⟨Ã, B̃⟩ / (n (n-3))``.

    Args:
        features: Features [N, …], a row an image; further dimensions are flattened.

    Returns:
        The matrix [N, N] in float64.

    Raises:
        ValueError: There are fewer than four images.
    """
    n = len(features)
    if n < MIN_IMAGES:
        raise ValueError(f'CKA needs at least {MIN_IMAGES} images a batch, found {n}; give more images')
    rows = features.flatten(1).float() if features.dtype != torch.float64 else features.flatten(1)
    rows = rows - rows.mean(dim=0)  # Changes nothing but the rounding.
    gram = (rows @ rows.T).double()
    gram.fill_diagonal_(0)
    sums = gram.sum(dim=0)
    centred = gram - (sums[:, None] + sums[None, :]) / (n - 2) + sums.sum() / ((n - 1) * (n - 2))
    return centred.fill_diagonal_(0)


class MinibatchCKA:
    """CKA between every stage of one model and every stage of another, over any number of batches."""

    def __init__(self):
        self.cross: Tensor | float = 0.0
        self.own_a: Tensor | float = 0.0
        self.own_b: Tensor | float = 0.0

    def add(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> None:
        """Add the representations of a batch of images.

        Args:
            a: Features [N, …] of each stage of the first model.
            b: Features [N, …] of each stage of the second model, of the same images.
        """
        n = len(a[0])
        grams_a, grams_b = (torch.stack([u_centred_gram(stage) for stage in stages]).flatten(1) for stages in (a, b))
        scale = n * (n - 3)
        self.cross = self.cross + grams_a @ grams_b.T / scale
        self.own_a = self.own_a + grams_a.square().sum(dim=1) / scale
        self.own_b = self.own_b + grams_b.square().sum(dim=1) / scale

    def result(self) -> Tensor:
        """CKA [stages of a, stages of b]; NaN where a representation is the same for all images."""
        return self.cross / (self.own_a[:, None] * self.own_b[None, :]).sqrt()


def linear_cka(a: Tensor, b: Tensor) -> float:
    """CKA of two representations of the same images in one batch.

    Args:
        a: Features [N, …], N ≥ 4.
        b: Features [N, …].
    """
    cka = MinibatchCKA()
    cka.add([a], [b])
    return cka.result().item()
