"""Convert a trained Robust-ResNet to its plain inference form, which is built like any other model and then filled.

    plain = deploy(student)                     # `robust_resnet_dw_small_rep` -> `robust_resnet_dw_small`
    fastest = deploy(student, fold_norms=True)  # the same without norms

Parallel depthwise branches become one kernel (`RepDepthwise.fuse`), and a layer scale goes into the layer before it.
The plain model has the keys and the code of its name; in eval mode its outputs are those of the trained model, up to
rounding. ``timm.utils.reparameterize_model`` does the first of these steps alone, and inside the trained model.
"""

import itertools
from collections.abc import Iterator

import timm
import torch
from torch import nn

from backbones.layers.reparam import fold_norm, scale_output
from backbones.robust_resnet.blocks import RobustBlock
from backbones.robust_resnet.rep_depthwise import RepDepthwise
from backbones.robust_resnet.robust_resnet import RobustResNet
from backbones.weights.fit import load_all

TRAINING_ONLY = ('small_kernel_size', 'layer_scale_init_value', 'drop_rate', 'drop_path_rate')


def plain_arguments(name: str, model_kwargs: dict) -> tuple[str, dict]:
    """Name and arguments of the plain form of a trained model, for `timm.create_model`."""
    kwargs = {k: v for k, v in model_kwargs.items() if k not in TRAINING_ONLY}
    return name.removesuffix('_rep'), kwargs


@torch.no_grad()
def deploy(model: RobustResNet, fold_norms: bool = False, **model_kwargs) -> RobustResNet:
    """Build the plain form of a trained model and fill it with the weights of the trained model.

    Args:
        model: Trained model, which stays as it is.
        fold_norms: Also fold every norm into the convolution before it. The keys are then no longer those of released
            checkpoints: export such a model, and keep the one with norms.
        **model_kwargs: Arguments that the trained model was created with, without name and number of classes.

    Returns:
        The plain model in eval mode, on the device and in the type of the trained model.

    Raises:
        ValueError: The model is no Robust-ResNet, was created with other arguments, or has a norm to fold that is no
            batch norm.
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
    """The state dict of the plain form of a model (see `deploy`)."""
    weights = dict(model.state_dict())
    for name, module in model.named_modules():
        if isinstance(module, RepDepthwise):
            _drop(weights, name)
            weights.update({f'{name}.{key}': value for key, value in module.fuse().state_dict().items()})
    if fold_norms:
        for conv, norm, layer in _norms_after_convolutions(model):
            if not isinstance(layer, nn.BatchNorm2d | nn.SyncBatchNorm):
                raise ValueError(f"norm '{norm}' is a {type(layer).__name__}; only a batch norm can be folded")
            weights[f'{conv}.weight'], weights[f'{conv}.bias'] = fold_norm(
                weights[f'{conv}.weight'], weights[f'{conv}.bias'], layer
            )
            _drop(weights, norm)
    for name, module in model.named_modules():
        if isinstance(module, RobustBlock) and module.gamma is not None:
            _fold_layer_scale(weights, name, module)
    return weights


def _fold_layer_scale(weights: dict[str, torch.Tensor], name: str, block: RobustBlock) -> None:
    conv, norm = block.path[-1]
    # Weight and bias of a norm are scaled as those of a convolution: the output is linear in both.
    key = f'{name}.{norm}' if f'{name}.{norm}.weight' in weights else f'{name}.{conv}'
    gamma = weights.pop(f'{name}.gamma')
    weights[f'{key}.weight'], weights[f'{key}.bias'] = scale_output(
        weights[f'{key}.weight'], weights[f'{key}.bias'], gamma
    )


def _norms_after_convolutions(model: nn.Module) -> Iterator[tuple[str, str, nn.Module]]:
    """Name of each convolution that a norm follows, name of the norm, and the norm."""
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
