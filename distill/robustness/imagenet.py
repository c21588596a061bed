"""The label spaces of ImageNet's benchmarks: 1,000 classes, the 200 of -A and of -R, and 16 entry-level categories."""

from functools import lru_cache
from importlib.resources import files

_CATEGORIES = {
    'airplane': '404',
    'bear': '294-297',
    'bicycle': '444 671',
    'bird': '8 10-16 18-20 22-24 80-83 87-96 98-100 127-133 135-145',
    'boat': '472 554 625 814 914',
    'bottle': '440 720 737 898-899 901 907',
    'car': '436 511 817',
    'cat': '281-286',
    'chair': '423 559 765 857',
    'clock': '409 530 892',
    'dog': '152-191 193-203 205-226 228-241 243-250 252-257 259 261-263 265-268',
    'elephant': '385-386',
    'keyboard': '508 878',
    'knife': '499',
    'oven': '766',
    'truck': '555 569 656 675 717 734 864 867',
}
"""Which of ImageNet's classes, counted from 0 in the order of their WordNet ids, make up a category: Geirhos et al.,
"ImageNet-trained CNNs are biased towards texture", ICLR 2019 (human_categories.py of rgeirhos/texture-vs-shape)."""


@lru_cache
def synsets(subset: str = '') -> tuple[str, ...]:
    """List the WordNet ids of ImageNet's classes in their order, from timm's lists.

    Args:
        subset: '' for all 1,000; 'a' or 'r' for the 200 of ImageNet-A or -R.
    """
    if not subset:
        # Not at the top, so that a command's --help can list the suites without waiting for timm.
        from timm.data import ImageNetInfo

        return tuple(ImageNetInfo().label_names())
    return tuple(files('timm.data').joinpath(f'_info/imagenet_{subset}_synsets.txt').read_text().split())


def categories() -> dict[str, list[int]]:
    """List the indices of the ImageNet classes of each of the 16 categories of cue conflict."""
    indices = {}
    for name, text in _CATEGORIES.items():
        bounds = [part.partition('-') for part in text.split()]
        indices[name] = [i for low, _, high in bounds for i in range(int(low), int(high or low) + 1)]
    return indices
