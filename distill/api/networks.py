"""Teachers and students as a call takes them: names, paths, and networks of a user's own."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from mmengine.config import Config
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import nn

from backbones.loading import LoadedModel
from backbones.sources import own
from backbones.sources.own import OwnModel
from backbones.sources.source import Source
from distill.teachers.build import OF_TRAINING
from distill.teachers.own import own_sha256
from distill.training.experiment import trains_classifier
from distill.training.options import holdable, value_at

KNOWN = ('model', 'mean', 'std', 'classes', 'num_classes', 'input_size')
"""What may be said of a network of a user's own."""
OF_TEACHERS = ('weight', 'cache')
"""What a config says of any teacher besides."""

OF_FEATURES = ('name', 'pooling', 'size', *OF_TRAINING)
"""What a config says of a teacher of features that holds for another network in its place."""
OF_OWN_FEATURES = (*OF_FEATURES, 'layer', 'cache')
"""What is said of a teacher of features that is a network of a user's own, beside what describes the network."""

Given = str | os.PathLike | nn.Module | LoadedModel | Mapping
"""One model, as a call takes it: see `set_teacher`."""


@contextmanager
def networks(config: Config, student: Given | None, teacher: Given | Sequence[Given] | None) -> Iterator[list[str]]:
    """Put the student and the teacher of a call into a config, for the time of a block.

    Args:
        config: Config of a distillation, which is changed in place.
        student: As `set_student` takes it; None for the config's.
        teacher: As `set_teacher` takes it, or a list for the mean of several; None for the config's.

    Yields:
        Lines for the log.

    Raises:
        ValueError: The config trains no student, or a network cannot be used as it is given.
    """
    with ExitStack() as stack:
        notes: list[str] = []
        if (student, teacher) != (None, None) and not trains_classifier(config):
            raise ValueError(
                f'{config.filename} trains no classifier, which student and teacher are; leave them out, or set '
                'model.student and model.teacher'
            )
        if student is not None:
            set_student(config, student, stack, notes)
        if teacher is not None and 'teachers' in config.model:
            set_feature_teachers(config, teacher, stack, notes)
        elif teacher is not None:
            several = isinstance(teacher, (list, tuple))
            each: Any = teacher if several else [teacher]
            found = [set_teacher(config, one, stack, notes) for one in each]
            config.model.teacher = found if several else found[0]
        yield notes


def set_student(config: Config, student: Given, stack: ExitStack, notes: list[str]) -> None:
    """Put a student into a config.

    A network is copied, and the copy is trained: the network stays as it is, and a second call starts where the first
    has started. Its mean and standard deviation, if they are given, are those that the views are normalised by.

    Args:
        config: Config of a distillation, which is changed in place.
        student: timm's name, which gets the number of classes of the config's student; a file of weights with a
            record; a network, or a dictionary with a network under ``model``; or a config's ``model.student``.
        stack: Keeps a network while it is used.
        notes: Lines for the log, to which this function adds.
    """
    network, said = _network(student)
    if network is None:
        settings = said
        if isinstance(student, (str, os.PathLike)):
            settings, is_named = _by_source(student)
            count = value_at(config, 'model.student.num_classes')
            if is_named and count is not None:
                settings['num_classes'] = count
                notes.append(f'student: {student} with num_classes={count} and random weights')
        config.model.student = settings
        return
    described = describe(network, said, config, 'student')
    copied: Any = own.copy_on_cpu(network)
    if not hasattr(copied, 'num_classes'):
        copied.num_classes = described.num_classes
    described.network = copied
    name = stack.enter_context(own.kept(described))
    config.model.student = {'model': name}
    if said.get('mean') is not None or said.get('std') is not None:
        preprocessor = config.model.setdefault('data_preprocessor', dict(type='ViewPreprocessor'))
        preprocessor.mean, preprocessor.std = list(described.mean), list(described.std)
    notes.append(f'student: a copy of the {type(network).__name__}, {described.num_classes} classes')


def set_teacher(config: Config, teacher: Given, stack: ExitStack, notes: list[str]) -> dict:
    """The settings of ``model.teacher`` for a teacher of a call.

    A network is used as it is: it runs in eval mode, without gradients, on the device of the student, and is given back
    as it was.

    Args:
        config: Config of a distillation.
        teacher: timm's name, with pretrained weights; a file or another source of `backbones.load`; a network, or a
            dictionary with a network under ``model`` and any of ``mean``, ``std``, ``classes``, ``num_classes``,
            ``input_size`` (height and width in pixels that it is shown); or a config's ``model.teacher``.
        stack: Keeps a network while it is used.
        notes: Lines for the log, to which this function adds.
    """
    network, said = _network(teacher)
    if network is None:
        if not isinstance(teacher, (str, os.PathLike)):
            return said
        settings, is_named = _by_source(teacher)
        return {**settings, 'pretrained': True} if is_named else settings
    others = {key: said[key] for key in OF_TEACHERS if key in said}
    described = describe(network, {key: said[key] for key in said if key not in others}, config, 'teacher')
    stack.enter_context(own.unaltered(network))
    name = stack.enter_context(own.kept(described))
    size = '' if described.input_size is None else ', shown {} x {} pixels'.format(*described.input_size)
    notes.append(f'teacher: the {type(network).__name__} itself, {described.num_classes} classes{size}')
    if said.get('mean') is None and not hasattr(network, 'pretrained_cfg'):
        notes.append('teacher: shown images in the normalisation of the student, since its mean and std are not given')
    return {'model': name, 'weights_sha256': own_sha256(name), **holdable(others, 'teacher')}


def set_feature_teachers(config: Config, teacher: Given | Sequence[Given], stack: ExitStack, notes: list[str]) -> None:
    """Put other networks in the place of the teachers of a config whose teachers give features.

    Their losses, their weights and how their features are pooled stay as the config has them; what belongs to an old
    network alone, its arguments and its cache, does not.

    Args:
        config: Config of a distillation with ``model.teachers``, which is changed in place.
        teacher: As `_feature_settings` takes it; a list with one for each teacher of the config, in their order.
        stack: Keeps a network while it is used.
        notes: Lines for the log, to which this function adds.

    Raises:
        ValueError: The config has more or fewer teachers, or a network cannot be used as it is given.
    """
    teachers = config.model.teachers
    given: Any = teacher if isinstance(teacher, (list, tuple)) else [teacher]
    if len(teachers) != len(given):
        names = ', '.join(str(one.get('name')) for one in teachers)
        raise ValueError(
            f'{config.filename} has the teachers {names}; give as many, in this order, or set model.teachers'
        )
    found = []
    for before, one in zip(teachers, given, strict=True):
        stays = {key: value for key, value in before.items() if key in OF_FEATURES}
        found.append({**stays, **_feature_settings(config, one, stays, stack, notes)})
    config.model.teachers = found


def _feature_settings(config: Config, given: Given, stays: Mapping, stack: ExitStack, notes: list[str]) -> dict:
    """The settings that put another network in the place of a teacher of features.

    Args:
        config: Config of a distillation.
        given: timm's name, with pretrained weights; a file or another source of `backbones.load`; a network, or a
            dictionary with a network under ``model``, what describes it as in `set_teacher`, and any of
            `OF_OWN_FEATURES`; or a dictionary with settings of a teacher of ``model.teachers``.
        stays: What holds for the network too of what the config says of the one before.
        stack: Keeps a network while it is used.
        notes: Lines for the log, to which this function adds.
    """
    network, said = _network(given, OF_OWN_FEATURES)
    name = stays.get('name')
    if network is None:
        settings = said
        if isinstance(given, (str, os.PathLike)):
            settings, is_named = _by_source(given)
            settings |= {'pretrained': True} if is_named else {}
        notes.append(f"teacher '{name}': {settings.get('model') or settings.get('checkpoint')}")
        return settings
    others = {key: said[key] for key in OF_OWN_FEATURES if key in said}
    size = others.pop('size', None) or said.get('input_size') or stays.get('size')
    said = {key: said[key] for key in KNOWN if key in said} | {'input_size': size}
    described = describe(network, said, config, 'teacher')
    stack.enter_context(own.unaltered(network))
    kept = stack.enter_context(own.kept(described))
    shown = {} if described.input_size is None else {'size': described.input_size}
    notes.append(f"teacher '{name}': the {type(network).__name__} itself")
    return {'model': kept, 'weights_sha256': own_sha256(kept), **shown, **holdable(others, 'teacher')}


def _by_source(given: str | os.PathLike) -> tuple[dict, bool]:
    """The settings of a model that is named as `backbones.load` reads names, and whether the name is timm's alone."""
    source = Source.parse(given)
    is_named = source.path is None and source.repo is None
    return {'model' if is_named else 'checkpoint': source.text}, is_named


def _network(given: Given, others: Sequence[str] = OF_TEACHERS) -> tuple[nn.Module | None, dict]:
    """The network among what is given for a model, if there is one, and what is said of the model.

    Args:
        given: The model.
        others: What may be said of it beside what describes a network.
    """
    if isinstance(given, LoadedModel):
        record = given.record
        said = dict(mean=record.mean, std=record.std, classes=given.classes, input_size=given.fixed_size)
        return given.network, said
    if isinstance(given, nn.Module):
        return given, {}
    if isinstance(given, Mapping) and isinstance(given.get('model'), nn.Module):
        said = {key: value for key, value in given.items() if key != 'model'}
        if unknown := [key for key in said if key not in (*KNOWN, *others)]:
            raise ValueError(
                f"'{unknown[0]}' is nothing that a network is described by; choose from {', '.join(KNOWN)}"
            )
        return given['model'], said
    if isinstance(given, Mapping):
        return None, holdable(given, 'model')
    if isinstance(given, (str, os.PathLike)):
        return None, {}
    raise ValueError(
        f'a model is given as {given!r}; give a name, a path, a network, or a dict with a network as model'
    )


def describe(network: nn.Module, said: Mapping[str, Any], config: Config, role: str) -> OwnModel:
    """Find out what a network is, from what is said of it and from its answer to one image.

    Args:
        network: The network.
        said: What the user says of it.
        config: Config of a distillation, whose training images are the default size.
        role: ``teacher`` or ``student``, for errors.

    Raises:
        ValueError: The network does not take images or gives no logits, or what is said of it contradicts itself.
    """
    timm_cfg: Any = getattr(network, 'pretrained_cfg', None) or {}
    shown = value_at(config, 'model.data_preprocessor') or {}
    mean, std = (
        [float(value) for value in (said.get(key) or timm_cfg.get(key) or shown.get(key) or default)]
        for key, default in (('mean', IMAGENET_DEFAULT_MEAN), ('std', IMAGENET_DEFAULT_STD))
    )
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0 or max(mean) > 1:
        raise ValueError(f'the {role} has mean {mean} and std {std}; give three numbers each, of values in [0, 1]')
    size = _pair(said.get('input_size'), role)
    side = value_at(config, 'train_dataloader.dataset.transform.input_size')
    count = own.count_classes(network, size or _pair(side, role) or (224, 224), f'the {role} {type(network).__name__}')
    classes = None if said.get('classes') is None else [str(name) for name in said['classes']]
    for told, what in ((classes and len(classes), 'classes'), (said.get('num_classes'), 'num_classes')):
        if told not in (None, count):
            raise ValueError(f'the {role} {type(network).__name__} gives {count} logits, and {what} says {told}')
    return OwnModel(network, mean, std, count, classes, size)


def _pair(size: Any, role: str) -> tuple[int, int] | None:
    """Height and width in pixels, of a side, of both, or of channels and both; None for None."""
    if size is None:
        return None
    sides = [size, size] if isinstance(size, int) else list(size)[-2:]
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise ValueError(f'input_size of the {role} is {size!r}; give height and width in pixels')
    return sides[0], sides[1]
