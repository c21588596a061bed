"""The time that training took, and the runs of students alone that were given the same time."""

import json
import statistics
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from distill.jobs.steps import Workplace
from distill.matrix.matrix import Matrix, Run
from distill.matrix.plan import cache_name


def train_time_s(folder: Path) -> float:
    """Time that a run's training steps took by its log, without validation.

    The median step times their number, so that a pause or a slow first step does not count.

    Raises:
        ValueError: The run has no log.
    """
    steps = _step_times(folder)
    return statistics.median(steps.values()) * max(steps)


def step_time_s(folder: Path) -> float:
    """Median time of a run's training steps by its log.

    Raises:
        ValueError: The run has no log.
    """
    return statistics.median(_step_times(folder).values())


def _step_times(folder: Path) -> dict[int, float]:
    """Time in seconds of the steps that a run's log has, by their number."""
    steps = {}
    for path in sorted(folder.glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            record = json.loads(line)
            if 'loss' in record:
                steps[record['iter']] = record['time']
    if not steps:
        raise ValueError(f"'{folder}' has no training log; delete the folder to train again")
    return steps


def epochs_at_equal_time(matrix: Matrix, place: Workplace) -> dict[str, int]:
    """For each group of taught runs, the epochs for which its student alone has time, at least its usual ones.

    With a cache, the time to write the cache counts too, divided among the runs that read it.

    Args:
        matrix: The experiment, whose runs at equal epochs are done.
        place: Where they ran.
    """
    taught = matrix.taught()
    readers = Counter(matrix.cache_folder(run.teacher, run.student) for run in taught)
    epochs_of_group = {}
    for group in dict.fromkeys(run.group for run in taught):
        runs = [run for run in taught if run.group == group]
        student, teacher = runs[0].student, runs[0].teacher
        alone_s = statistics.median(train_time_s(matrix.folder(Run(student, seed))) for seed in matrix.seeds)
        taught_s = statistics.median(train_time_s(matrix.folder(run)) for run in runs)
        if matrix.cache is not None:
            cache_s = place.seconds(cache_name(matrix, teacher, student))
            taught_s += cache_s / readers[matrix.cache_folder(teacher, student)]
        epochs = matrix.epochs_of(student)
        epochs_of_group[group] = max(epochs, round(epochs * taught_s / alone_s))
    return epochs_of_group


def longer_runs(matrix: Matrix, epochs_of_group: Mapping[str, int]) -> list[Run]:
    """The runs of students alone that are given more epochs, each once.

    Args:
        matrix: The experiment.
        epochs_of_group: What `epochs_at_equal_time` returns.
    """
    students = {run.group: run.student for run in matrix.taught()}
    wanted = {
        (students[group], epochs)
        for group, epochs in epochs_of_group.items()
        if epochs > matrix.epochs_of(students[group])
    }
    return [Run(student, seed, epochs=epochs) for student, epochs in sorted(wanted) for seed in matrix.seeds]
