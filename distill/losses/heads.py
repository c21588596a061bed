"""Heads that map the student's features to a teacher's. They are trained beside the student and thrown away."""

from torch import Tensor, nn

HEADS = ('linear', 'mlp', 'none')
"""Kinds of heads: a linear map, a multilayer perceptron, and the student's features themselves."""


def build_head(kind: str, in_chs: int, out_chs: int, hidden_chs: int | None = None) -> nn.Module:
    """Build a head, which acts on the last axis of [..., in_chs].

    The perceptron is that of Ranzinger et al., "AM-RADIO", CVPR 2024: linear, LayerNorm, GELU, linear.

    Args:
        kind: One of ``HEADS``.
        in_chs: Width of the student's features.
        out_chs: Width of the teacher's.
        hidden_chs: Width within the perceptron; None for twice the teacher's.

    Raises:
        ValueError: The kind is unknown.
    """
    if kind == 'linear':
        return nn.Linear(in_chs, out_chs)
    if kind == 'mlp':
        hidden = hidden_chs or 2 * out_chs
        return nn.Sequential(nn.Linear(in_chs, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Linear(hidden, out_chs))
    if kind == 'none':
        return nn.Identity()
    raise ValueError(f"head '{kind}' is unknown; choose from {', '.join(HEADS)}")


def on_last_axis(x: Tensor) -> Tensor:
    """A map [B, C, H, W] as [B, H, W, C]; without a copy if it is stored in that order."""
    return x.permute(0, 2, 3, 1)
