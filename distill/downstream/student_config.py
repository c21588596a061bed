"""A distilled detector's or segmenter's config without its distillation, for whatever does not train."""

from mmengine.config import Config

from distill.training.runner import type_name

DISTILLER = 'DenseDistiller'
"""The type of a model that distils."""
PART = 'distillation'
"""The part of a distilled model that is not the student: names of its weights begin so."""


def distils(config: Config) -> bool:
    """Whether a config distils a detector or segmenter."""
    return type_name(config.get('model')) == DISTILLER


def student_alone(config: Config) -> list[str]:
    """Leave the student alone in a config that distils: tests, predictions and exports need no teacher.

    Args:
        config: A config of any task, which is changed in place if it distils.

    Returns:
        A line for the log if it does.
    """
    if not distils(config):
        return []
    model = config.model
    student = model.student
    if model.get('data_preprocessor') is not None:
        student.setdefault('data_preprocessor', model.data_preprocessor)
    config.model = student
    return ['the model is the student of model.student alone, which needs no teacher']


def student_weights(weights: dict) -> dict:
    """The student's weights among those of a distilled model, by the names that they have in the student's config."""
    return {name: value for name, value in weights.items() if not name.startswith(f'{PART}.')}
