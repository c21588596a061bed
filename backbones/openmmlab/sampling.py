"""Sampling of anchors and regions that depends on the image and not on the process."""

import hashlib

import torch
from mmengine.logging import MessageHub
from mmengine.registry import TASK_UTILS

__all__ = ['SeededRandomSampler']


@TASK_UTILS.register_module()
class SeededRandomSampler:
    """mmdet's `RandomSampler` with a choice that depends on (seed, iteration, ground truth of the image) alone.

    mmdet draws from the generator of the process: the choice for an image then depends on the images before it in the
    batch, and a run in two processes has another loss than a run of one process with the doubled batch. Without a
    `Runner` there is no seed, and the choice is mmdet's.

    Args:
        **options: Arguments of mmdet's `RandomSampler`.
    """

    def __init__(self, **options):
        self.sampler = TASK_UTILS.build(dict(type='mmdet.RandomSampler', **options))

    def sample(self, assign_result, pred_instances, gt_instances, **kwargs):
        """Choose positive and negative candidates of an image, as mmdet's ``SamplingResult``."""
        candidates = (assign_result, pred_instances, gt_instances)
        hub = MessageHub.get_current_instance()
        seed = hub.get_info('seed')
        if seed is None:
            return self.sampler.sample(*candidates, **kwargs)
        boxes = getattr(gt_instances.bboxes, 'tensor', gt_instances.bboxes)
        key = f'{seed} {hub.get_info("iter")} '.encode() + boxes.cpu().numpy().tobytes()
        number = int.from_bytes(hashlib.sha256(key).digest()[:8], 'big')
        # mmdet permutes on the CPU; torch.manual_seed would seed accelerators too.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(number)
            return self.sampler.sample(*candidates, **kwargs)
