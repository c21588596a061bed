"""Test what a config describes: a student, a detector or a segmenter."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from mmengine.config import Config

from distill.api.brief import BriefRunner, without_library_warnings
from distill.api.checks import PREDICTIONS, check_test
from distill.api.configs import experiment_of
from distill.api.session import call
from distill.base.records import SEVERITIES, choose_kinds
from distill.downstream.artefact import build_tested
from distill.downstream.complete import complete
from distill.downstream.corruption import Cells, measure
from distill.downstream.per_image import KeepPerImage
from distill.downstream.pictures import PictureHook
from distill.downstream.scores import to_results
from distill.downstream.student_config import student_alone
from distill.downstream.testing import augment_test_time, dump_predictions
from distill.results.files import write_results
from distill.results.per_image import per_image_file
from distill.training.experiment import (
    SCOPES,
    check_sections,
    load_config,
    resume_from,
)
from distill.training.runner import Runner


@dataclass(repr=False)
class TestResult:
    """What a test has measured.

    Attributes:
        content: Contents of ``results.json``, which ``docs/results_schema.md`` describes.
        path: The file ``results.json``.
        rank: Number of this process, of which the first has written the file.
    """

    __test__ = False  # pytest would take the class for a test.

    content: dict
    path: Path
    rank: int = 0

    @property
    def scores(self) -> dict[str, float]:
        """Numbers by name: top-1 in percent, mAP and mIoU as fractions."""
        section: dict = next(
            (self.content[key] for key in ('scores', 'detection', 'segmentation') if key in self.content), {}
        )
        return {key: value for key, value in section.items() if isinstance(value, float)}

    @property
    def corruption(self) -> dict[str, dict[str, float]]:
        """For each score under corruption ``P``, ``mPC`` and ``rPC_pct``; empty if none was measured."""
        section = self.content.get('detection') or self.content.get('segmentation') or {}
        found = section.get('corruption', {})
        return {name: score for name, score in found.items() if isinstance(score, dict) and 'mPC' in score}

    def __repr__(self) -> str:
        return f"<TestResult '{self.path}': {', '.join(f'{name} {v:.4g}' for name, v in self.scores.items())}>"

    def _repr_html_(self) -> str:
        """The scores as a table, for notebooks."""
        rows = ''.join(f'<tr><td>{escape(name)}</td><td>{value:.4g}</td></tr>' for name, value in self.scores.items())
        return f'<table><tr><th>score</th><th></th></tr>{rows}</table><code>{escape(str(self.path))}</code>'


@call
def run_test(
    config: str | os.PathLike | Config | Mapping,
    checkpoint: str | os.PathLike = 'auto',
    data_root: str | os.PathLike | None = None,
    work_dir: str | os.PathLike | None = None,
    *,
    out: str | os.PathLike | None = None,
    show_dir: str | os.PathLike | None = None,
    show_interval: int = 10,
    tta: bool = False,
    corruptions: str | Sequence[str] = (),
    severities: Sequence[int] = SEVERITIES,
    corruption_limit: int | None = None,
    corruption_seed: int = 0,
    per_image: bool = False,
    launcher: str = 'none',
    verbose: bool = False,
    cfg_options: Mapping[str, Any] | None = None,
    **overrides: Any,
) -> TestResult:
    """Test a student, a detector or a segmenter.

    The same as ``robust-backbones test``, with the same scores.

    Args:
        config: A name, a path or the config itself, see `train`.
        checkpoint: Checkpoint of a run, or ``auto`` for the newest of the work directory; or an exported detector or
            segmenter, which is tested in its own engine.
        data_root: Folder of the data, in place of the config's.
        work_dir: Folder of logs and of ``results.json``.
        out: File for the scores (.json) in place of the work directory's ``results.json``, or for the predictions
            (.pkl).
        show_dir: Folder for pictures of predictions beside the ground truth.
        show_interval: Draw every so many-th image.
        tta: Test with the config's ``tta_model`` and ``tta_pipeline``.
        corruptions: Test under corruption too: ``benchmark``, ``all``, ``noise``, ``blur``, ``weather``, ``digital``,
            ``holdout``, or kinds by name.
        severities: Of 1 to 5.
        corruption_limit: Test so many images only, evenly chosen.
        corruption_seed: Seed of the corruptions.
        per_image: Keep what a detector or segmenter found on each image, in the folder ``per_image`` beside the
            scores: a report compares two such tests in pairs.
        launcher: How the processes were started.
        verbose: Print all that goes to the log file, the environment and the config too.
        cfg_options: Settings in place of the config's, as `train` takes them.
        **overrides: Settings in place of the config's, as `train` takes them.

    Returns:
        The scores.

    Raises:
        FileNotFoundError: The config, the data or the checkpoint does not exist.
        ValueError: The checkpoint does not fit, or a setting is none.
    """
    kinds = [corruptions] if isinstance(corruptions, str) else list(corruptions)
    file = None if out is None else Path(out)
    pictures_to = None if show_dir is None else Path(show_dir)
    check_test(file, pictures_to, show_interval, kinds, severities, corruption_limit, corruption_seed)
    experiment = experiment_of(config, data_root, work_dir, {**(cfg_options or {}), **overrides}, launcher)
    settings, notes = load_config(experiment)
    check_sections(settings, 'a test', 'test_dataloader.dataset', 'test_evaluator')
    notes += student_alone(settings)
    settings.load_from = resume_from(os.fspath(checkpoint), settings.work_dir)[1]
    if settings.load_from is None:
        raise FileNotFoundError(f"'{settings.work_dir}' has no checkpoint; train first or name one")
    predictions = file if file is not None and file.suffix in PREDICTIONS else None
    scores_to = Path(settings.work_dir) / 'results.json' if predictions or file is None else file
    if tta:
        augment_test_time(settings)
    notes += complete(settings)
    if kinds:
        cells = Cells(choose_kinds(kinds), tuple(severities), corruption_seed, corruption_limit)
        return _test_corrupted(settings, cells, scores_to, notes, per_image)
    if predictions is not None:
        temporary = predictions.with_name(f'.{predictions.stem}.{os.getpid()}.tmp.pkl')
        dump_predictions(settings, temporary)
    hooks = [PictureHook(str(pictures_to), show_interval)] if pictures_to is not None else []
    with without_library_warnings(verbose):
        runner = build_tested(settings, hooks, notes, Runner if verbose else BriefRunner)
        if per_image:
            KeepPerImage(runner).path = per_image_file(scores_to.parent)
        scores = runner.test()
    pictures = sorted(pictures_to.glob('*.png')) if pictures_to is not None else []
    results = to_results(runner, scores, settings, pictures, scores_to.parent, per_image)
    if runner.rank == 0:
        if predictions is not None:
            os.replace(temporary, predictions)
        write_results(scores_to, results)
    return TestResult(results, scores_to, runner.rank)


def _test_corrupted(config: Config, cells: Cells, out: Path, notes: list[str], per_image: bool) -> TestResult:
    """Test on clean images and under corruption.

    Args:
        config: A detector's or segmenter's config, with ``load_from``.
        cells: The corruptions.
        out: File for the scores; the scores of each cell go beside it.
        notes: Lines for the log.
        per_image: Whether to keep what was found on each image.

    Raises:
        ValueError: The config is no detector's or segmenter's.
    """
    if config.get('default_scope') not in SCOPES:
        raise ValueError(f'{config.filename} is no detector or segmenter; test a student with tools/robustness.py')
    runner, scores, corruption = measure(config, cells, out.parent, notes, per_image)
    results = to_results(runner, scores, config, [], out.parent, per_image)
    section = next(key for key in ('detection', 'segmentation') if key in results)
    results[section]['corruption'] = corruption
    if runner.rank == 0:
        write_results(out, results)
    return TestResult(results, out, runner.rank)
