"""The accuracy of a detector's or segmenter's artefact: that of the test of its config."""

import os
from contextlib import AbstractContextManager

from mmengine.dataset import pseudo_collate
from mmengine.evaluator import Evaluator
from mmengine.registry import DATASETS, DefaultScope

from distill.base.packaged import find
from distill.downstream.artefact import check_artefact_task, predict
from distill.downstream.checks.model import check_order
from distill.downstream.complete import complete
from distill.downstream.scores import main_scores, task_scores
from distill.engines import Session
from distill.engines.artefact import Manifest
from distill.engines.quiet import caught_output
from distill.engines.scenes import show
from distill.export.quantise.scores import Score
from distill.training.experiment import Experiment, check_sections, load_config
from distill.training.runner import named_data


def test_score(config: str | os.PathLike, data_root: str | os.PathLike | None, manifest: Manifest) -> Score:
    """A score: box mAP or mIoU of a config's test, in percent.

    Args:
        config: The config that the artefact was exported with, as a path or a name.
        data_root: Folder of the data in place of the config's.
        manifest: Of the artefact.

    Raises:
        FileNotFoundError: The config or the data do not exist.
        ValueError: The config is of another task or of other classes than the artefact.
    """
    root = None if data_root is None else os.fspath(data_root)
    settings, _ = load_config(Experiment(find(os.fspath(config)), root))
    check_artefact_task(manifest, settings, 'the artefact')
    check_sections(settings, 'an accuracy drop', 'test_dataloader.dataset', 'test_evaluator')
    complete(settings)

    def scope() -> AbstractContextManager:
        return DefaultScope.overwrite_default_scope(settings.default_scope)

    with scope(), caught_output():
        with named_data(settings.test_dataloader.dataset):
            dataset = DATASETS.build(settings.test_dataloader.dataset)
        evaluator = Evaluator(settings.test_evaluator)
    check_order(manifest.classes or [], 'the artefact', list(dataset.metainfo['classes']), 'metainfo.classes')
    evaluator.dataset_meta = dataset.metainfo

    def score(session: Session, of: Manifest) -> float:
        with scope(), caught_output():  # The metrics print their tables.
            for index in range(len(dataset)):
                data = pseudo_collate([dataset[index]])
                found = predict(data, lambda image, size: show(session, of, image, size))
                evaluator.process(data_samples=found, data_batch=data)
            scores = evaluator.evaluate(len(dataset))
        return 100 * task_scores(scores, settings)[main_scores(settings)[0]]

    return score
