"""The stems of Robust-ResNet: layers that make the first feature map of an image.

=============  =================================================================  =======
stem           layers                                                             stride
=============  =================================================================  =======
``patch``      one convolution of p×p patches, p = 4, 8 or 16                     p
``resnet``     7×7 convolution with stride 2, norm, activation, 3×3 max pooling   4
``conv``       four 3×3 convolutions with stride 2, each with norm and activation 16
=============  =================================================================  =======

Sources: Wang et al. (https://arxiv.org/abs/2206.03452), section 4.1; Xiao et al., "Early Convolutions Help
Transformers See Better", NeurIPS 2021 (https://arxiv.org/abs/2106.14881) for ``conv``.

Differs from Xiao et al.: no 1×1 convolution follows the four, whose last has the width of the first stage.
All convolutions have biases, like those of the blocks, so that norms can be folded into them.
"""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from timm.layers import resample_patch_embed
from torch import nn

from backbones.messages import choices

PATCH_SIZES = (4, 8, 16)
FIXED_STRIDES = {'resnet': 4, 'conv': 16}
STEMS = ('patch', *FIXED_STRIDES)


class AtrousPatch(nn.Conv2d):
    """A patch convolution that moves by less than a patch, on maps of the image's size over its stride.

    The zeros at the right and bottom keep every patch of the ordinary stem where it is: at each
    (patch size / stride)-th position the outputs are equal.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images [B, C, H, W] to [B, C', H/stride, W/stride]."""
        extra = self.kernel_size[0] - self.stride[0]
        return F.conv2d(F.pad(x, (0, extra, 0, extra)), self.weight, self.bias, self.stride)


def check_stem(stem: str, patch_size: int | None, stem_stride: int | None, output_stride: int) -> tuple[int, int]:
    """Check the stem's name, sizes and strides, and fill in defaults.

    Returns:
        Stride of the stem in the undilated network, for which the stages are laid out, and stride of this stem.

    Raises:
        ValueError: The arguments do not fit one another.
    """
    if stem not in STEMS:
        raise ValueError(f"stem '{stem}' is unknown; choose from {choices(STEMS)}")
    for what, size in (('patch_size', patch_size), ('stem_stride', stem_stride)):
        if stem != 'patch' and size is not None:
            raise ValueError(f"{what} {size} needs stem 'patch'; leave it out with stem '{stem}'")
    patch_size = FIXED_STRIDES.get(stem, 16 if patch_size is None else patch_size)
    if patch_size not in PATCH_SIZES:
        raise ValueError(f'patch_size {patch_size} is not available; choose from {choices(PATCH_SIZES)}')
    stem_stride = patch_size if stem_stride is None else stem_stride
    stem_strides = [s for s in PATCH_SIZES if s <= patch_size]
    if stem_stride not in stem_strides:
        raise ValueError(
            f'stem_stride {stem_stride} is not available with patch_size {patch_size}; '
            f'choose from {choices(stem_strides)}'
        )
    output_strides = [s for s in (4, 8, 16, 32) if s >= stem_stride]
    if output_stride not in output_strides:
        given = f'patch_size {patch_size}' if stem_stride == patch_size else f'stem_stride {stem_stride}'
        given = given if stem == 'patch' else f"stem '{stem}'"
        raise ValueError(
            f'output_stride {output_stride} is not available with {given}; choose from {choices(output_strides)}'
        )
    return patch_size, stem_stride


def create_stem(
    stem: str,
    in_chs: int,
    out_chs: int,
    patch_size: int,
    stem_stride: int,
    norm_layer: Callable[..., nn.Module],
    act_layer: Callable[..., nn.Module],
) -> nn.Module:
    """Make the stem of a name; `check_stem` has checked the sizes.

    Args:
        stem: ``patch``, ``resnet`` or ``conv``.
        in_chs: Channels of the image.
        out_chs: Channels of the first map.
        patch_size: Side of a patch, for ``patch``.
        stem_stride: Step from patch to patch, for ``patch``.
        norm_layer: Norm of a number of channels, for the other two.
        act_layer: Activation, for the other two.
    """
    if stem == 'resnet':
        conv = nn.Conv2d(in_chs, out_chs, 7, stride=2, padding=3)
        return nn.Sequential(conv, norm_layer(out_chs), act_layer(), nn.MaxPool2d(3, stride=2, padding=1))
    if stem == 'conv':
        layers: list[nn.Module] = []
        for chs in (max(out_chs // 8, 1), max(out_chs // 4, 1), max(out_chs // 2, 1), out_chs):
            layers += [nn.Conv2d(in_chs, chs, 3, stride=2, padding=1), norm_layer(chs), act_layer()]
            in_chs = chs
        return nn.Sequential(*layers)
    patch = nn.Conv2d if stem_stride == patch_size else AtrousPatch
    return patch(in_chs, out_chs, patch_size, stem_stride)


def resample_stem(weights: Mapping[str, torch.Tensor], patch_size: int) -> dict[str, torch.Tensor]:
    """Resample the patchify stem of a trained model to another patch size.

    With a larger patch size, patches that were enlarged by as much give the same features. Source: Beyer et al.,
    "FlexiViT", CVPR 2023 (https://arxiv.org/abs/2212.08013), section 3.4.

    Args:
        weights: State dict with a patchify stem.
        patch_size: Side of the new patches: 4, 8 or 16.

    Returns:
        The state dict with another ``stem.weight``.

    Raises:
        ValueError: The patch size is unknown or the weights have no patchify stem.
    """
    if patch_size not in PATCH_SIZES:
        raise ValueError(f'patch_size {patch_size} is not available; choose from {choices(PATCH_SIZES)}')
    if 'stem.weight' not in weights:
        raise ValueError("the weights have no patchify stem 'stem.weight'; only that one has a patch size")
    return {**weights, 'stem.weight': resample_patch_embed(weights['stem.weight'], [patch_size, patch_size])}


def fit_stem(
    weights: Mapping[str, torch.Tensor], patch_size: int, source: str, resample: bool
) -> Mapping[str, torch.Tensor]:
    """Weights whose patchify stem has a given patch size.

    Args:
        weights: State dict; without a patchify stem it is returned as it is.
        patch_size: Side of the patches in pixels.
        source: Names the weights in the error.
        resample: Interpolate a stem of another patch size (see `resample_stem`).

    Raises:
        ValueError: The stem has another patch size, and ``resample`` is False.
    """
    trained_size = weights['stem.weight'].shape[-1] if 'stem.weight' in weights else patch_size
    if trained_size == patch_size:
        return weights
    if not resample:
        raise ValueError(
            f'the stem of {source} has patches of {trained_size} pixels and the model {patch_size}: '
            f'set patch_size={trained_size}, or resample_stem=True to interpolate'
        )
    return resample_stem(weights, patch_size)
