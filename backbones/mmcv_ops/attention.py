"""Multi-scale deformable attention (Zhu et al., ICLR 2021), on the plain version that mmcv ships.

Conventions of mmcv 2.1, ``ops/csrc/pytorch/cuda/ms_deform_attn_cuda.cu``.
"""

import torch
from torch import Tensor

from backbones.mmcv_ops.common import full


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Weighted sum of values sampled around each query.

    Args:
        value: Values of all levels, one level after the other [B, S, heads, C].
        value_spatial_shapes: Height and width of each level [levels, 2]; S is the sum of their products.
        value_level_start_index: First position of each level in S [levels]; follows from the shapes, unused.
        sampling_locations: x and y, 0 to 1 across a level [B, Q, heads, levels, points, 2].
        attention_weights: [B, Q, heads, levels, points].
        im2col_step: Images that the compiled operator takes at a time, unused.

    Returns:
        [B, Q, heads * C].
    """
    return _attend(value, value_spatial_shapes, sampling_locations, attention_weights).to(value)


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Gradients of :func:`ms_deform_attn_forward`, each into the tensor of its name."""
    with torch.enable_grad():
        leaves = [full(x.detach()).requires_grad_() for x in (value, sampling_locations, attention_weights)]
        output = _attend(leaves[0], value_spatial_shapes, *leaves[1:])
    gradients = torch.autograd.grad(output, leaves, grad_output.to(output))
    for target, gradient in zip((grad_value, grad_sampling_loc, grad_attn_weight), gradients, strict=True):
        target.copy_(gradient)


def _attend(value: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    # At the top of the file this import would be circular: mmcv.ops imports the stand-ins.
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    return multi_scale_deformable_attn_pytorch(full(value), shapes.tolist(), full(locations), full(weights))
