"""Any timm model as a backbone in OpenMMLab configs.

A config needs one line: ``custom_imports = dict(imports=['backbones.openmmlab'], allow_failed_imports=False)``.
Importing this package puts the stand-ins for mmcv's compiled operators in place (before anything imports ``mmcv.ops``),
registers ``TimmBackbone``, ``StagePyramid``, ``SimpleFeaturePyramid``, ``SeededRandomSampler`` and
``LayerDecayOptimWrapperConstructor`` in mmengine's root registries, which mmdet and mmseg both search, and checks
strides when a detector is built on a ``TimmBackbone``.
"""

from backbones.mmcv_ops import install

install()

from backbones.openmmlab.checks import check_strides, watch_builds  # noqa: E402
from backbones.openmmlab.layer_decay import LayerDecayOptimWrapperConstructor  # noqa: E402
from backbones.openmmlab.pyramid import SimpleFeaturePyramid, StagePyramid  # noqa: E402
from backbones.openmmlab.sampling import SeededRandomSampler  # noqa: E402
from backbones.openmmlab.timm_backbone import TimmBackbone  # noqa: E402

watch_builds()

__all__ = [
    'LayerDecayOptimWrapperConstructor',
    'SeededRandomSampler',
    'SimpleFeaturePyramid',
    'StagePyramid',
    'TimmBackbone',
    'check_strides',
]
