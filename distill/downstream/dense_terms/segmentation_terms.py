"""Terms on the heads of a segmenter: their logits, or the maps in front of the classifier."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.downstream.dense_terms.base import DenseTerm, Network, Pass
from distill.downstream.dense_terms.feature_terms import common_part
from distill.downstream.dense_terms.heads import of_teacher, only_call, over_processes
from distill.losses.dense import NEEDS, DenseLoss, check_dense_loss

ON = ('logits', 'head')


class SegmentationTerm(DenseTerm):
    """A loss of `distill.losses.dense.DENSE_LOSSES` on what segmentation heads make: ``dict(type='cwd', on='logits')``.

    On ``logits`` the outputs of the two classifiers (``conv_seg``) are compared, class by class; the student's with the
    dropout that its head trains with, the teacher's without. On ``head`` the maps in front of the dropout are, with a
    1 × 1 convolution where their widths differ and the loss needs equal ones. Each auxiliary head of the student is
    compared with the teacher's at the same place and counts `auxiliary` times. Where sizes differ, the teacher's map is
    resized to the student's (bilinear, corners as the teacher's head has them).

    ``pixel_kl`` and ``dist`` leave out pixels whose label is the head's ``ignore_index``, the padding among them;
    of the labels, resized to the map, the nearest counts. The other losses see all positions. Differs from public code,
    where every loss sees all.

    Args:
        type: Name of the loss.
        on: ``logits`` or ``head``.
        auxiliary: Factor of the auxiliary heads; 0 leaves them out.
        ignored: Whether ignored pixels count in ``pixel_kl`` and ``dist``.
        per_position: Divide by H·W, for losses that are sums over positions.
        weight: Factor of the term.
        schedule: See `DenseTerm`.
        **options: Options of the loss.

    Attributes:
        heads: Names of the compared heads, the same in both networks.

    Raises:
        ValueError: The loss, an option or a place is unknown, or the loss does not work there.
    """

    def __init__(
        self,
        type: str,
        on: str = 'logits',
        auxiliary: float = 0.4,
        ignored: bool = False,
        per_position: bool = False,
        weight: float = 1.0,
        schedule: Sequence[Sequence[float]] = (),
        **options: Any,
    ):
        super().__init__(type, weight, schedule)
        check_dense_loss(type, per_position, **options)
        if on not in ON:
            raise ValueError(f"loss {type} is on '{on}'; choose from {', '.join(ON)}")
        of_logits = [name for name, needs in NEEDS.items() if needs.adaptor in ('classes', 'widths', 'none')]
        of_maps = [name for name, needs in NEEDS.items() if needs.adaptor != 'classes' and not needs.boxes]
        if type not in (of_logits if on == 'logits' else of_maps):
            fitting = ', '.join(of_logits if on == 'logits' else of_maps)
            raise ValueError(f"loss {type} does not work on='{on}'; choose from {fitting}")
        if auxiliary < 0:
            raise ValueError(f'loss {type} has auxiliary={auxiliary}; give a factor of at least 0')
        self.on, self.auxiliary, self.ignored = on, auxiliary, ignored
        self.needs_classes = on == 'logits'
        self.options = dict(options, per_position=per_position)
        self.heads: list[str] = []
        self.losses = nn.ModuleList()

    def watched(self, student: nn.Module) -> Sequence[str]:
        """The student's classifiers, or the dropouts in front of them."""
        return [self._watched(student, name) for name in self.heads]

    def _watched(self, student: nn.Module, name: str) -> str:
        dropped = self.on == 'head' and student.get_submodule(name).dropout is not None
        return f'{name}.dropout' if dropped else f'{name}.conv_seg'

    def connect(self, student: Network, teacher: Network) -> None:
        """Pair the heads, and make the losses with what they train."""
        mine, its = (_classifiers(network, self.name) for network in (student, teacher))
        self.heads = [name for name in mine if name == 'decode_head' or self.auxiliary]
        for name in self.heads:
            if name not in its:
                raise ValueError(
                    f'loss {self.name} compares auxiliary heads too, and {teacher.name} has no {name}; set auxiliary=0'
                )
            x, y = mine[name], its[name]
            if self.on == 'logits' and x.out_channels != y.out_channels:
                raise ValueError(
                    f'loss {self.name} compares classes, of which the student has {x.out_channels} and the teacher '
                    f"{y.out_channels}; use on='head'"
                )
            if self.on == 'logits' and x.out_channels == 1:
                raise ValueError(
                    f"loss {self.name} compares classes by softmax, and the heads have a single output; use on='head'"
                )
            chs = (x.out_channels, y.out_channels) if self.on == 'logits' else (x.in_channels, y.in_channels)
            self.losses.append(DenseLoss(self.kind, *chs, **self.options))

    def forward(self, student: Pass, teacher: Pass) -> dict[str, Tensor]:
        """A term for each head."""
        losses = {}
        for name, loss in zip(self.heads, self.losses, strict=True):
            call = only_call(student, self._watched(student.detector, name), self.name)
            x = call.output if self.on == 'logits' else call.inputs[0]
            y = self._of_teacher(name, teacher)
            y = common_part(y, student, teacher)
            if y.shape[-2:] != x.shape[-2:]:
                corners = teacher.detector.get_submodule(name).align_corners
                y = F.interpolate(y.float(), x.shape[-2:], mode='bilinear', align_corners=corners)
            keep = self._kept(student, name, x) if NEEDS[self.kind].keep and not self.ignored else None
            factor = 1.0 if name == 'decode_head' else self.auxiliary
            short = name.replace('decode_head', 'decode').replace('auxiliary_head', 'aux').replace('.', '_')
            count = len(x) if keep is None else keep.sum()
            losses[f'loss_{self.kind}_{short}'] = factor * loss(x, y, keep=keep), count
        return over_processes(losses)

    def _of_teacher(self, name: str, teacher: Pass) -> Tensor:
        """The teacher's logits in the student's order of classes, or its maps in front of the classifier."""

        def run() -> tuple[Tensor, Tensor]:
            head, seen = teacher.detector.get_submodule(name), []
            handle = head.conv_seg.register_forward_hook(
                lambda module, inputs, output: seen.append((inputs[0], output))
            )
            try:
                head(teacher.features)
            finally:
                handle.remove()
            return seen[0]

        maps, logits = of_teacher(teacher, name, run)
        if self.on == 'head':
            return maps
        return logits if teacher.places is None else logits[:, teacher.places]

    def _kept(self, student: Pass, name: str, x: Tensor) -> Tensor:
        """Pixels [N, h, w] of a map that have a label."""
        labels = torch.stack([sample.gt_sem_seg.data for sample in student.samples])
        labels = F.interpolate(labels.float(), x.shape[-2:], mode='nearest-exact')[:, 0]
        return labels != student.detector.get_submodule(name).ignore_index


def _classifiers(network: Network, loss: str) -> dict[str, Any]:
    """The classifiers of a segmenter's heads by the heads' names.

    Raises:
        ValueError: The network is no segmenter, or its heads do not end in a classifier of each pixel.
    """
    decode, auxiliary = (getattr(network.detector, name, None) for name in ('decode_head', 'auxiliary_head'))
    heads = {'decode_head': decode}
    if isinstance(auxiliary, nn.ModuleList):
        heads |= {f'auxiliary_head.{i}': head for i, head in enumerate(auxiliary)}
    elif isinstance(auxiliary, nn.Module):
        heads['auxiliary_head'] = auxiliary
    found = {name: getattr(head, 'conv_seg', None) for name, head in heads.items()}
    for name, classifier in found.items():
        if not isinstance(classifier, nn.Conv2d) or not hasattr(heads[name], 'dropout'):
            kind = type(heads[name]).__name__ if heads[name] is not None else 'none'
            raise ValueError(
                f'loss {loss} needs segmentation heads that end in conv_seg, and the {name} of {network.name} is '
                f"{kind}; compare maps with on='backbone' or on='neck' instead"
            )
    return found
