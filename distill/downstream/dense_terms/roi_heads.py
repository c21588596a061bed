"""One view of the second stages of Faster, Mask and Cascade R-CNN."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from distill.downstream.dense_terms.base import Network
from distill.downstream.dense_terms.heads import the_module


@dataclass(frozen=True)
class RoIHeads:
    """The heads of a detector by stage; a detector without a cascade has one stage.

    Attributes:
        roi_head: mmdet's ``roi_head``.
    """

    roi_head: Any

    @classmethod
    def of(cls, detector: nn.Module) -> 'RoIHeads':
        """The heads of a detector that has been checked."""
        return cls(detector.roi_head)

    @classmethod
    def checked(cls, network: Network, loss: str, masks: bool = False) -> 'RoIHeads':
        """The heads of a detector before training.

        Args:
            network: The detector.
            loss: Name of the loss, for messages.
            masks: Whether the masks' heads are needed too.

        Raises:
            ValueError: The detector has no such heads, or they work otherwise than those of a Cascade R-CNN.
        """
        from mmdet.models.roi_heads import CascadeRoIHead, StandardRoIHead
        from mmdet.models.roi_heads.bbox_heads import ConvFCBBoxHead

        heads = cls(the_module(network, 'roi_head', ['StandardRoIHead', 'CascadeRoIHead'], loss))
        kind = type(heads.roi_head)
        plain = kind._bbox_forward in (CascadeRoIHead._bbox_forward, StandardRoIHead._bbox_forward)
        boxes = [heads.head('bbox_head', stage) for stage in range(heads.stages)]
        if not plain or not all(isinstance(head, ConvFCBBoxHead) for head in boxes):
            raise ValueError(
                f'loss {loss} knows the heads of Faster, Mask and Cascade R-CNN, and {network.name} has a '
                f'{kind.__name__} with a {type(boxes[0]).__name__}; compare its maps instead, for example '
                "dict(type='pkd', on='neck')"
            )
        if any(head.custom_cls_channels or head.loss_cls.use_sigmoid for head in boxes):
            raise ValueError(
                f'loss {loss} compares classes by softmax, and the box head of {network.name} does otherwise; '
                "set classes' loss_cls to CrossEntropyLoss or compare maps instead"
            )
        if masks:
            if not getattr(heads.roi_head, 'with_mask', False):
                raise ValueError(f'loss {loss} compares masks, and {network.name} has none; set masks=0')
            if heads.roi_head.share_roi_extractor:
                raise ValueError(
                    f'loss {loss} compares masks, whose RoI extractor {network.name} shares with the boxes; '
                    'give it a mask_roi_extractor or set masks=0'
                )
            if not all(type(heads.head('mask_head', s)).__name__ == 'FCNMaskHead' for s in range(heads.stages)):
                raise ValueError(f'loss {loss} compares masks of an FCNMaskHead; set masks=0 for {network.name}')
        return heads

    @property
    def cascade(self) -> bool:
        """Whether there is a head for each of several stages."""
        return isinstance(self.roi_head.bbox_head, nn.ModuleList)

    @property
    def stages(self) -> int:
        """Number of stages."""
        return len(self.roi_head.bbox_head) if self.cascade else 1

    def head(self, part: str, stage: int) -> Any:
        """A module of a stage, such as ``bbox_head``."""
        found = getattr(self.roi_head, part)
        return found[stage] if self.cascade else found

    def name(self, part: str, stage: int) -> str:
        """Name of such a module in the detector."""
        return f'roi_head.{part}.{stage}' if self.cascade else f'roi_head.{part}'

    def strides(self, stage: int) -> list[int]:
        """Strides of the maps that the box head of a stage reads, in its order."""
        return [int(stride) for stride in self.head('bbox_roi_extractor', stage).featmap_strides]

    def forward(self, part: str, stage: int, maps: Any, rois: Tensor) -> dict[str, Tensor]:
        """What a head says about proposals.

        Args:
            part: ``bbox`` or ``mask``.
            stage: Stage.
            maps: Maps, finest first.
            rois: Proposals [R, 5].

        Returns:
            mmdet's dictionary, with ``cls_score`` and ``bbox_pred`` or ``mask_preds``.
        """
        function = getattr(self.roi_head, f'_{part}_forward')
        return function(stage, maps, rois) if self.cascade else function(maps, rois)

    def common_stages(self, teacher: 'RoIHeads', asked: Sequence[int], loss: str) -> tuple[int, ...]:
        """The stages that are compared.

        Args:
            teacher: The teacher's heads; these are the student's.
            asked: Stages of the config; empty for all.
            loss: Name of the loss, for the message.

        Raises:
            ValueError: One of the two does not have a stage.
        """
        stages = tuple(asked) or tuple(range(self.stages))
        both = min(self.stages, teacher.stages)
        if wrong := [stage for stage in stages if stage not in range(both)]:
            raise ValueError(
                f'loss {loss} compares stage {wrong[0]}; the student has {self.stages} of them and the teacher '
                f'{teacher.stages}, so set stages to some of {", ".join(map(str, range(both)))}'
            )
        return stages


def in_order(scores: Tensor, deltas: Tensor, places: Tensor | None) -> tuple[Tensor, Tensor]:
    """The teacher's classes in the student's order.

    Args:
        scores: Logits [R, K + 1], background last.
        deltas: Deltas [R, 4 K] or [R, 4].
        places: Place of each of the student's classes [K]; None where the order is the same.

    Returns:
        Logits and deltas of the same shapes.
    """
    if places is None:
        return scores, deltas
    places = places.to(scores.device)
    scores = torch.cat([scores[:, places], scores[:, -1:]], dim=1)
    if deltas.shape[1] > 4:
        deltas = deltas.unflatten(1, (-1, 4))[:, places].flatten(1)
    return scores, deltas
