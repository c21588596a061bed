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
    'distillation': Part(0.32, 'a student: mixed precision, resume, cache, EMA, compile'),
    'contract': Part(0.24, "a member of each of this project's families: fp32, bf16, channels_last"),
    'contract_timm': Part(0.20, "the same of timm's families"),
    'layers': Part(0.05, 'single layers in all mixtures of memory formats'),
    'detector': Part(0.25, 'Cascade R-CNN: mixed precision, resume, detections'),
    'segmenter': Part(0.20, 'DeepLabV3: mixed precision, resume, label maps'),
    'features': Part(0.20, "a student of a teacher's features: mixed precision, resume, cache, codec"),
    'dense': Part(0.20, 'a detector and a segmenter that learn from teachers: mixed precision, terms'),
    'processes': Part(0.20, 'two processes on one card by gloo, one by NCCL'),
    'robustness': Part(0.12, 'the judge: corrupted images, predicted on the card and on the CPU'),
    'operators': Part(0.10, "the stand-ins for mmcv's compiled operators, forward and backward"),
    'kernels': Part(0.22, "wide depthwise convolutions against torch's", alone=True),
    'speed': Part(0.40, "a distillation step against timm's, the four designs", alone=True),
    'supply': Part(0.20, 'loading and decoding, inference, the largest batch', alone=True),
}
"""By name, in the order in which they begin. Parts that run beside one another share the time."""
ON_CPU = (
    'layers',
    'operators',
    'kernels',
    'contract',
    'contract_timm',
    'speed',
    'robustness',
    'features',
    'segmenter',
    'dense',
    'distillation',
    'detector',
    'processes',
    'supply',
)
"""The order on a CPU, which checks the logic alone: what takes least comes first, so that a minute reaches the most."""
