"""Experiment trackers, through mmengine's visualisation backends: one run of a tracker for one run of training.

``train --track wandb`` puts the backend into the config, unless it names it already, and a hook beside it. A run that
is resumed goes on under the same run of the tracker, whose name stands in ``trackers.json`` in the work directory.
"""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mmengine
from mmengine.config import Config
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from distill.base.extras import TRACKERS
from distill.base.files import read_json, to_plain, write_json
from distill.base.processes import default_device
from distill.results.provenance import provenance

NOTE = 'trackers.json'
BACKENDS = dict(
    zip(TRACKERS, ('TensorboardVisBackend', 'WandbVisBackend', 'MLflowVisBackend', 'AimVisBackend'), strict=True)
)
"""mmengine's backend of each tracker."""

OF_ONE_START = ('resume', 'load_from', 'launcher', 'visualizer', 'vis_backends')
"""Settings that another start of the same run may have otherwise; MLflow takes a parameter once."""


class Place(NamedTuple):
    """Where a run is tracked.

    Attributes:
        work_dir: Absolute path of the work directory.
        run: The tracker's own name of the run that is gone on with; None for a new one.
        keys: What the config sets.
    """

    work_dir: Path
    run: str | None
    keys: Sequence[str]


def track(config: Config, names: Sequence[str], resume: bool) -> list[Hook]:
    """Put the backends of trackers into a config.

    Args:
        config: A config of any task, which is changed in place.
        names: Of ``TRACKERS``.
        resume: Whether to go on under the runs that the work directory tells of.

    Returns:
        The hook that the runner takes with it; none without trackers.
    """
    if not names:
        return []
    work_dir = Path(config.work_dir).absolute()
    known = (
        read_json(work_dir / NOTE, 'remove it, to track the run as a new one') if (work_dir / NOTE).is_file() else {}
    )
    runs: Mapping[str, str] = known if resume and isinstance(known, Mapping) else {}
    visualizer = config.get('visualizer') or dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])
    backends = list(visualizer.get('vis_backends') or [])
    for name in dict.fromkeys(names):
        place = Place(work_dir, runs.get(name), list(config))
        backend = next((one for one in backends if _kind(one) == BACKENDS[name]), None)
        if backend is None:
            backend = dict(type=BACKENDS[name])
            backends.append(backend)
        SETTINGS[name](backend, place)
    visualizer['vis_backends'] = backends
    config.visualizer = visualizer
    return [TrackingHook(list(dict.fromkeys(names)))]


def _kind(backend: Mapping) -> str:
    kind = backend.get('type', '')
    return getattr(kind, '__name__', str(kind)).rpartition('.')[2]


def _tensorboard(backend: dict, place: Place) -> None:
    # One folder for all starts of a run: TensorBoard takes a folder for a run.
    backend.setdefault('save_dir', str(place.work_dir / 'tensorboard'))


def _wandb(backend: dict, place: Place) -> None:
    options = backend.setdefault('init_kwargs', {})
    options.setdefault('name', place.work_dir.name)
    options.setdefault('dir', str(place.work_dir))
    options['allow_val_change'] = True
    if place.run is not None:
        options |= {'id': place.run, 'resume': 'allow'}


def _mlflow(backend: dict, place: Place) -> None:
    # The backend's own default is a folder for each start, in a format that MLflow writes no more.
    own = f'sqlite:///{place.work_dir / "mlflow.db"}'
    address = backend.setdefault('tracking_uri', os.environ.get('MLFLOW_TRACKING_URI') or own)
    if address == own:
        backend.setdefault('artifact_location', (place.work_dir / 'mlartifacts').as_uri())
        # The files of the work directory are beside the database; copies of copies would be made at each start.
        backend.setdefault('artifact_suffix', ())
    backend.setdefault('exp_name', os.environ.get('MLFLOW_EXPERIMENT_NAME', 'robust-backbones'))
    if place.run is None:
        backend.setdefault('run_name', place.work_dir.name)
        backend.setdefault('tracked_config_keys', [key for key in place.keys if key not in OF_ONE_START])
    else:
        backend['tracked_config_keys'] = []
        os.environ['MLFLOW_RUN_ID'] = place.run


def _aim(backend: dict, place: Place) -> None:
    options = backend.setdefault('init_kwargs', {})
    options.setdefault('experiment', place.work_dir.name)
    options.setdefault('repo', str(place.work_dir))
    if place.run is not None:
        options['run_hash'] = place.run


SETTINGS = {'tensorboard': _tensorboard, 'wandb': _wandb, 'mlflow': _mlflow, 'aim': _aim}
"""Sets what a backend needs, as far as the config does not: that a run has a name, a place, and goes on."""

RUNS = {
    'wandb': lambda experiment: experiment.run.id,
    'mlflow': lambda experiment: experiment.active_run().info.run_id,
    'aim': lambda experiment: experiment.hash,
}
"""A tracker's own name of its run."""


def _log_environment(name: str, experiment: Any, environment: dict) -> None:
    if name == 'tensorboard':
        lines = (f'- {key}: {value}' for key, value in environment.items())
        experiment.add_text('environment', '\n'.join(lines))
    elif name == 'wandb':
        experiment.config.update({'environment': environment}, allow_val_change=True)
    elif name == 'mlflow':
        experiment.log_dict(environment, 'environment.json')
    else:
        experiment['environment'] = environment


@HOOKS.register_module()
class TrackingHook(Hook):
    """Tell trackers where a run was made and what came out, and note the names of their runs.

    Args:
        trackers: Of ``TRACKERS``; their backends are in the config.

    Attributes:
        scores: The newest scores of a validation.
    """

    def __init__(self, trackers: Sequence[str]):
        self.trackers = trackers
        self.scores: dict[str, float] = {}

    @master_only
    def before_train(self, runner) -> None:
        """Note the names of the runs, and log the environment."""
        runs = {}
        for name, backend in self._backends(runner):
            _log_environment(name, backend.experiment, environment(runner.seed))
            if name in RUNS:
                runs[name] = RUNS[name](backend.experiment)
        write_json(Path(runner.work_dir) / NOTE, runs)

    @master_only
    def after_val_epoch(self, runner, metrics: dict | None = None) -> None:
        """Keep the scores."""
        scores = {name: to_plain(value) for name, value in (metrics or {}).items()}
        self.scores = {name: float(value) for name, value in scores.items() if isinstance(value, (int, float))}

    @master_only
    def after_train(self, runner) -> None:
        """Log the scores of the last validation as final ones, and the best student's."""
        final = {f'final/{name}': value for name, value in self.scores.items()}
        for hook in runner.hooks:
            metric, best = getattr(hook, 'metric', None), getattr(hook, 'best', None)
            if type(hook).__name__ == 'SaveStudentHook' and best is not None and best > float('-inf'):
                final[f'final/best_{metric}'] = float(best)
        for _, backend in self._backends(runner):
            if final:
                backend.add_scalars(final, step=runner.iter)

    def _backends(self, runner):
        """Name and backend of each tracker."""
        there = {type(one).__name__: one for one in runner.visualizer._vis_backends.values()}
        return [(name, there[BACKENDS[name]]) for name in self.trackers if BACKENDS[name] in there]


def environment(seed: int | None) -> dict:
    """Where a run is made: as results tell it, with the versions that only training has."""
    found = dict(provenance(seed, default_device()))
    versions = {**found['versions'], 'mmengine': mmengine.__version__}
    # torch's version is a text of a class of its own, which not every tracker takes.
    return json.loads(json.dumps({**found, 'versions': versions, 'system': platform.platform()}))
