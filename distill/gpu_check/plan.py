"""The parts of the check, and what each may take. Without heavy imports, for the command line."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """A part of the check: a module of this package of the same name.

    Attributes:
        share: Its part of the whole time.
        summary: What it tells.
        alone: Whether it measures speed, so that nothing may run beside it.
    """

    share: float
    summary: str
    alone: bool = False


PARTS = {
    'contract': Part(0.19, 'a member of each family: forward, backward, fp32, bf16, channels_last'),
    'operators': Part(0.10, "the stand-ins for mmcv's compiled operators, forward and backward"),
    'distillation': Part(0.30, 'a student: mixed precision, resume, cache, EMA, compile'),
    'detector': Part(0.25, 'Cascade R-CNN: mixed precision, resume, detections'),
    'segmenter': Part(0.25, 'DeepLabV3: mixed precision, resume, label maps'),
    'processes': Part(0.20, 'two processes on one card by gloo, one by NCCL'),
    'robustness': Part(0.15, 'the judge: corrupted images, predicted on the card and on the CPU'),
    'kernels': Part(0.22, "wide depthwise convolutions against torch's", alone=True),
    'speed': Part(0.45, "a distillation step against timm's, the four designs, loading, inference", alone=True),
}
"""By name, in the order in which they begin. Parts that run beside one another share the time."""
