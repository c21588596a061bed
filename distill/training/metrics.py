"""Accuracy of a classifier, as a metric of mmengine."""

from collections.abc import Sequence

import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS


@METRICS.register_module()
class TopK(BaseMetric):
    """Share of images whose label is among the k largest logits, in percent.

    Args:
        topk: The values of k; ``top1_pct``, ``top5_pct``, … are reported.
        collect_device: ``cpu`` or ``gpu``.
    """

    def __init__(self, topk: Sequence[int] = (1, 5), collect_device: str = 'cpu'):
        super().__init__(collect_device=collect_device)
        self.topk = topk

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        """Keep for each image and each k whether the label is among the k largest logits."""
        for sample in data_samples:
            ranked = sample['logits'].topk(min(max(self.topk), sample['logits'].shape[1]), dim=1).indices
            hits = ranked.eq(sample['targets'].view(-1, 1)).cpu()
            self.results.extend(torch.stack([hits[:, :k].any(dim=1) for k in self.topk], dim=1).unbind())

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Shares of the images, in percent: ``top1_pct``, ``top5_pct``, …."""
        shares = torch.stack(results).float().mean(dim=0) * 100
        return {f'top{k}_pct': share.item() for k, share in zip(self.topk, shares, strict=True)}
