"""Parameter groups as timm makes them, for mmengine."""

import inspect

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from timm.optim import param_groups_weight_decay
from torch import nn

from distill.base.processes import unwrap


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class TimmOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Make two parameter groups: one with weight decay; one without, of norms, biases and the model's exceptions.

    mmengine's own constructor makes one group a parameter, each of which the optimizer updates apart, and knows no
    exceptions: timm's transformers except position embeddings and tokens, by ``no_weight_decay()``. An optimizer that
    can update a group in one call (``fused``) does so unless the config says otherwise.
    """

    def __call__(self, model: nn.Module):
        """Build the optimizer wrapper of a model.

        Raises:
            ValueError: There is no optimizer of that name, or weight decay is negative.
        """
        model = unwrap(model)
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
        if decay < 0:
            raise ValueError(f'optim_wrapper.optimizer.weight_decay is {decay}; give 0 or more')
        config['params'] = param_groups_weight_decay(model, decay, no_weight_decay_list=excepted)
        wrapper = self.optim_wrapper_cfg.copy()
        wrapper.setdefault('type', 'OptimWrapper')
        return OPTIM_WRAPPERS.build(wrapper, default_args=dict(optimizer=OPTIMIZERS.build(config)))
