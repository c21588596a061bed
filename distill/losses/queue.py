"""A queue of a teacher's embeddings, which are the pseudo-classes of `distill.losses.embeddings.pseudo_classes`."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.base.processes import gather_rows


class EmbeddingQueue(nn.Module):
    """The newest embeddings of a teacher, each with a norm of 1.

    It begins with zeros, as lightly-train's does. The embeddings of all processes enter, so that all hold the same
    queue. It is in the checkpoint, so that a resumed run has the pseudo-classes that it had.

    Args:
        length: Number N of embeddings that are kept.
        chs: Their width D.
    """

    rows: Tensor

    def __init__(self, length: int, chs: int):
        super().__init__()
        self.register_buffer('rows', torch.zeros(length, chs))

    @torch.no_grad()
    def forward(self, y: Tensor) -> Tensor:
        """The queue with a batch at its front; in training the batch stays there.

        Args:
            y: Teacher's embeddings of this process [B, D], of any norm.

        Returns:
            The newest N embeddings [N, D], or those of the batch where they are more.
        """
        new, length = F.normalize(y, dim=-1), len(self.rows)
        new = gather_rows(new) if self.training else new
        rows = torch.cat([new, self.rows])[: max(length, len(new))]
        if self.training:
            self.rows.copy_(rows[:length])
        return rows
