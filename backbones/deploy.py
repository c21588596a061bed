"""From a trained Robust-ResNet to its plain inference form, which is built like any other model and then filled.

    plain = deploy(student)                    # `robust_resnet_dw_small_rep` -> `robust_resnet_dw_small`
    fastest = deploy(student, fold_norms=True) # the same without a norm in it

Parallel depthwise branches become one kernel and a layer scale goes into the layer before it. The plain model has the
keys and the code of its name; in eval mode its outputs are those of the trained one, up to rounding.
"""

import itertools
from collections.abc import Iterator

import timm
import torch
from torch import nn

from backbones.checkpoint import load_all
from backbones.layers.reparam import fold_norm, identity_kernel, scale_output, sum_parallel
from backbones.robust_resnet.blocks import RobustBlock
from backbones.robust_resnet.rep_depthwise import RepDepthwise
from backbones.robust_resnet.robust_resnet import RobustResNet

TRAINING_ONLY = ('small_kernel_size', 'layer_scale_init_value', 'drop_rate', 'drop_path_rate')


def plain_arguments(name: str, model_kwargs: dict) -> tuple[str, dict]:
    """Name and arguments of the plain model of a trained one, for `timm.create_model`."""
    kwargs = {k: v for k, v in model_kwargs.items() if k not in TRAINING_ONLY}
    return name.removesuffix('_rep'), kwargs


@torch.no_grad()
def deploy(model: RobustResNet, fold_norms: bool = False, **model_kwargs) -> RobustResNet:
    """Build the plain form of a trained model and give it the trained one's weights.

    Args:
        model: Trained model, which stays as it is.
        fold_norms: Also fold every norm into the convolution before it. The keys are then no longer those of released
            checkpoints: export such a model, keep the other.
        **model_kwargs: The arguments that the model was created with, but for its name and number of classes.

    Returns:
        The plain model in eval mode, on the device and in the type of the trained one.

    Raises:
        ValueError: The model is of another kind, the arguments are not its own, or a norm to fold is no batch norm.
    """
    if not isinstance(model, RobustResNet):
        raise ValueError(f'{type(model).__name__} has no plain form; give a RobustResNet')
    name, kwargs = plain_arguments(model.pretrained_cfg['architecture'], model_kwargs)
    kwargs['num_classes'] = model.num_classes
    if fold_norms:
        kwargs['norm_layer'] = nn.Identity
    weights = plain_weights(model, fold_norms)
    like = next(model.parameters())
    plain = timm.create_model(name, **kwargs).to(like.device, like.dtype).eval()
    load_all(plain, weights, 'the trained model', f'{name} with these arguments')
    return plain


def plain_weights(model: nn.Module, fold_norms: bool = False) -> dict[str, torch.Tensor]:
    """The state dict of a model's plain form (see `deploy`)."""
    weights = dict(model.state_dict())
    for name, module in model.named_modules():
        if isinstance(module, RepDepthwise):
            _drop(weights, name)
            weights[f'{name}.weight'], weights[f'{name}.bias'] = merge_branches(module)
    if fold_norms:
        for conv, norm, layer in _norms_after_convolutions(model):
            if not isinstance(layer, nn.modules.batchnorm._BatchNorm):
                raise ValueError(f"norm '{norm}' is a {type(layer).__name__}; only a batch norm can be folded")
            weights[f'{conv}.weight'], weights[f'{conv}.bias'] = fold_norm(
                weights[f'{conv}.weight'], weights[f'{conv}.bias'], layer
            )
            _drop(weights, norm)
    for name, module in model.named_modules():
        if isinstance(module, RobustBlock) and module.gamma is not None:
            _fold_layer_scale(weights, name, module)
    return weights


def merge_branches(module: RepDepthwise) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of the one depthwise convolution that the branches add up to."""
    branches = [
        fold_norm(module.large.weight, None, module.large_norm),
        fold_norm(module.small.weight, None, module.small_norm),
    ]
    if module.identity_norm is not None:
        branches.append(fold_norm(identity_kernel(module.large.weight), None, module.identity_norm))
    return sum_parallel(branches)


def _fold_layer_scale(weights: dict[str, torch.Tensor], name: str, block: RobustBlock) -> None:
    conv, norm = block.path[-1]
    # A norm's weight and bias are scaled as a convolution's are: its output is linear in both.
    key = f'{name}.{norm}' if f'{name}.{norm}.weight' in weights else f'{name}.{conv}'
    gamma = weights.pop(f'{name}.gamma')
    weights[f'{key}.weight'], weights[f'{key}.bias'] = scale_output(
        weights[f'{key}.weight'], weights[f'{key}.bias'], gamma
    )


def _norms_after_convolutions(model: nn.Module) -> Iterator[tuple[str, str, nn.Module]]:
    """Names of each convolution and of the norm after it, and that norm."""
    for name, module in model.named_modules():
        if isinstance(module, RobustBlock):
            pairs = [(conv, norm, getattr(module, norm)) for conv, norm in module.path]
        elif isinstance(module, nn.Sequential):
            children = itertools.pairwise(module.named_children())
            pairs = [(a, b, norm) for (a, conv), (b, norm) in children if isinstance(conv, nn.Conv2d)]
        else:
            continue
        for conv, norm, layer in pairs:
            if not isinstance(layer, nn.Identity):
                yield f'{name}.{conv}', f'{name}.{norm}', layer


def _drop(weights: dict[str, torch.Tensor], name: str) -> None:
    for key in [k for k in weights if k.startswith(f'{name}.')]:
        del weights[key]
