"""Feature, anchor and RoI strides of a detector must tell the same story; nothing in a detector checks that.

mmdet's FPN takes maps of any size, anchor generators and RoI extractors are told strides of their own, and
where these disagree training runs without an error and learns the wrong boxes. :func:`watch_builds` makes it
an error when the detector is built, whatever its class and whoever builds it.
"""

from collections.abc import Iterator, Sequence

from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from backbones.openmmlab.pyramid import SimpleFeaturePyramid, StagePyramid
from backbones.openmmlab.timm_backbone import TimmBackbone

HEADS = ('rpn_head', 'bbox_head', 'roi_head')
"""Names by which mmdet's detectors hold what takes strides for granted."""

_watching = False


def watch_builds() -> None:
    """Check strides from now on whenever a neck or head joins a ``TimmBackbone`` in a detector.

    A detector builds its parts itself, in its constructor; torch tells of each one that is put in place.
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
        detector: An mmdet detector. Whatever is not a ``TimmBackbone``, or comes after a neck other than
            ``StagePyramid``, ``SimpleFeaturePyramid`` and FPNs, is taken on trust.

    Raises:
        ValueError: They do not agree.
    """
    _check(**{key: getattr(detector, key, None) for key in ('backbone', 'neck', *HEADS)})


def _check(backbone: nn.Module | None, neck: nn.Module | None, **heads: nn.Module | None) -> None:
    if not isinstance(backbone, TimmBackbone):
        return
    strides = _through_neck(backbone, neck)
    if strides is None:
        return
    for name, head in heads.items():
        for what, found in _claims(name, head):
            # RoI extractors use the first levels only; an anchor generator uses all.
            expected = strides[: len(found)] if what.endswith('featmap_strides') else strides
            if tuple(found) != expected:
                raise ValueError(
                    f'{what} are {tuple(found)} but the feature maps have {expected}: set them to these, '
                    'or have the neck (StagePyramid, SimpleFeaturePyramid) make the others'
                )


def _through_neck(backbone: TimmBackbone, neck: nn.Module | None) -> tuple[int, ...] | None:
    """Strides after the neck; None if it is of a kind that is not known here."""
    channels, strides = backbone.channels, backbone.strides
    if neck is None:
        return strides
    for layer in neck if isinstance(neck, nn.Sequential) else [neck]:
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


def _claims(name: str, head: nn.Module | None) -> Iterator[tuple[str, Sequence[int]]]:
    """What a head takes the strides for, with the name of the setting."""
    generator = getattr(head, 'prior_generator', None)
    if generator is not None:
        strides = [stride[0] if isinstance(stride, Sequence) else stride for stride in generator.strides]
        yield f'{name}: anchor strides', strides
    for extractor in ('bbox_roi_extractor', 'mask_roi_extractor'):
        found = getattr(head, extractor, None)
        for module in found if isinstance(found, nn.ModuleList) else [found]:
            if hasattr(module, 'featmap_strides'):
                yield f'{name}: {extractor}.featmap_strides', module.featmap_strides
