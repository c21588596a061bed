"""The accuracy of a detector's or segmenter's artefact: that of the test of its config."""

import os

from distill.downstream.artefact import check_artefact_task
from distill.engines import Session
from distill.engines.artefact import Manifest
from distill.engines.scenes import show
from distill.export.quantise.scores import Score
from distill.export.scene_metrics import SceneMetrics, read_test


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
    settings = read_test(config, data_root)
    check_artefact_task(manifest, settings, 'the artefact')
    test = SceneMetrics(settings, manifest.classes or [], 'the artefact')

    def score(session: Session, of: Manifest) -> float:
        found = test.scores(lambda place, image, size: show(session, of, image, size))
        return 100 * next(iter(found.values()))

    return score
