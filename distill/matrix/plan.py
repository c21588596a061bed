"""The commands of a transfer experiment: caching, training and measuring, each with the commands that it needs."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

from distill.base.files import write_text
from distill.matrix.matrix import Matrix, Run
from distill.matrix.steps import Step
from distill.training.length import stretched


def trainings(matrix: Matrix) -> list[Step]:
    """All steps up to the students at equal epochs; a step comes after those that it needs."""
    steps = {run.name: training(matrix, run) for run in matrix.alone()}
    for run in matrix.taught():
        name = cache_name(matrix, run.teacher, run.student)
        if matrix.cache is not None and name not in steps:
            steps[name] = caching(matrix, run.teacher, run.student)
        steps[run.name] = training(matrix, run)
    return list(steps.values())


def training(matrix: Matrix, run: Run) -> Step:
    """Make the step that trains a run, and write its config."""
    settings = {'randomness': {'seed': run.seed}}
    needs = []
    if run.teacher is not None:
        teacher, needs = matrix.teacher(run.teacher), matrix.teacher_needs(run.teacher)
        if matrix.cache is not None:
            teacher['cache'] = str(matrix.cache_folder(run.teacher, run.student))
            needs = [cache_name(matrix, run.teacher, run.student)]
        settings['model'] = {'teacher': teacher, 'losses': copy.deepcopy(matrix.losses[run.loss])}
    if run.corruption is not None:
        corrupt = copy.deepcopy(matrix.corruptions[run.corruption])
        settings['train_dataloader'] = {'dataset': {'corrupt': corrupt}}
    epochs = run.epochs or matrix.epochs_of(run.student)
    config = matrix.config(run.student)
    if epochs != config.train_cfg.max_epochs:
        settings |= stretched(config, epochs)[0]
    path = _write_config(matrix, run.name, matrix.students[run.student], settings)
    options = ['--work-dir', str(matrix.folder(run)), '--resume', '--data-root', matrix.data_root]
    return Step(run.name, ['train', str(path), *options], needs)


def caching(matrix: Matrix, teacher: str, student: str) -> Step:
    """Make the step that writes a teacher's predictions for a student's views, and write its config."""
    folder = matrix.cache_folder(teacher, student)
    settings = {'model': {'teacher': matrix.teacher(teacher), 'losses': next(iter(matrix.losses.values()))}}
    path = _write_config(matrix, f'cache_{folder.name}', matrix.students[student], settings)
    arguments = {'views': matrix.epochs_of(student), **matrix.cache}
    options = [part for key, value in arguments.items() for part in (f'--{key}', str(value))]
    command = ['cache', str(path), '--out', str(folder), *options, '--data-root', matrix.data_root]
    return Step(cache_name(matrix, teacher, student), command, matrix.teacher_needs(teacher))


def cache_name(matrix: Matrix, teacher: str, student: str) -> str:
    """The name of the step that `caching` makes."""
    return f'cache {matrix.cache_folder(teacher, student).name}'


def evaluations(matrix: Matrix, runs: Sequence[Run]) -> list[Step]:
    """The steps that measure the runs of each student side by side."""
    steps = []
    for student in matrix.students:
        models = [f'{run.name}={matrix.checkpoint(run)}' for run in runs if run.student == student]
        options = ['--data-root', matrix.data_root, '--out', str(matrix.scores_folder(student))]
        steps.append(Step(f'robustness {student}', ['robustness', *models, *options, *matrix.robustness]))
    return steps


def _write_config(matrix: Matrix, name: str, base: str, settings: Mapping) -> Path:
    """Write a config that inherits from a student's, unless the file is there with the same text."""
    path = matrix.work_dir.resolve() / 'configs' / f'{name}.py'
    lines = [f'_base_ = {str(Path(base).resolve())!r}', *(f'{key} = {value!r}' for key, value in settings.items())]
    text = '\n'.join(lines) + '\n'
    if not path.is_file() or path.read_text() != text:
        write_text(path, text)
    return path
