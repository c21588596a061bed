"""The module that stands in for mmcv's compiled extension ``mmcv._ext``.

``mmcv.ops`` imports ``mmcv._ext``, which the pure wheels (``mmcv-lite``, ``onedl-mmcv``) leave out and which does not
build against current torch; ``import mmdet.models`` then ends in "No module named 'mmcv._ext'". `install` puts a module
of the same name and calling conventions in its place: the Python side of ``mmcv.ops`` then runs unchanged, on the CPU
and on CUDA. Signatures and formulas are those of mmcv 2.1's ``ops/csrc``, whose results go into tensors that the caller
allocated. The other files of this package hold the operators. An operator without a stand-in can be imported; calling
it raises an error that names the operator.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Callable

import torch

from backbones.mmcv_ops import attention, boxes, deform, losses, masked, norm, points, reassembly, roi, rotated

NAME = 'mmcv._ext'


def get_compiler_version() -> str:
    """The entry of mmcv's environment report in place of a compiler."""
    return 'none (torchvision kernels)'


def get_compiling_cuda_version() -> str:
    """The entry of mmcv's environment report in place of a CUDA version."""
    return 'none (torchvision kernels)'


OPS = (
    boxes.bbox_overlaps,
    boxes.nms,
    boxes.nms_match,
    boxes.line_nms_forward,
    boxes.softnms,
    rotated.box_iou_rotated,
    rotated.nms_rotated,
    roi.roi_align_forward,
    roi.roi_align_backward,
    roi.roi_pool_forward,
    roi.roi_pool_backward,
    deform.deform_conv_forward,
    deform.deform_conv_backward_input,
    deform.deform_conv_backward_parameters,
    deform.modulated_deform_conv_forward,
    deform.modulated_deform_conv_backward,
    attention.ms_deform_attn_forward,
    attention.ms_deform_attn_backward,
    masked.masked_im2col_forward,
    masked.masked_col2im_forward,
    losses.sigmoid_focal_loss_forward,
    losses.sigmoid_focal_loss_backward,
    losses.softmax_focal_loss_forward,
    losses.softmax_focal_loss_backward,
    norm.sync_bn_forward_mean,
    norm.sync_bn_forward_var,
    norm.sync_bn_forward_output,
    norm.sync_bn_backward_param,
    norm.sync_bn_backward_data,
    points.border_align_forward,
    points.border_align_backward,
    points.deform_roi_pool_forward,
    points.deform_roi_pool_backward,
    points.roi_align_rotated_forward,
    points.roi_align_rotated_backward,
    reassembly.carafe_forward,
    reassembly.carafe_backward,
    reassembly.carafe_naive_forward,
    reassembly.carafe_naive_backward,
    reassembly.psamask_forward,
    reassembly.psamask_backward,
    get_compiler_version,
    get_compiling_cuda_version,
)
"""The functions of ``mmcv._ext`` that have a stand-in."""


def _missing_message(name: str) -> str:
    return (
        f"mmcv's compiled operator {name} has no stand-in here, as no model of mmdet or mmsegmentation uses it "
        f'(docs/operators.md lists those that have one); install an mmcv built with its operators for torch '
        f"{torch.__version__} (mmcv's installation guide: 'Build MMCV from source')"
    )


class _Fallback(types.ModuleType):
    """``mmcv._ext`` with every name: mmcv asserts at import that the names it knows exist."""

    def __getattr__(self, name: str) -> Callable:
        if name.startswith('__'):
            raise AttributeError(name)

        def missing(*args: object, **kwargs: object) -> None:
            raise NotImplementedError(_missing_message(name))

        return missing


class _Loader(importlib.abc.Loader):
    """Gives the module a spec: mmengine calls ``find_spec`` to see whether mmcv has its operators."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Fallback(spec.name, __doc__)

    def exec_module(self, module: types.ModuleType) -> None:
        for op in OPS:
            setattr(module, op.__name__, op)


def install() -> bool:
    """Put the stand-ins at ``mmcv._ext``, unless mmcv has its compiled operators.

    Returns:
        Whether ``mmcv._ext`` consists of stand-ins, from this call or an earlier one.
    """
    if NAME not in sys.modules and importlib.util.find_spec(NAME) is None:
        loader = _Loader()
        sys.modules[NAME] = importlib.util.module_from_spec(importlib.machinery.ModuleSpec(NAME, loader))
        loader.exec_module(sys.modules[NAME])
    return isinstance(sys.modules.get(NAME), _Fallback)
