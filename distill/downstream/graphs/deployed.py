"""The graph of a trained detector or segmenter, of its inference form: what is exported, and what it has to equal."""

import colorsys
import copy
import re
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from torch import Tensor, nn

from backbones.inference_form import inference_form
from distill.downstream.graphs.cascade_rcnn import CascadeGraph, pool
from distill.downstream.graphs.preprocess import FLOAT32, UINT8, preprocess_of
from distill.downstream.graphs.segmenter import SegmenterGraph
from distill.downstream.inference import DETECTION, SceneModel, first_dataset
from distill.training.runner import type_name

ONE_SIZE = re.compile(r'(^|\.)(qkv|pos_embed|relative_position_bias_table|rel_pos)(\.|$)')
"""Names inside a backbone that looks at all of an image at once, or at windows; torch fixes the size of its images."""
PACKS = ('PackDetInputs', 'PackSegInputs')


@dataclass(frozen=True)
class SceneGraph:
    """A detector or segmenter on its way into engines.

    Attributes:
        network: The graph that is exported.
        model: The same graph of the model as it was trained.
        steps: What was done to the model, a line each.
        outputs: Names of what the graph returns.
        dtype: Of the images, ``uint8`` or ``float32``.
        mean: Mean of R, G, B, of values in 0 to 255.
        std: Standard deviation, likewise.
        largest: Height and width of the largest image that the graph takes, or None if it takes any.
        divisor: Divides height and width of what the network sees.
    """

    network: nn.Module
    model: nn.Module
    steps: tuple[str, ...]
    outputs: tuple[str, ...]
    dtype: str
    mean: list[float]
    std: list[float]
    largest: tuple[int, int] | None
    divisor: int


def scene_graph(scene: SceneModel, uint8: bool, largest: tuple[int, int] | None = None) -> SceneGraph:
    """Bring a detector or segmenter into the form in which it is exported.

    Args:
        scene: The model, on the CPU, which stays as it is.
        uint8: Whether the graph normalises its images itself.
        largest: Height and width of the largest image, for a graph in which the network sees this size only.

    Raises:
        ValueError: The model is of a kind that cannot be exported, or its inference form does not equal it.
    """
    dtype = UINT8 if uint8 else FLOAT32
    preprocess = preprocess_of(scene.network, dtype)
    if largest is not None:
        largest = tuple(-(-side // preprocess.divisor) * preprocess.divisor for side in largest)  # type: ignore[assignment]
        preprocess = preprocess_of(scene.network, dtype, largest)
    kind = CascadeGraph if scene.task == DETECTION else SegmenterGraph
    model = kind(scene.network, preprocess).eval()
    network, steps = inference_network(scene.network, largest or (4 * preprocess.divisor,) * 2)
    if largest is not None and resample_positions(network, largest):
        steps += (f'position embedding resampled for {largest[0]}x{largest[1]}',)
    mean, std = (one.flatten().tolist() for one in (preprocess.mean, preprocess.std))
    steps += ('normalisation inside',) if uint8 else ()
    return SceneGraph(
        kind(network, preprocess).eval(), model, steps, model.outputs, dtype, mean, std, largest, preprocess.divisor
    )


def takes_any_size(network: Any) -> bool:
    """Whether a detector or segmenter can be exported for images of any size: its backbone has convolutions only."""
    names = [name for name, _ in (*network.backbone.named_modules(), *network.backbone.named_parameters())]
    return not any(map(ONE_SIZE.search, names))


def resize_of(config: Config, steps: list[dict]) -> dict | None:
    """How an image is resized before it is shown, for those who run an artefact without its config.

    Args:
        config: The model's config, for the error.
        steps: What happens to an image that is loaded.

    Returns:
        ``scale`` (width, height) and ``keep_ratio``; None if an image is shown as it is.

    Raises:
        ValueError: The pipeline has a step that an artefact does not tell of.
    """
    resize = None
    for step in steps:
        settings = {key: value for key, value in step.items() if key != 'type'}
        if type_name(step) in PACKS:
            continue
        if type_name(step) != 'Resize' or not settings.keys() <= {'scale', 'keep_ratio'} or resize is not None:
            raise ValueError(
                f"the test pipeline of '{config.filename}' has the step {type_name(step)} with "
                f'{", ".join(settings) or "no settings"}; an artefact can tell of one Resize with scale and keep_ratio'
            )
        resize = {'scale': list(step['scale']), 'keep_ratio': bool(settings.get('keep_ratio', False))}
    return resize


class Inside(nn.Module):
    """All that a detector or segmenter computes before it chooses: what its inference form is compared by.

    Args:
        network: The model.
        size: Height and width of the images.
    """

    def __init__(self, network: Any, size: tuple[int, int]):
        super().__init__()
        self.network = network
        self.pretrained_cfg = {'input_size': (3, *size)}

    def forward(self, images: Tensor) -> Tensor:
        """All outputs of all heads for images [B, 3, H, W], one after the other."""
        network: Any = self.network
        maps = network.extract_feat(images)
        if hasattr(network, 'decode_head'):
            return network.decode_head(maps).flatten()
        found = [*network.rpn_head(maps)]
        height, width = images.shape[-2:]
        # From as large as the image to as small as a cell, so that each map is looked at.
        boxes = images.new_tensor([[0, 0, width, height]]) / torch.tensor([[1.0], [2], [4], [8], [16]])
        roi_head = network.roi_head
        parts = [*zip(roi_head.bbox_roi_extractor, roi_head.bbox_head, strict=True)]
        if roi_head.with_mask:
            parts += zip(roi_head.mask_roi_extractor, roi_head.mask_head, strict=True)
        for extractor, head in parts:
            result = head(pool(extractor, maps, boxes))
            found += [[result]] if isinstance(result, Tensor) else [result]
        return torch.cat([one.flatten() for several in found for one in several])


def inference_network(network: Any, size: tuple[int, int]) -> tuple[Any, tuple[str, ...]]:
    """A detector's or segmenter's inference form: see `backbones.inference_form`.

    Args:
        network: The model, which stays as it is.
        size: Height and width of the images on which layers are observed.

    Returns:
        The copy, and what was done to it.

    Raises:
        ValueError: The form does not equal the model.
    """
    network = copy.deepcopy(network)
    plain_norms(network)
    form: Any = inference_form(Inside(network, size), size)
    return form.network.network, form.steps


def resample_positions(network: Any, size: tuple[int, int]) -> bool:
    """Resample the position embedding of a ViT once for images of a size, where it would be in every run.

    Returns:
        Whether there was one.
    """
    backbone = getattr(network.backbone, 'net', None)
    # A Swin has none, and would get other windows.
    if not getattr(backbone, 'dynamic_img_size', False) or getattr(backbone, 'pos_embed', None) is None:
        return False
    backbone.set_input_size(img_size=size)  # type: ignore[union-attr]
    return True


def plain_norms(network: nn.Module) -> None:
    """Put torch's own batch norms in the place of mmengine's, which take maps of any number of axes."""
    for owner in list(network.modules()):
        for name, norm in list(owner.named_children()):
            if type(norm).__name__ != '_BatchNormXd':
                continue
            plain: Any = nn.BatchNorm2d(norm.num_features, norm.eps, norm.momentum, norm.affine)
            plain.load_state_dict(norm.state_dict())
            setattr(owner, name, plain.train(norm.training))


def palette_of(config: Config, classes: list[str]) -> list[list[int]]:
    """A colour R, G, B for each class: the data set's own, or evenly spaced hues."""
    with DefaultScope.overwrite_default_scope(config.default_scope):
        kind = DATASETS.get(first_dataset(config)['type'])
    own = getattr(kind, 'METAINFO', {})
    if list(own.get('classes', ())) == classes and len(own.get('palette', ())) == len(classes):
        return [list(color) for color in own['palette']]
    hues = (colorsys.hsv_to_rgb(index / len(classes), 0.8, 0.9) for index in range(len(classes)))
    return [[round(255 * level) for level in color] for color in hues]
