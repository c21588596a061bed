"""Check that the strides of a detector's feature maps, anchors and RoI extractors agree.

mmdet checks no strides: its FPN takes maps of any size, and anchor generators and RoI extractors have strides of their
own in the config. Where these disagree, training runs without an error and learns the wrong boxes. :func:`watch_builds`
turns the disagreement into an error when a detector of any class is built.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from backbones.openmmlab.pyramid import SimpleFeaturePyramid, StagePyramid
from backbones.openmmlab.timm_backbone import TimmBackbone

HEADS = ('rpn_head', 'bbox_head', 'roi_head')
"""Attributes of mmdet's detectors that hold anchor generators and RoI extractors."""

_watching = False


def watch_builds() -> None:
    """From now on, check strides when a neck or head joins a ``TimmBackbone`` in a detector.

    A detector builds its parts in its constructor; torch calls a hook for each module that is set as an attribute.
    """
    global _watching
    if not _watching:
        register_module_module_registration_hook(_check_new_part)
        _watching = True


def _check_new_part(parent: nn.Module, name: str, part: nn.Module | None) -> None:
    if name == 'neck' or name in HEADS:
        parts = {key: getattr(parent, key, None) for key in ('backbone', 'neck', *HEADS)} | {name: part}
        _check(**parts)


def check_strides(detector: nn.Module) -> None:
    """Check that the strides of a detector's backbone, neck, anchors and RoI extractors agree.

    Args:
        detector: An mmdet detector. Only a ``TimmBackbone`` is checked, and only behind ``StagePyramid``,
            ``SimpleFeaturePyramid``, FPNs or no neck.

    Raises:
        ValueError: Strides or channels do not agree.
    """
    _check(**{key: getattr(detector, key, None) for key in ('backbone', 'neck', *HEADS)})


def _check(backbone: nn.Module | None, neck: nn.Module | None, **heads: nn.Module | None) -> None:
    if not isinstance(backbone, TimmBackbone):
        return
    strides = _through_neck(backbone, neck)
    if strides is None:
        return
    for name, head in heads.items():
        for setting, found in _assumed_strides(name, head):
            # RoI extractors use the first levels only; an anchor generator uses all.
            expected = strides[: len(found)] if setting.endswith('featmap_strides') else strides
            if tuple(found) != expected:
                raise ValueError(
                    f'{setting} are {tuple(found)} but the feature maps have {expected}: set them to these, '
                    'or have the neck (StagePyramid, SimpleFeaturePyramid) make the others'
                )


def _through_neck(backbone: TimmBackbone, neck: nn.Module | None) -> tuple[int, ...] | None:
    """Strides after the neck, or None if the neck is of an unknown kind."""
    channels, strides = backbone.channels, backbone.strides
    layers: list[Any] = [] if neck is None else list(neck) if isinstance(neck, nn.Sequential) else [neck]
    for layer in layers:
        in_channels = getattr(layer, 'in_channels', None)
        if isinstance(in_channels, Sequence) and tuple(in_channels) != channels:
            raise ValueError(
                f"{type(layer).__name__}'s in_channels are {tuple(in_channels)} but its input has {channels}"
            )
        if isinstance(layer, StagePyramid):
            if layer.in_strides != strides:
                raise ValueError(f"StagePyramid's in_strides are {layer.in_strides} but the backbone's are {strides}")
            channels, strides = layer.out_channels, layer.strides
        elif isinstance(layer, SimpleFeaturePyramid):
            if (layer.in_channels, layer.in_stride) != (channels[-1], strides[-1]):
                raise ValueError(
                    f"SimpleFeaturePyramid's in_channels and in_stride are {layer.in_channels} and {layer.in_stride} "
                    f"but the last map's are {channels[-1]} and {strides[-1]}"
                )
            channels, strides = layer.out_channels, layer.strides
        elif hasattr(layer, 'backbone_end_level'):  # mmdet's FPN and its relatives
            strides = strides[layer.start_level : layer.backbone_end_level]
            while len(strides) < layer.num_outs:
                strides += (2 * strides[-1],)
            channels = (layer.out_channels,) * layer.num_outs
        else:
            return None
    return strides


def _assumed_strides(name: str, head: nn.Module | None) -> Iterator[tuple[str, Sequence[int]]]:
    """Settings of a head that hold strides, by name."""
    generator: Any = getattr(head, 'prior_generator', None)
    if generator is not None:
        strides = [stride[0] if isinstance(stride, Sequence) else stride for stride in generator.strides]
        yield f'{name}: anchor strides', strides
    for extractor in ('bbox_roi_extractor', 'mask_roi_extractor'):
        found = getattr(head, extractor, None)
        modules: list[Any] = list(found) if isinstance(found, nn.ModuleList) else [found]
        for module in modules:
            if hasattr(module, 'featmap_strides'):
                yield f'{name}: {extractor}.featmap_strides', module.featmap_strides
