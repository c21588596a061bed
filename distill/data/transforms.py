"""timm's transforms by their arguments, with the one that `timm.data.create_transform` does not pass on."""

from collections.abc import Callable, Mapping
from typing import Any

from timm.data import create_transform
from timm.data.transforms_factory import transforms_imagenet_train

FORCE = 'force_color_jitter'


def view_transform(options: Mapping[str, Any]) -> Callable:
    """Make the transform of a view.

    Args:
        options: Arguments of timm's `create_transform`. Beside ``auto_augment`` timm leaves the colour jitter out;
            ``force_color_jitter=True`` keeps it, as ResNeSt's recipe does.

    Raises:
        ValueError: ``force_color_jitter`` is asked for outside of training.
    """
    options = {'use_prefetcher': True, **options}
    if not options.pop(FORCE, False):
        return create_transform(**options)
    if not options.pop('is_training', False):
        raise ValueError(f'transform.{FORCE} is for training; set transform.is_training=True, or drop it')
    size = options.pop('input_size', 224)
    # The default of the function that is bypassed; that of the one below draws a mode for each image.
    options.setdefault('interpolation', 'bilinear')
    return transforms_imagenet_train(size if isinstance(size, int) else tuple(size[-2:]), **{FORCE: True}, **options)
