"""Any timm model as a backbone in OpenMMLab configs.

``custom_imports = dict(imports=['backbones.openmmlab'], allow_failed_imports=False)`` in a config is all it
takes: importing this package puts the stand-ins for mmcv's compiled operators in place (before anything
imports ``mmcv.ops``), registers ``TimmBackbone``, ``StagePyramid``, ``SimpleFeaturePyramid``, ``LoadWholeImage``,
``SeededRandomSampler`` and ``LayerDecayOptimWrapperConstructor`` in mmengine's root registries, where mmdet and mmseg
both look, and has strides checked whenever a detector is built on a ``TimmBackbone``.
"""

from backbones.mmcv_ops import install as mmcv_ops

mmcv_ops.install()

from backbones.openmmlab.checks import check_strides, watch_builds  # noqa: E402
from backbones.openmmlab.layer_decay import LayerDecayOptimWrapperConstructor  # noqa: E402
from backbones.openmmlab.loading import LoadWholeImage  # noqa: E402
from backbones.openmmlab.pyramid import SimpleFeaturePyramid, StagePyramid  # noqa: E402
from backbones.openmmlab.sampling import SeededRandomSampler  # noqa: E402
from backbones.openmmlab.timm_backbone import TimmBackbone  # noqa: E402

watch_builds()

__all__ = [
    'LayerDecayOptimWrapperConstructor',
    'LoadWholeImage',
    'SeededRandomSampler',
    'SimpleFeaturePyramid',
    'StagePyramid',
    'TimmBackbone',
    'check_strides',
]
