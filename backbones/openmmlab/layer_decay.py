"""Layer-wise learning-rate decay for any timm model: the closer a layer is to the image, the slower it learns.

Sources: Bao et al., "BEiT" (ICLR 2022) and Liu et al., "A ConvNet for the 2020s" (CVPR 2022) for detection and
segmentation. mmdet and mmseg have layer decay for their own ConvNeXt and BEiT; here timm's models name their layers.
"""

from collections import defaultdict
from fnmatch import fnmatch

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from backbones.openmmlab.timm_backbone import TimmBackbone

__all__ = ['LayerDecayOptimWrapperConstructor']


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Gives layer i of a ``TimmBackbone``'s n layers the learning rate lr × layer_decay ** (n - 1 - i).

    The ``group_matcher`` of the model numbers the layers; the stem is layer 0. Neck and heads are layer n - 1 and learn
    at the full rate. Weight decay spares norms, biases, all other vectors, and the parameters that the model names in
    ``no_weight_decay`` (position embeddings). Scales and weight decay are those of timm's ``param_groups_layer_decay``.
    The groups are logged.

    Args:
        optim_wrapper_cfg: mmengine's config of an optimizer wrapper, whose optimizer has an ``lr``.
        paramwise_cfg: ``dict(layer_decay=0.7)``; 1 leaves all rates alone.

    Raises:
        ValueError: ``layer_decay`` is missing, beside other settings or not in (0, 1], there is no ``lr``, or (when
            called) the model has no ``TimmBackbone``.
    """

    def _validate_cfg(self) -> None:
        decay = self.paramwise_cfg.get('layer_decay')
        if len(self.paramwise_cfg) != 1 or not isinstance(decay, (int, float)) or not 0 < decay <= 1:
            raise ValueError(
                f'paramwise_cfg is {dict(self.paramwise_cfg)} but must be dict(layer_decay=…) alone, with a number '
                'above 0 and at most 1; add _delete_=True to drop inherited settings'
            )
        if self.base_lr is None:
            raise ValueError('layer decay needs a learning rate to scale; add lr to the optimizer')

    def add_params(self, params: list[dict], module: nn.Module, **kwargs) -> None:
        """Sort a model's trainable parameters into groups and add these, stem first, to ``params``."""
        backbone, prefix = _find_backbone(module)
        spared = {f'{prefix}net.{name}' for name in getattr(backbone.net, 'no_weight_decay', set)()}
        groups = defaultdict(list)
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                has_decay = parameter.ndim > 1 and not any(fnmatch(name, pattern) for pattern in spared)
                groups[self._scale(name, backbone, prefix), has_decay].append(parameter)
        lines = ['parameter groups: learning rate, weight decay, tensors, parameters']
        for (scale, has_decay), members in sorted(groups.items(), key=lambda item: item[0]):
            group = {'params': members, 'lr': self.base_lr * scale}
            if self.base_wd is not None:
                group['weight_decay'] = self.base_wd * has_decay
            params.append(group)
            size = sum(parameter.numel() for parameter in members)
            lines.append(f'lr × {scale:.4g}, {group.get("weight_decay", 0):g}, {len(members)}, {size:,}')
        print_log('\n'.join(lines), logger='current')

    def _scale(self, name: str, backbone: TimmBackbone, prefix: str) -> float:
        if not name.startswith(prefix):
            return 1.0
        layer, num_layers = backbone.get_layer_depth(name, prefix)
        return self.paramwise_cfg['layer_decay'] ** (num_layers - 1 - layer)


def _find_backbone(model: nn.Module) -> tuple[TimmBackbone, str]:
    """The backbone of a model, and the prefix of its parameters' names in the model."""
    for name, module in model.named_modules():
        if isinstance(module, TimmBackbone):
            return module, f'{name}.' if name else ''
    raise ValueError(
        f'layer decay needs a TimmBackbone and {type(model).__name__} has none; use TimmBackbone or another constructor'
    )
