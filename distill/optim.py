"""timm's way to group parameters and to schedule the learning rate, for mmengine."""

import inspect
import math

from mmengine.model import is_model_wrapper
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS, PARAM_SCHEDULERS
from timm.optim import param_groups_weight_decay
from torch import nn


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class TimmOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Two parameter groups: with weight decay, and without for norms, biases and what the model itself excepts.

    mmengine's own constructor makes one group a parameter, each of which the optimizer updates apart. Differs from
    it also in what a model says by ``no_weight_decay()``: timm's transformers except position embeddings and tokens.
    Optimizers that can update a group in one call (``fused``) do, unless the config says otherwise.
    """

    def __call__(self, model: nn.Module):
        """Build the optimizer wrapper of a model.

        Raises:
            ValueError: There is no optimizer of that name.
        """
        model = model.module if is_model_wrapper(model) else model
        excepted = {
            f'{prefix}.{name}' if prefix else name
            for prefix, module in model.named_modules()
            if hasattr(module, 'no_weight_decay')
            for name in module.no_weight_decay()
        }
        config = self.optimizer_cfg.copy()
        kind = OPTIMIZERS.get(config['type']) if isinstance(config['type'], str) else config['type']
        if kind is None:
            names = ', '.join(sorted(OPTIMIZERS.module_dict))
            raise ValueError(f"optimizer '{config['type']}' is unknown; choose from {names}")
        # torch has three ways to update, and takes one at a time.
        if 'fused' in inspect.signature(kind).parameters and not {'foreach', 'differentiable'} & set(config):
            config.setdefault('fused', True)
        decay = config.pop('weight_decay', 0.0)
        config['params'] = param_groups_weight_decay(model, decay, no_weight_decay_list=excepted)
        wrapper = self.optim_wrapper_cfg.copy()
        wrapper.setdefault('type', 'OptimWrapper')
        return OPTIM_WRAPPERS.build(wrapper, default_args=dict(optimizer=OPTIMIZERS.build(config)))


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
        warmup_prefix: Start the cosine after the warm-up. Otherwise its first part is cut off by the warm-up.
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
        """Build the schedule by steps that is given in epochs."""
        kwargs['by_epoch'] = False
        return cls(*args, end=end * epoch_length, warmup=warmup * epoch_length, **kwargs)

    def _get_value(self) -> list[float]:
        step = self.last_step
        if step < self.warmup:
            return [self.warmup_lr + (base - self.warmup_lr) * step / self.warmup for base in self.base_values]
        share = (1 + math.cos(math.pi * (step - self.offset) / (self.end - self.offset))) / 2
        return [self.lr_min + (base - self.lr_min) * share for base in self.base_values]
