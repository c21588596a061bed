"""Stand-ins for mmcv's compiled operators, on torchvision's kernels and plain tensor code.

``mmcv.ops`` imports a compiled module ``mmcv._ext``, which the pure wheels (``mmcv-lite``, ``onedl-mmcv``)
leave out and which does not build against current torch; without it ``import mmdet.models`` ends in "No
module named 'mmcv._ext'". :func:`install` puts a module of the same name and calling conventions in its
place: the Python side of ``mmcv.ops`` then runs unchanged, on the CPU and on CUDA. Conventions, signatures
and formulas are those of mmcv 2.1's ``ops/csrc`` (results go into tensors that the caller allocated); the
operators themselves are in the ``_ops_*`` files next to this one. An operator without a stand-in can be
imported; calling it says what is missing.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Callable

import torch

from backbones.mmcv_ops import attention as _ops_attention
from backbones.mmcv_ops import boxes as _ops_boxes
from backbones.mmcv_ops import deform as _ops_deform
from backbones.mmcv_ops import losses as _ops_losses
from backbones.mmcv_ops import masked as _ops_masked
from backbones.mmcv_ops import points, reassembly
from backbones.mmcv_ops import roi as _ops_roi
from backbones.mmcv_ops import rotated as _ops_rotated

NAME = 'mmcv._ext'


def get_compiler_version() -> str:
    """What mmcv's environment report shows instead of a compiler."""
    return 'none (torchvision kernels)'


def get_compiling_cuda_version() -> str:
    """What mmcv's environment report shows instead of a CUDA version."""
    return 'none (torchvision kernels)'


OPS = (
    _ops_boxes.bbox_overlaps,
    _ops_boxes.nms,
    _ops_boxes.nms_match,
    _ops_boxes.softnms,
    _ops_rotated.box_iou_rotated,
    _ops_rotated.nms_rotated,
    _ops_roi.roi_align_forward,
    _ops_roi.roi_align_backward,
    _ops_roi.roi_pool_forward,
    _ops_roi.roi_pool_backward,
    _ops_deform.deform_conv_forward,
    _ops_deform.deform_conv_backward_input,
    _ops_deform.deform_conv_backward_parameters,
    _ops_deform.modulated_deform_conv_forward,
    _ops_deform.modulated_deform_conv_backward,
    _ops_attention.ms_deform_attn_forward,
    _ops_attention.ms_deform_attn_backward,
    _ops_masked.masked_im2col_forward,
    _ops_masked.masked_col2im_forward,
    _ops_losses.sigmoid_focal_loss_forward,
    _ops_losses.sigmoid_focal_loss_backward,
    _ops_losses.softmax_focal_loss_forward,
    _ops_losses.softmax_focal_loss_backward,
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
