"""Anchors of two heads: which levels have the same, and their predictions as rows."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from distill.downstream.dense_terms.base import Network


def same_anchors(
    heads: Sequence[Any], networks: Sequence[Network], asked: Sequence[int], loss: str
) -> list[tuple[int, int]]:
    """Pair the levels of two heads by stride, and compare their anchors.

    Args:
        heads: The student's and the teacher's head, each with mmdet's ``prior_generator``.
        networks: The student and the teacher.
        asked: Strides of the levels; empty for all that both have.
        loss: Name of the loss, for messages.

    Returns:
        Of each pair the place of the student's level and that of the teacher's.

    Raises:
        ValueError: A stride is missing, or anchors differ.
    """
    places = [{int(stride[0]): i for i, stride in enumerate(head.prior_generator.strides)} for head in heads]
    strides = list(asked) or [stride for stride in places[0] if stride in places[1]]
    for network, found in zip(networks, places, strict=True):
        missing = [stride for stride in strides if stride not in found]
        if missing or not strides:
            raise ValueError(
                f'loss {loss} compares anchors of stride {missing[0] if missing else "4, 8, …"}, which {network.name} '
                f'does not have: its strides are {", ".join(map(str, found))}; set strides'
            )
    pairs = [(places[0][stride], places[1][stride]) for stride in strides]
    for stride, pair in zip(strides, pairs, strict=True):
        own, its = (h.prior_generator.base_anchors[i].cpu() for h, i in zip(heads, pair, strict=True))
        if own.shape != its.shape or not torch.allclose(own, its, atol=1e-3):
            raise ValueError(
                f'loss {loss} needs the same anchors in both networks, and those of stride {stride} differ: {len(own)} '
                f"of the student and {len(its)} of the teacher; give the student the teacher's anchor_generator"
            )
    return pairs


def rows_of_anchors(x: Tensor, size: int) -> Tensor:
    """A map [N, A · size, h, w] as a row for each anchor [N · h · w · A, size], in mmdet's order of anchors."""
    return x.float().permute(0, 2, 3, 1).reshape(-1, size)
