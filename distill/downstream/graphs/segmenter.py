"""A segmenter as a graph that can be exported: from an image to the label of each pixel."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.downstream.graphs.preprocess import Preprocess

LARGEST = 1 << 16
"""Sides of an image, in pixels, are below."""


class SegmenterGraph(nn.Module):
    """mmseg's `EncoderDecoder` in test mode 'whole', with its preprocessing and its postprocessing.

    Args:
        network: The segmenter in eval mode, see `check_segmenter`.
        preprocess: Its preprocessing.
    """

    outputs = ('labels',)

    def __init__(self, network: Any, preprocess: Preprocess):
        super().__init__()
        check_segmenter(network)
        self.network, self.preprocess = network, preprocess

    def forward(self, images: Tensor, size: Tensor) -> Tensor:
        """Label each pixel.

        Args:
            images: [B, 3, H, W] as `Preprocess` takes them, resized as the network wants them.
            size: Height H' and width W' in pixels of the images before they were resized, int64 [2].

        Returns:
            Labels [B, H', W'], uint8, or int64 where there are more than 256 classes.
        """
        height, width = images.shape[-2:]
        seen = self.preprocess(images)
        logits = self.network.decode_head(self.network.extract_feat(seen))
        # Twice, as mmseg does: to what the network sees, and, without what was added there, to the image.
        logits = self._resize(logits, *seen.shape[-2:])[:, :, :height, :width]
        sides = size.tolist()
        for side in sides:
            torch._check(side >= 1)
            torch._check(side < LARGEST)
        logits = self._resize(logits, *sides)
        if logits.shape[1] == 1:
            return (logits[:, 0].sigmoid() > self.network.decode_head.threshold).to(torch.uint8)
        labels = logits.argmax(1)
        return labels.to(torch.uint8) if logits.shape[1] <= 256 else labels

    def _resize(self, logits: Tensor, height: int, width: int) -> Tensor:
        return F.interpolate(logits, (height, width), mode='bilinear', align_corners=self.network.align_corners)


def check_segmenter(network: Any) -> None:
    """Check that a segmenter is one that `SegmenterGraph` computes as mmseg does.

    Raises:
        ValueError: It is none; the message says what differs.
    """
    kind = type(network).__name__
    if kind != 'EncoderDecoder':
        raise ValueError(f'a {kind} cannot be exported; choose an EncoderDecoder')
    if (mode := network.test_cfg.get('mode', 'whole')) != 'whole':
        raise ValueError(
            f"the segmenter is tested in mode '{mode}', which cannot be exported; set model.test_cfg.mode to 'whole'"
        )
