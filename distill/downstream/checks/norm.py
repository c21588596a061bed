"""Batch norm over one value: what a batch of one image is to a layer behind a pooling to 1 × 1."""

from collections.abc import Callable
from typing import Any

from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_world_size
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import BatchSampler, DataLoader


def smallest_batch(loader: DataLoader) -> int:
    """Images in the smallest batch of a process in an epoch."""
    batches = loader.batch_sampler
    size = batches.batch_size
    if getattr(_own(batches), 'drop_last', False) or isinstance(batches.sampler, InfiniteSampler):
        return size
    return len(batches.sampler) % size or size


def _own(batches: Any) -> Any:
    """The config's own sampler of batches, which SeedSamplesHook numbers the batches of."""
    return getattr(batches, 'batches', batches)


def watch_norms(model: nn.Module, images: int, loader: DataLoader) -> Callable[[], None]:
    """Stop a step whose batch norm has, or will have in an epoch's smallest batch, one value a channel.

    ASPP and PSP pool to 1 × 1 before a norm, and so do the attentions of ResNeSt. torch says only at the step itself
    that it 'expected more than 1 value per channel', and that may be the last of an epoch.

    Args:
        model: A detector or segmenter.
        images: Images in the coming batch of this process.
        loader: Training loader.

    Returns:
        Ends the watch.

    Raises:
        ValueError: In the model's forward, from a norm that has one value a channel.
    """
    if smallest_batch(loader) > 1:
        return lambda: None

    def watch(name: str) -> Callable:
        def check(norm: nn.Module, inputs: tuple) -> None:
            x = inputs[0]
            shared = isinstance(norm, nn.SyncBatchNorm) and get_world_size() > 1
            if norm.training and not shared and x.shape[0] == images and x.numel() == x.shape[0] * x.shape[1]:
                raise ValueError(one_value_message(name, loader))

        return check

    handles = [
        module.register_forward_pre_hook(watch(name))
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm)
    ]

    def end() -> None:
        for handle in handles:
            handle.remove()

    return end


def one_value_message(name: str, loader: DataLoader) -> str:
    """The error about a norm with one value a channel."""
    size, count = loader.batch_sampler.batch_size, len(loader.batch_sampler.sampler)
    if size == 1:
        batch, way_out = 'train_dataloader.batch_size=1', 'set it to 2 or more'
    else:
        batch = f'the last batch of {count} images by {size}'
        plain = type(_own(loader.batch_sampler)) is BatchSampler
        place = 'train_dataloader' if plain else 'train_dataloader.batch_sampler'
        way_out = f'set {place}.drop_last=True, or another batch_size'
    return (
        f'{batch} has one image, of which the batch norm model.{name} has one value a channel and no variance; '
        f"{way_out}, or norm_cfg=dict(type='SyncBN') in several processes, or dict(type='GN', num_groups=32)"
    )
