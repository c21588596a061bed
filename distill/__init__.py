"""Distillation between vision transformers and CNNs, and the robustness benchmarks that judge it.

The calls below are what notebooks and scripts use, and what the commands themselves make. They are imported when they
are asked for: ``import distill`` takes no time and prints nothing::

    import distill
    result = distill.train('deit-mini_shapes', data_root='data/shapes/imagenet', epochs=3)
    distill.evaluate(result.student(), 'data/shapes/imagenet')
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distill.api.cache import TeacherCache as TeacherCache
    from distill.api.cache import cache_teacher as cache_teacher
    from distill.api.evaluate import evaluate as evaluate
    from distill.api.explain import Explanation as Explanation
    from distill.api.explain import explain_pair as explain_pair
    from distill.api.export import export_model as export_model
    from distill.api.probe import ProbeResults as ProbeResults
    from distill.api.probe import probe as probe
    from distill.api.report import Report as Report
    from distill.api.report import write_report as write_report
    from distill.api.results import Results as Results
    from distill.api.run_test import TestResult as TestResult
    from distill.api.run_test import run_test as run_test
    from distill.api.train import train as train
    from distill.api.train_result import TrainResult as TrainResult
    from distill.api.transfer import TransferResult as TransferResult
    from distill.api.transfer import transfer as transfer
    from distill.predict import load_predictor as load_predictor

__version__ = '0.1.0'

_FOUND_IN = {
    'train': 'api.train',
    'TrainResult': 'api.train_result',
    'evaluate': 'api.evaluate',
    'Results': 'api.results',
    'probe': 'api.probe',
    'ProbeResults': 'api.probe',
    'cache_teacher': 'api.cache',
    'TeacherCache': 'api.cache',
    'transfer': 'api.transfer',
    'TransferResult': 'api.transfer',
    'run_test': 'api.run_test',
    'TestResult': 'api.run_test',
    'explain_pair': 'api.explain',
    'Explanation': 'api.explain',
    'export_model': 'api.export',
    'write_report': 'api.report',
    'Report': 'api.report',
    'load_predictor': 'predict',
}
"""The module of each call and of what it returns."""
__all__ = list(_FOUND_IN)


def __getattr__(name: str) -> Any:
    if name not in _FOUND_IN:
        raise AttributeError(f"module 'distill' has no attribute '{name}'; it has {', '.join(_FOUND_IN)}")
    try:
        with warnings.catch_warnings():
            # tqdm's, in a notebook without ipywidgets: the bars of this project do without.
            warnings.filterwarnings('ignore', 'IProgress not found')
            found = getattr(import_module(f'distill.{_FOUND_IN[name]}'), name)
    except ImportError as error:
        from distill.base.extras import missing_extra

        hint = missing_extra(error)
        if hint is None:
            raise
        raise ImportError(f'distill.{name}: {hint}', name=error.name) from error
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
