"""Weighted k-nearest-neighbour classification of features."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

NEIGHBOURS, TEMPERATURE = 20, 0.07
"""DINO's values (Caron et al., ICCV 2021), which its successors report too."""
SIMILARITIES = 2**26
"""Similarities that are held at a time."""
LEAST_VOTES = 1e-30
"""In place of no vote, so that a logarithm is finite."""


class NearestNeighbours:
    """Classify features by the labels of the most similar training features.

    Similarity s is the cosine. Each of the k most similar training features votes for its class with exp(s / T), as in
    Wu et al. (CVPR 2018) and DINO. Differs from a count of neighbours: nearer ones count more.

    Args:
        features: Features of the training images [N, D].
        labels: Their classes [N].
        num_classes: K.
        neighbours: k; all where there are fewer images.
        temperature: T.
        device: Where similarities are computed.
    """

    def __init__(
        self,
        features: Tensor,
        labels: Tensor,
        num_classes: int,
        neighbours: int = NEIGHBOURS,
        temperature: float = TEMPERATURE,
        device: str = 'cpu',
    ):
        self.bank, self.labels = normalize(features.float().to(device), dim=1), labels.to(device)
        self.num_classes, self.temperature = num_classes, temperature
        self.neighbours = min(neighbours, len(features))

    def __call__(self, features: Tensor) -> Tensor:
        """Logarithms of the votes [B, K] of features [B, D]; their softmax is each class's share of the votes."""
        portion = max(1, SIMILARITIES // len(self.bank))
        return torch.cat([self._votes(part) for part in features.split(portion)])

    def _votes(self, features: Tensor) -> Tensor:
        similar = normalize(features.float().to(self.bank.device), dim=1) @ self.bank.T
        nearest = similar.topk(self.neighbours, dim=1)
        votes = torch.zeros(len(features), self.num_classes, device=self.bank.device)
        votes.scatter_add_(1, self.labels[nearest.indices], (nearest.values / self.temperature).exp())
        return votes.clamp_(min=LEAST_VOTES).log_().cpu()
