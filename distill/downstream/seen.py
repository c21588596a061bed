"""Which corruptions a tested detector or segmenter saw in training."""

from collections.abc import Mapping
from typing import Any

from backbones.weights.checkpoint_file import read_checkpoint
from distill.engines import is_artefact
from distill.engines.scenes import scene_manifest
from distill.training.seen import SEEN


def seen_in_training(path: str) -> list[str]:
    """Kinds of corruption, and mixtures, that a network saw, as its run has noted in the checkpoint.

    Args:
        path: A checkpoint, or an artefact that was exported from one.
    """
    told: Any = scene_manifest(path).details if is_artefact(path) else read_checkpoint(path).get('meta')
    found = told.get(SEEN) if isinstance(told, Mapping) else None
    return [str(kind) for kind in found or ()]
