"""The length of a training, and the schedules that end with it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from mmengine.config import Config

ENDS = ('end', 'T_max', 'total_iters', 'total_steps')
"""Arguments of mmengine's schedules that are the length of the whole training, where they are equal to it."""


class Unit(NamedTuple):
    """What a length is counted in: the key of ``train_cfg``, and the word for people."""

    key: str
    word: str


EPOCHS, ITERS = Unit('max_epochs', 'epochs'), Unit('max_iters', 'iters')


def stretched(config: Config, length: int, unit: Unit = EPOCHS) -> tuple[dict, list[str]]:
    """Settings that change the length of a config's training, and its schedules with it.

    What ends with the training still does, milestones keep their share of it, and a warm-up its length: for the
    configs of this project these are the settings of a config that is written with that number. A schedule that would
    only begin after the end is left out.

    Args:
        config: A training config.
        length: The new length, 1 or more.
        unit: What it is counted in.

    Returns:
        Settings to put in place of the config's, and a line for each change.

    Raises:
        ValueError: The config does not count its training in this unit.
    """
    before = config.train_cfg.get(unit.key)
    if not before:
        other = ITERS if unit is EPOCHS else EPOCHS
        raise ValueError(
            f'{config.filename} does not count {unit.word}; give {other.word}={config.train_cfg.get(other.key)} or '
            'another number'
        )
    settings: dict[str, Any] = {'train_cfg': {unit.key: length}}
    lines = [f'train_cfg.{unit.key} {before} -> {length}'] if length != before else []
    schedules = config.get('param_scheduler')
    if length == before or not schedules:
        return settings, lines
    moved = []
    for schedule in [schedules] if isinstance(schedules, Mapping) else schedules:
        one = dict(schedule)
        if one.get('by_epoch', True) == (unit is EPOCHS):
            if one.get('begin', 0) >= length:
                lines.append(f'{one["type"]} left out, which begins at {one["begin"]}')
                continue
            changes = _moved(one, before, length)
            lines += [f'{one["type"]}.{key} {one[key]} -> {value}' for key, value in changes.items()]
            one.update(changes)
        moved.append(one)
    settings['param_scheduler'] = moved
    return settings, lines


def _moved(schedule: Mapping, before: int, length: int) -> dict:
    """The arguments of a schedule that change with the length of the training."""
    changes: dict[str, Any] = {key: length for key in ENDS if schedule.get(key) == before}
    begin, end = schedule.get('begin', 0), schedule.get('end')
    if end == before and 'T_max' in schedule and schedule['T_max'] == before - begin:
        changes['T_max'] = length - begin
    if schedule.get('milestones'):
        places = {max(1, round(place * length / before)) for place in schedule['milestones']}
        changes['milestones'] = sorted(place for place in places if place < length)
    return changes
