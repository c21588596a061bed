"""Draw detections and segmentations beside the ground truth."""

from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from PIL import Image
from torch import Tensor
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks

PALETTE = [
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
    (255, 255, 255),
    (148, 103, 189),
    (140, 86, 75),
]
"""Okabe and Ito's colours, which most colour-blind people tell apart, and three more; class k takes k modulo 10."""

IGNORED = 255
"""Label of pixels that the ground truth leaves out."""


@HOOKS.register_module()
class PictureHook(Hook):
    """Draw every n-th test image twice, side by side: with its ground truth and with what was predicted.

    Args:
        out_dir: Folder for the PNG files, named like the images.
        interval: The n above.
        score_threshold: Boxes that score less are left out.
        min_side: Images are enlarged by a whole factor until their longer side has this many pixels.
    """

    def __init__(self, out_dir: str, interval: int = 10, score_threshold: float = 0.3, min_side: int = 320):
        self.out_dir = Path(out_dir)
        self.interval = interval
        self.score_threshold = score_threshold
        self.min_side = min_side
        self.count = 0

    def after_test_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Draw the images of a batch that are due."""
        if not is_main_process():
            return
        # It needs mmcv, without which pictures of students are drawn.
        from distill.downstream.loading import decode_array

        classes = runner.test_dataloader.dataset.metainfo['classes']
        for sample in outputs:
            self.count += 1
            if (self.count - 1) % self.interval:
                continue
            # As the pipelines decode it: BGR, turned the way that its EXIF data say.
            image = decode_array(Path(sample.img_path).read_bytes())[..., ::-1].copy()
            canvas, zoom = enlarge(torch.from_numpy(image).permute(2, 0, 1), self.min_side)
            if 'pred_instances' in sample:
                found = sample.pred_instances
                found = found[found.scores >= self.score_threshold]
                pair = [draw_boxes(canvas, instances, zoom, classes) for instances in (sample.gt_instances, found)]
            else:
                truth, found = sample.gt_sem_seg.data[0].cpu(), sample.pred_sem_seg.data[0].cpu()
                # A segmenter decides for every pixel. What the ground truth leaves out stays bare, as in the score.
                found = found.where(truth != IGNORED, IGNORED)
                pair = [draw_labels(canvas, labels, zoom, len(classes)) for labels in (truth, found)]
            save_picture(side_by_side(pair), self.out_dir / f'{Path(sample.img_path).stem}.png')


def enlarge(image: Tensor, min_side: int) -> tuple[Tensor, int]:
    """An image [C, H, W] enlarged by the whole factor that brings its longer side to ``min_side``; and the factor."""
    zoom = max(1, -(-min_side // max(image.shape[1:])))
    return image.repeat_interleave(zoom, 1).repeat_interleave(zoom, 2), zoom


def draw_boxes(canvas: Tensor, instances, zoom: int, classes: Sequence[str]) -> Tensor:
    """Boxes with class, and score where there is one, on an image; masks where there are any.

    Args:
        canvas: uint8 [3, H, W].
        instances: mmengine's `InstanceData` with ``bboxes`` and ``labels``.
        zoom: By how much the image was enlarged.
        classes: Names.
    """
    if len(instances) == 0:
        return canvas
    names = [classes[label] for label in instances.labels.tolist()]
    if 'scores' in instances:
        names = [f'{name} {score:.2f}' for name, score in zip(names, instances.scores.tolist(), strict=True)]
    colours = [PALETTE[label % len(PALETTE)] for label in instances.labels.tolist()]
    boxes = torch.as_tensor(getattr(instances.bboxes, 'tensor', instances.bboxes)).cpu() * zoom
    if 'masks' in instances:
        masks = instances.masks
        masks = torch.as_tensor(masks.to_ndarray() if hasattr(masks, 'to_ndarray') else masks).cpu().bool()
        masks = masks.repeat_interleave(zoom, 1).repeat_interleave(zoom, 2)
        canvas = draw_segmentation_masks(canvas, masks, alpha=0.4, colors=colours)
    return draw_bounding_boxes(canvas, boxes, labels=names, colors=colours, width=2, label_colors=colours)


def draw_labels(canvas: Tensor, labels: Tensor, zoom: int, classes: int) -> Tensor:
    """A label map over an image.

    Args:
        canvas: uint8 [3, H, W].
        labels: Labels [H / zoom, W / zoom].
        zoom: By how much the image was enlarged.
        classes: Number of classes; other labels stay bare.
    """
    labels = labels.repeat_interleave(zoom, 0).repeat_interleave(zoom, 1)
    masks = torch.stack([labels == k for k in range(classes)])
    colours = [PALETTE[k % len(PALETTE)] for k in range(classes)]
    return draw_segmentation_masks(canvas, masks, alpha=0.6, colors=colours)


def side_by_side(images: Sequence[Tensor]) -> Tensor:
    """Images [3, H, W] of one height in a row, with white gaps."""
    gap = torch.full((3, images[0].shape[1], 8), 255, dtype=torch.uint8)
    return torch.cat([part for image in images for part in (gap, image)][1:], dim=2)


def save_picture(picture: Tensor, path: Path) -> None:
    """Write an image [3, H, W] as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(path)
