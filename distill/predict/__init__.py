"""Show images to a model: what is in a photo, where it is, and how sure the model is.

`load_predictor` makes a `Predictor` of any model; the command ``robust-backbones predict`` is a thin layer over both.
The names are looked up when they are used: a command finds its images before it waits for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distill.predict.load import load_predictor as load_predictor
    from distill.predict.outputs import Classification as Classification
    from distill.predict.outputs import Detection as Detection
    from distill.predict.outputs import Prediction as Prediction
    from distill.predict.outputs import Segmentation as Segmentation
    from distill.predict.predictor import Predictor as Predictor

PLACES = {
    'load_predictor': 'load',
    'Predictor': 'predictor',
    **dict.fromkeys(('Prediction', 'Classification', 'Detection', 'Segmentation'), 'outputs'),
}
"""The module of each public name."""
__all__ = list(PLACES)


def __getattr__(name: str):
    if name not in PLACES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'{__name__}.{PLACES[name]}'), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *PLACES})
