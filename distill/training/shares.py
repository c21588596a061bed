"""Which images of a batch each of several teachers is shown."""

from collections.abc import Mapping

import torch
from torch import Tensor


class Shares:
    """Deal a batch out among teachers that are shown a part of it.

    The images of a batch are put in an order that follows from their keys (image and view) alone. A teacher with a
    share below 1 takes the next ones in that order, as many as its share, rounded, and one at least; after the last
    image the first one follows. So shares that sum to 1 part a batch, the size of the parts is the same in each step,
    and a resumed run deals as one that was never stopped. In another epoch an image has another view, and may go to
    another teacher.

    Args:
        shares: By the names of the teachers.

    Raises:
        ValueError: A share is not above 0, or above 1.
    """

    def __init__(self, shares: Mapping[str, float]):
        for name, share in shares.items():
            if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
                raise ValueError(f"teacher '{name}' has the share {share!r} of each batch; give a number in (0, 1]")
        self.shares = dict(shares)

    def places(self, keys: Tensor | None, count: int) -> list[Tensor | None]:
        """The places of each teacher's images in a batch, in increasing order; None for all of them.

        Args:
            keys: Index and view of each image [B, 2].
            count: Number B of images.

        Raises:
            ValueError: A teacher is shown a part, and the images have no keys.
        """
        partial = [name for name, share in self.shares.items() if share < 1]
        if not partial:
            return [None] * len(self.shares)
        if keys is None:
            raise ValueError(f"teacher '{partial[0]}' is shown a part of each batch, by keys, and the images have none")
        order = _scrambled(keys.cpu()).argsort(stable=True)
        places, start = [], 0.0
        for share in self.shares.values():
            if share == 1:
                places.append(None)
                continue
            first = round(start * count)
            size = max(1, round((start + share) * count) - first)
            places.append(order[torch.arange(first, first + size) % count].sort().values)
            start += share
        return places


def _scrambled(keys: Tensor) -> Tensor:
    """Numbers [B] that look random and follow from pairs of numbers [B, 2], by the finaliser of MurmurHash3."""
    mask = 0xFFFFFFFF

    def mixed(x: Tensor) -> Tensor:
        for factor, shift in ((0x85EBCA6B, 16), (0xC2B2AE35, 13)):
            x = (x ^ (x >> shift)) & mask
            # Of the product 32 bits are kept, which 64 hold if one factor is taken in halves.
            x = (x * (factor & 0xFFFF) + (((x * (factor >> 16)) & 0xFFFF) << 16)) & mask
        return x ^ (x >> 16)

    return mixed(mixed(keys[:, 0] & mask) + (keys[:, 1] & mask) * 0x9E3779B1 & mask)
