"""The learning rate as timm schedules it, for mmengine."""

import math

from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler
from mmengine.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class TimmCosineLR(LRSchedulerMixin, _ParamScheduler):
    """A linear warm-up and then half a cosine, as in timm's `CosineLRScheduler`.

    Differs from mmengine's `LinearLR` and `CosineAnnealingLR` in a row: the rates at both ends are absolute, so that
    ``--auto-scale-lr`` scales neither, and may be 0.

    Args:
        optimizer: The optimizer or its wrapper.
        end: Length of the whole schedule, in epochs unless ``by_epoch=False``. With ``convert_to_iter_based`` the
            rate changes after each step.
        warmup: Length of the warm-up.
        warmup_lr: Rate at the start.
        lr_min: Rate at the end.
        warmup_prefix: Start the cosine after the warm-up. Otherwise the warm-up takes the place of its first part.
    """

    def __init__(
        self,
        optimizer,
        *args,
        end: int,
        warmup: int = 0,
        warmup_lr: float = 0.0,
        lr_min: float = 0.0,
        warmup_prefix: bool = False,
        **kwargs,
    ):
        self.warmup, self.warmup_lr, self.lr_min = warmup, warmup_lr, lr_min
        self.offset = warmup if warmup_prefix else 0
        super().__init__(optimizer, *args, end=end, **kwargs)

    @classmethod
    def build_iter_from_epoch(cls, *args, end: int, epoch_length: int, warmup: int = 0, **kwargs):
        """Build the schedule in steps from lengths in epochs.

        Args:
            end: Length of the whole schedule in epochs.
            epoch_length: Steps of an epoch.
            warmup: Length of the warm-up in epochs.
        """
        kwargs['by_epoch'] = False
        return cls(*args, end=end * epoch_length, warmup=warmup * epoch_length, **kwargs)

    def _get_value(self) -> list[float]:
        step = self.last_step
        if step < self.warmup:
            return [self.warmup_lr + (base - self.warmup_lr) * step / self.warmup for base in self.base_values]
        share = (1 + math.cos(math.pi * (step - self.offset) / (self.end - self.offset))) / 2
        return [self.lr_min + (base - self.lr_min) * share for base in self.base_values]
