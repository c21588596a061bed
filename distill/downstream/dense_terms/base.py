"""What a term of a dense distillation is, and what it is given: a network before training, and its run over a batch."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Level:
    """A feature map of a network, as it is known before training.

    Attributes:
        stride: Pixels of the batch to a position.
        channels: Width of the map.
    """

    stride: int
    channels: int


@dataclass
class Network:
    """One of the two networks, before training.

    Attributes:
        role: ``student`` or ``teacher``, for messages.
        detector: The detector or segmenter, on the CPU. A teacher's has no gradients and is in eval mode.
        stages: The maps of the backbone, in its order.
        levels: The maps of the neck, by stride; empty for a network without a neck.
        neck_strides: The stride of each map of the neck, in its order.
    """

    role: str
    detector: Any
    stages: list[Level] = field(default_factory=list)
    levels: dict[int, Level] = field(default_factory=dict)
    neck_strides: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What messages call the network: ``the teacher (FasterRCNN)``."""
        return f'the {self.role} ({type(self.detector).__name__})'


@dataclass(frozen=True)
class Call:
    """A call of a module inside a detector.

    Attributes:
        inputs: The positional arguments.
        output: What the module has returned.
    """

    inputs: tuple
    output: Any


@dataclass
class Pass:
    """One network's run over one batch.

    Attributes:
        detector: The detector or segmenter. The teacher's is in eval mode, and none of its parameters has a gradient;
            a term may still send gradients *through* its heads to the student's maps.
        inputs: The batch [N, 3, H, W] as this network sees it: normalised and padded by its own preprocessor. The
            teacher's may be larger than the student's, at the right and at the bottom.
        samples: The data samples, whose ``batch_input_shape`` is (H, W) of ``inputs``. Boxes are in its pixels.
        features: What ``detector.extract_feat(inputs)`` has returned, for the heads.
        stages: Maps [N, C, h, w] of the backbone by their place, from 0.
        levels: Maps of the neck by their stride; empty for a network without a neck.
        calls: For each module that the terms watch (`DenseTerm.watched`) its calls in this run, in order. Only the
            student's heads run by themselves; of the teacher a term calls what it needs.
        places: Of the teacher: for each class of the student its place [K] among the teacher's classes, where the
            terms need classes (`DenseTerm.needs_classes`); None where the order is the same.
    """

    detector: Any
    inputs: Tensor
    samples: list
    features: Any = None
    stages: dict[int, Tensor] = field(default_factory=dict)
    levels: dict[int, Tensor] = field(default_factory=dict)
    calls: dict[str, list[Call]] = field(default_factory=dict)
    places: Tensor | None = None

    @property
    def batch_shape(self) -> tuple[int, int]:
        """Height and width of the padded batch, which the maps cover."""
        return self.inputs.shape[-2], self.inputs.shape[-1]


class DenseTerm(nn.Module):
    """A term of a weighted sum: ``dict(type=…, weight=1.0, schedule=((0, 0.0), (500, 1.0)))``.

    What it trains (1 × 1 convolutions between widths, say) is trained with the student and stays out of its file.

    Args:
        type: Name of the loss in the config.
        weight: Factor of the term.
        schedule: Points (iteration, factor) between which the weight's factor is linear; it is constant before the
            first and after the last. ``((0, 0.0), (500, 1.0))`` warms up, ``((60000, 1.0), (90000, 0.0))`` fades out.
            The iteration counts from 0, over the whole run. Empty for a constant weight. A term whose weight is 0 is
            not computed, and where all are 0 the teacher does not run.

    Attributes:
        kind: Name of the loss.
        name: The same with a number where several terms have one loss: ``pkd``, ``pkd_2``, ….
        needs_classes: Whether the term compares the two networks class by class, so that these must have the same
            names.

    Raises:
        ValueError: The weight is no number, or the schedule's points are none or out of order.
    """

    needs_classes = False

    def __init__(self, type: str, weight: float = 1.0, schedule: Sequence[Sequence[float]] = ()):
        super().__init__()
        if not _is_number(weight):
            raise ValueError(f'loss {type} has the weight {weight!r}; give a number')
        points = [tuple(point) if isinstance(point, Sequence) else (point,) for point in schedule]
        if not all(len(point) == 2 and all(map(_is_number, point)) for point in points):
            raise ValueError(
                f'loss {type} has the schedule {schedule!r}; give pairs of iteration and factor, such as '
                '((0, 0.0), (500, 1.0))'
            )
        iterations = [point[0] for point in points]
        if sorted(set(iterations)) != iterations:
            raise ValueError(f"loss {type}'s schedule has the iterations {iterations}; give each once, in order")
        self.kind = self.name = type
        self.full_weight, self.schedule = float(weight), points

    def weight(self, step: int) -> float:
        """The factor of the term at an iteration of the run, from 0."""
        points = self.schedule
        if not points:
            return self.full_weight
        for (start, low), (end, high) in itertools.pairwise(points):
            if start <= step < end:
                return self.full_weight * (low + (high - low) * (step - start) / (end - start))
        return self.full_weight * (points[0][1] if step < points[0][0] else points[-1][1])

    def watched(self, student: nn.Module) -> Sequence[str]:
        """Names of the student's modules whose calls the term wants to see in `Pass.calls`.

        Args:
            student: The detector or segmenter.
        """
        return ()

    def connect(self, student: Network, teacher: Network) -> None:
        """Check that both networks give what the term compares, and make what it trains. Called once, before training.

        Raises:
            ValueError: One of them does not; the message is one line, with the way out.
        """
        raise NotImplementedError

    def forward(self, student: Pass, teacher: Pass) -> dict[str, Tensor]:
        """The terms without the weight, outside autocast.

        Args:
            student: The student's run, with gradients.
            teacher: The teacher's, without.

        Returns:
            Scalars by name. mmengine adds up what has ``loss`` in its name; other names are logged.
        """
        raise NotImplementedError


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
