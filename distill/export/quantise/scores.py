"""The accuracy that an int8 artefact may not lose: what `--accuracy-drop` is measured by."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from distill.base.folders import ClassFolders
from distill.base.images import read_image
from distill.engines import Session
from distill.engines.artefact import Manifest
from distill.engines.portions import run_images
from distill.engines.scenes import DETECTION, SEGMENTATION
from distill.export.quantise.calibration import as_input, classifier_view
from distill.export.quantise.sensitivity import BATCH

Score = Callable[[Session, Manifest], float]
"""Judges an opened artefact: an accuracy in percent."""


def score_of(labelled: str | os.PathLike | None, config: str | os.PathLike | None, manifest: Manifest) -> Score:
    """What judges an artefact: top-1 of a classifier, the test of its config of a detector or segmenter.

    Args:
        labelled: See `Options`.
        config: See `Options`.
        manifest: Of the artefact.

    Raises:
        FileNotFoundError: The config or the labelled images do not exist.
        ValueError: What is needed is not given, or does not fit the artefact.
    """
    if manifest.task in (DETECTION, SEGMENTATION):
        if config is None:
            raise ValueError(
                f"the accuracy drop of a file of {manifest.task} is measured by its config's test; give the config"
            )
        from distill.export.quantise.scene_scores import test_score

        return test_score(config, labelled, manifest)
    if config is not None:
        raise ValueError(f'a config is for a detector or segmenter, and this file is of {manifest.task}; leave it out')
    if labelled is None:
        raise ValueError('an accuracy drop is measured on labelled images; give their folder')
    return top1_on(labelled, manifest)


def top1_on(folder: str | os.PathLike, manifest: Manifest) -> Score:
    """A score: top-1 accuracy in percent on the images of class folders.

    Raises:
        FileNotFoundError: The folder does not exist.
        ValueError: The artefact is no classifier or does not tell its classes, or a folder is none of them.
    """
    if manifest.task != 'classification' or manifest.classes is None:
        raise ValueError('top-1 is measured of a classifier that tells its classes; export it with class names')
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"folder of labelled images '{folder}' does not exist; correct the path")
    found, place = ClassFolders.read(folder), {name: k for k, name in enumerate(manifest.classes)}
    unknown = [name for name in found.classes if name not in place]
    if unknown:
        raise ValueError(
            f"class folder '{found.root / unknown[0]}' is no class of the artefact ({len(unknown)} such); give a "
            f'folder of {manifest.classes[0]}, …'
        )
    show = classifier_view(manifest)
    files = [(found.root / path, place[name]) for name in found.classes for path in sorted(found.images[name])]

    def score(session: Session, of: Manifest) -> float:
        hits = 0
        for start in range(0, len(files), BATCH):
            part = files[start : start + BATCH]
            images = np.stack([show(read_image(path)[0]) for path, _ in part])
            logits = run_images(session, as_input(images, of))[0]
            hits += int((logits.argmax(axis=1) == [label for _, label in part]).sum())
        return 100 * hits / len(files)

    return score
