"""The table of docs/timm_backbones.md: how one model of each of timm's modules becomes a backbone of any image size.

python -m backbones.openmmlab.models_page > docs/timm_backbones.md
"""

from timm.models._registry import _module_to_models

from backbones.meta import without_storage
from backbones.openmmlab.input_sizes import Fitted, Native, Tiled
from backbones.openmmlab.timm_backbone import TimmBackbone

__all__ = ['examples', 'row']

SMALL = ('tiny', 'nano', 'pico', 'atto', 'femto', 'small', '_s', '18', 'xs', 'b0', '_t', '26', '050')
"""Parts of the names of small models."""
HEADER = """# timm's models as backbones

`TimmBackbone` takes images of any size with these models; its maps have ceil(size / stride) rows and columns. One model
of each of timm's modules and of this project's, by `python -m backbones.openmmlab.models_page`. How a model takes any
size is found out when it is built; other models of a module may need another way.

- *padded to n*: zeros are added to the normalised image right and below, up to a multiple of n, and each map is cut.
- *margin m*: zeros are added on all four sides too, since the model's convolutions do not pad and its maps would be
  smaller than their strides say; of each map, the middle is taken.
- *fitted*: timm builds the model for one size. Position embeddings and biases are resampled as timm resamples
  pretrained weights, for each image; grids and windows become those that timm gives a model of this size. *Square*: the
  model sees square images only.
- *tiles of n*: weights hold one number for each pair of positions. The model sees tiles of its own size, each for
  itself.

At its own size, a model without margin sees the image as it is and returns what timm's `forward_intermediates` returns.

| module | model | any size | strides | channels |
| --- | --- | --- | --- | --- |
"""


def examples() -> dict[str, str]:
    """A small model of each module."""
    chosen = {}
    for module, names in sorted(_module_to_models.items()):
        small = [name for name in sorted(names) if any(part in name for part in SMALL)]
        chosen[module] = min(small or sorted(names), key=len)
    return chosen


def row(module: str, model: str) -> str:
    """The line of a model in the table."""
    try:
        with without_storage():
            backbone = _build(model)
    except ValueError as error:
        return f'| {module} | {model} | refused: {str(error).partition("; ")[0].partition(": ")[2]} | | |'
    strides, channels = list(backbone.strides), list(backbone.channels)
    if len(set(zip(strides, channels, strict=True))) == 1:  # all maps of a plain transformer are alike
        strides, channels = strides[:1], channels[:1]
    lists = ' | '.join(', '.join(map(str, values)) for values in (strides, channels))
    return f'| {module} | {model} | {_describe(backbone._way)} | {lists} |'


def _build(model: str) -> TimmBackbone:
    try:
        return TimmBackbone(model)
    except ValueError as error:
        if 'out_indices' not in str(error):
            raise
        return TimmBackbone(model, out_indices=(-1,))


def _describe(way: Native) -> str:
    if isinstance(way, Tiled):
        return f'tiles of {way.divisor}'
    parts = [f'padded to {way.divisor}']
    if isinstance(way, Fitted):
        parts.insert(0, 'fitted')
        parts += ['square'] if way.square else []
    return ', '.join(parts + ([f'margin {way.margin}'] if way.margin else []))


def main() -> None:
    """Print the page."""
    print(HEADER + '\n'.join(row(module, model) for module, model in examples().items()))


if __name__ == '__main__':
    main()
