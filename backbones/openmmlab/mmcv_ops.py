"""Stand-ins for mmcv's compiled operators, on torchvision's kernels and plain tensor code.

``mmcv.ops`` imports a compiled module ``mmcv._ext``, which the pure wheels (``mmcv-lite``, ``onedl-mmcv``)
leave out and which does not build against current torch; without it ``import mmdet.models`` ends in "No
module named 'mmcv._ext'". :func:`install` puts a module of the same name and calling conventions in its
place: the Python side of ``mmcv.ops`` then runs unchanged, on the CPU and on CUDA. Conventions, signatures
and formulas are those of mmcv 2.1's ``ops/csrc`` (results go into tensors that the caller allocated). An
operator without a stand-in can be imported; calling it says what is missing.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Callable

import torch
import torch.nn.functional as F
import torchvision  # noqa: F401 - registers torch.ops.torchvision
from torch import Tensor

NAME = 'mmcv._ext'
kernels = torch.ops.torchvision


def _full(x: Tensor) -> Tensor:
    """x in full precision: under AMP the tensors are half ones, which not every kernel takes."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Greedy non-maximum suppression.

    Args:
        boxes: Corners x1, y1, x2, y2 [N, 4].
        scores: [N].
        iou_threshold: A box goes when its IoU with a better one is above this.
        offset: 1 counts pixels, so that a box is x2 - x1 + 1 wide; 0 measures lengths.

    Returns:
        Indices of what stays, best first.
    """
    # Counting pixels is measuring lengths with the far corner moved by one.
    boxes = _full(boxes) + boxes.new_tensor([0, 0, offset, offset])
    return kernels.nms(boxes, scores.to(boxes), iou_threshold)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft-NMS (Bodla et al., ICCV 2017): neighbours of a better box lose score instead of going at once.

    Args:
        boxes: Corners [N, 4].
        scores: [N].
        dets: Receives box and decayed score [N, 5], in the order of selection.
        iou_threshold: Overlap from which a neighbour is decayed (naive, linear).
        sigma: Width of the Gaussian decay exp(-IoU² / sigma).
        min_score: A neighbour decayed below this goes.
        method: 0 naive (score 0), 1 linear (× 1 - IoU), 2 Gaussian.
        offset: As in :func:`nms`.

    Returns:
        Indices of what stays, in the order of selection.
    """
    extent = boxes[:, 2:] - boxes[:, :2] + offset
    areas = extent.prod(1)
    scores, left, kept = scores.clone(), torch.arange(len(boxes)), []
    while len(left):
        place = scores[left].argmax()
        best = left[place]
        dets[len(kept), :4], dets[len(kept), 4] = boxes[best], scores[best]
        kept.append(int(best))
        left = torch.cat((left[:place], left[place + 1 :]))

        near = torch.maximum(boxes[best, :2], boxes[left, :2])
        far = torch.minimum(boxes[best, 2:], boxes[left, 2:])
        shared = (far - near + offset).clamp(min=0).prod(1)
        iou = shared / (areas[best] + areas[left] - shared)
        if method == 2:
            scores[left] *= torch.exp(-(iou**2) / sigma)
        else:
            scores[left] *= torch.where(iou >= iou_threshold, 1 - iou if method == 1 else torch.zeros_like(iou), 1)
        left = left[scores[left] >= min_score]
    return torch.tensor(kept, dtype=torch.long)


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """RoIAlign (He et al., ICCV 2017) by average, into ``output`` [R, C, aligned_height, aligned_width].

    Args:
        input: Feature map [B, C, H, W].
        rois: Image index and corners in pixels of the image [R, 5].
        output: Receives the pooled values.
        argmax_y: Used by max pooling only.
        argmax_x: Used by max pooling only.
        aligned_height: Bins in y.
        aligned_width: Bins in x.
        spatial_scale: Feature map pixels a pixel of the image.
        sampling_ratio: Samples a bin and axis; 0 takes one a feature map pixel.
        pool_mode: 1 average, 0 maximum.
        aligned: Whether pixel centres sit at half coordinates.

    Raises:
        NotImplementedError: If ``pool_mode`` is the maximum.
    """
    _average_only(pool_mode)
    bins = (aligned_height, aligned_width)
    output.copy_(kernels.roi_align(_full(input), _full(rois), spatial_scale, *bins, sampling_ratio, aligned))


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Gradient of :func:`roi_align_forward`, from ``grad_output`` into ``grad_input`` [B, C, H, W]."""
    _average_only(pool_mode)
    grad = kernels._roi_align_backward(
        _full(grad_output),
        _full(rois),
        spatial_scale,
        aligned_height,
        aligned_width,
        *grad_input.shape,
        sampling_ratio,
        aligned,
    )
    grad_input.copy_(grad)


def _average_only(pool_mode: int) -> None:
    if pool_mode != 1:
        raise NotImplementedError(_missing_message('roi_align(pool_mode="max")'))


def _sigmoid_focal(logits: Tensor, target: Tensor, weight: Tensor, gamma: float, alpha: float) -> Tensor:
    positive = F.one_hot(target, logits.size(1) + 1)[:, :-1].to(logits)  # background is the last index
    p = logits.sigmoid()
    hit = alpha * (1 - p) ** gamma * F.logsigmoid(logits)
    miss = (1 - alpha) * p**gamma * F.logsigmoid(-logits)
    loss = -(positive * hit + (1 - positive) * miss)
    return loss * weight[target, None] if len(weight) else loss


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Focal loss of independent classes (Lin et al., ICCV 2017): -α_t (1 - p_t)^γ log p_t, unreduced.

    Args:
        input: Logits [N, K].
        target: Class 0..K-1, or K for background [N].
        weight: Weight by class [K], or empty.
        output: Receives the loss [N, K].
        gamma: Focusing exponent γ.
        alpha: Weight of the positive entries; negative ones get 1 - α.
    """
    output.copy_(_sigmoid_focal(input, target, weight, gamma, alpha))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Derivative of each loss by its logit, into ``grad_input`` [N, K]."""
    with torch.enable_grad():
        logits = input.detach().requires_grad_()
        loss = _sigmoid_focal(logits, target, weight, gamma, alpha).sum()
    grad_input.copy_(torch.autograd.grad(loss, logits)[0])


def _softmax_focal(p: Tensor, target: Tensor, weight: Tensor, gamma: float, alpha: float) -> Tensor:
    loss = -alpha * (1 - p) ** gamma * p.clamp(min=torch.finfo(p.dtype).tiny).log()
    return loss * weight[target] if len(weight) else loss


def softmax_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Focal loss of exclusive classes: -α (1 - p_t)^γ log p_t, unreduced.

    Args:
        input: Probabilities, the softmax of the logits [N, K].
        target: Class [N].
        weight: Weight by class [K], or empty.
        output: Receives the loss [N].
        gamma: Focusing exponent γ.
        alpha: Weight α of every sample.
    """
    p = input.gather(1, target[:, None])[:, 0]
    output.copy_(_softmax_focal(p, target, weight, gamma, alpha))


def softmax_focal_loss_backward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    buff: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Derivative of each loss by its sample's logits, into ``grad_input`` [N, K]."""
    with torch.enable_grad():
        p = input.gather(1, target[:, None])[:, 0].detach().requires_grad_()
        loss = _softmax_focal(p, target, weight, gamma, alpha).sum()
    buff.copy_(p.detach() * torch.autograd.grad(loss, p)[0])  # dp_t / dlogit_k = p_t (δ_tk - p_k)
    grad_input.copy_(buff[:, None] * (F.one_hot(target, input.size(1)) - input))


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    **geometry: int,
) -> None:
    """Modulated deformable convolution (Zhu et al., CVPR 2019).

    Args:
        input: [B, C, H, W].
        weight: [K, C / group, kernel_h, kernel_w].
        bias: [K], or empty.
        ones: Scratch space of the compiled operator, unused.
        offset: y and x of each kernel point [B, 2 * deformable_group * kernel_h * kernel_w, H', W'].
        mask: Weight of each kernel point [B, deformable_group * kernel_h * kernel_w, H', W'].
        output: Receives the result [B, K, H', W'].
        columns: Scratch space of the compiled operator, unused.
        geometry: kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, group,
            deformable_group and with_bias.
    """
    bias = bias if geometry['with_bias'] else weight.new_zeros(len(weight))
    tensors = map(_full, (input, weight, offset, mask, bias))
    output.copy_(kernels.deform_conv2d(*tensors, *_modulated_geometry(geometry)))


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    **geometry: int,
) -> None:
    """Gradients of :func:`modulated_deform_conv_forward`, each into the tensor of its name."""
    tensors = map(_full, (grad_output, input, weight, offset, mask, weight.new_zeros(len(weight))))
    gradients = kernels._deform_conv2d_backward(*tensors, *_modulated_geometry(geometry))
    by_input, by_weight, by_offset, by_mask, by_bias = gradients
    grad_input.copy_(by_input)
    grad_weight.copy_(by_weight)
    grad_offset.copy_(by_offset)
    grad_mask.copy_(by_mask)
    if geometry['with_bias']:
        grad_bias.copy_(by_bias)


def _modulated_geometry(geometry: dict[str, int]) -> tuple:
    names = 'stride_h stride_w pad_h pad_w dilation_h dilation_w group deformable_group'
    return *(geometry[name] for name in names.split()), True


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    **geometry: int,
) -> None:
    """Deformable convolution (Dai et al., ICCV 2017); arguments as in :func:`modulated_deform_conv_forward`.

    ``geometry`` holds kW, kH, dW, dH, padW, padH, dilationW, dilationH, group, deformable_group and
    im2col_step.
    """
    mask, bias = input.new_zeros(len(input), 1), weight.new_zeros(len(weight))
    tensors = map(_full, (input, weight, offset, mask, bias))
    output.copy_(kernels.deform_conv2d(*tensors, *_plain_geometry(geometry)))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    **geometry: int,
) -> None:
    """Gradients of :func:`deform_conv_forward` by input and offset."""
    by_input, _, by_offset = _deform_conv_backward(grad_output, input, weight, offset, geometry)
    grad_input.copy_(by_input)
    grad_offset.copy_(by_offset)


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    scale: float,
    **geometry: int,
) -> None:
    """Gradient of :func:`deform_conv_forward` by its weight, times ``scale``, added to ``grad_weight``."""
    weight = torch.zeros_like(grad_weight)  # the gradient by the weight does not depend on the weight
    grad_weight.add_(_deform_conv_backward(grad_output, input, weight, offset, geometry)[1], alpha=scale)


def _deform_conv_backward(
    grad_output: Tensor, input: Tensor, weight: Tensor, offset: Tensor, geometry: dict[str, int]
) -> tuple[Tensor, Tensor, Tensor]:
    mask, bias = input.new_zeros(len(input), 1), weight.new_zeros(len(weight))
    tensors = map(_full, (grad_output, input, weight, offset, mask, bias))
    return kernels._deform_conv2d_backward(*tensors, *_plain_geometry(geometry))[:3]


def _plain_geometry(geometry: dict[str, int]) -> tuple:
    names = 'dH dW padH padW dilationH dilationW group deformable_group'
    return *(geometry[name] for name in names.split()), False


def get_compiler_version() -> str:
    """What mmcv's environment report shows instead of a compiler."""
    return 'none (torchvision kernels)'


def get_compiling_cuda_version() -> str:
    """What mmcv's environment report shows instead of a CUDA version."""
    return 'none (torchvision kernels)'


OPS = (
    nms,
    softnms,
    roi_align_forward,
    roi_align_backward,
    sigmoid_focal_loss_forward,
    sigmoid_focal_loss_backward,
    softmax_focal_loss_forward,
    softmax_focal_loss_backward,
    modulated_deform_conv_forward,
    modulated_deform_conv_backward,
    deform_conv_forward,
    deform_conv_backward_input,
    deform_conv_backward_parameters,
    get_compiler_version,
    get_compiling_cuda_version,
)
"""Everything that has a stand-in."""


def _missing_message(name: str) -> str:
    return (
        f"mmcv's compiled operator {name} has no stand-in here; install an mmcv built with its operators "
        f"for torch {torch.__version__} (mmcv's installation guide: 'Build MMCV from source')"
    )


class _Fallback(types.ModuleType):
    """``mmcv._ext`` as far as it goes; mmcv asserts at import that every name exists, so every name does."""

    def __getattr__(self, name: str) -> Callable:
        if name.startswith('__'):
            raise AttributeError(name)

        def missing(*args: object, **kwargs: object) -> None:
            raise NotImplementedError(_missing_message(name))

        return missing


class _Loader(importlib.abc.Loader):
    """Gives the module a spec that ``find_spec`` finds: by that mmengine asks whether there are operators."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Fallback(spec.name, __doc__)

    def exec_module(self, module: types.ModuleType) -> None:
        for op in OPS:
            setattr(module, op.__name__, op)


def install() -> bool:
    """Make ``mmcv._ext`` importable, unless it is.

    Returns:
        Whether the stand-ins are (now) what ``mmcv._ext`` is.
    """
    if NAME not in sys.modules and importlib.util.find_spec(NAME) is None:
        spec = importlib.machinery.ModuleSpec(NAME, _Loader())
        sys.modules[NAME] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[NAME])
    return isinstance(sys.modules.get(NAME), _Fallback)
