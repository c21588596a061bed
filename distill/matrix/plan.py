"""The commands of a transfer experiment: caching, training and measuring, each with the commands that it needs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.jobs.steps import Step
from distill.matrix.folder import write_config
from distill.matrix.matrix import Matrix, Run
from distill.matrix.scenes import SceneMatrix
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
    teacher, needs = None, []
    if run.teacher is not None:
        teacher, needs = matrix.teacher(run.teacher), matrix.teacher_needs(run.teacher)
        if matrix.cache is not None:
            teacher['cache'] = str(matrix.cache_folder(run.teacher, run.student))
            needs = [cache_name(matrix, run.teacher, run.student)]
    settings = merged({'randomness': {'seed': run.seed}, **matrix.common}, matrix.settings(run, teacher))
    length = run.epochs or matrix.epochs_of(run.student)
    config = matrix.config(run.student)
    if length != config.train_cfg[matrix.unit.key]:
        settings = merged(settings, stretched(config, length, matrix.unit)[0])
    path = _write_config(matrix, run.name, matrix.bases[run.student], settings, matrix.folder(run))
    options = ['--work-dir', str(matrix.folder(run)), '--resume', '--data-root', matrix.data_root]
    return Step(run.name, ['train', str(path), *options], needs)


def caching(matrix: Matrix, teacher: str, student: str) -> Step:
    """Make the step that writes a teacher's predictions for a student's views, and write its config."""
    folder = matrix.cache_folder(teacher, student)
    taught = {'model': {'teacher': matrix.teacher(teacher), 'losses': next(iter(matrix.losses.values()))}}
    settings = merged(matrix.common, taught)
    path = _write_config(matrix, f'cache_{folder.name}', matrix.students[student], settings, folder)
    arguments = {'views': matrix.epochs_of(student), **matrix.cache}
    options = [part for key, value in arguments.items() for part in (f'--{key}', str(value))]
    command = ['cache', str(path), '--out', str(folder), *options, '--data-root', matrix.data_root]
    return Step(cache_name(matrix, teacher, student), command, matrix.teacher_needs(teacher))


def cache_name(matrix: Matrix, teacher: str, student: str) -> str:
    """The name of the step that `caching` makes."""
    return f'cache {matrix.cache_folder(teacher, student).name}'


def evaluations(matrix: Matrix, runs: Sequence[Run]) -> list[Step]:
    """The steps that measure the runs: those of each student side by side; detectors and segmenters one by one."""
    if isinstance(matrix, SceneMatrix):
        return [testing(matrix, run) for run in runs]
    steps = []
    for student in matrix.bases:
        models = [f'{run.name}={matrix.checkpoint(run)}' for run in runs if run.student == student]
        options = ['--data-root', matrix.data_root, '--out', str(matrix.scores_folder(student))]
        steps.append(Step(f'robustness {student}', ['robustness', *models, *options, *matrix.robustness]))
    return steps


def score_folders(matrix: Matrix, runs: Sequence[Run]) -> list[Path]:
    """The folders that the steps of `evaluations` write scores to."""
    by_run = isinstance(matrix, SceneMatrix)
    return list(dict.fromkeys(matrix.scores_folder(run.name if by_run else run.student) for run in runs))


def testing(matrix: SceneMatrix, run: Run) -> Step:
    """Make the step that tests the detector or segmenter of a run."""
    options = ['--work-dir', str(matrix.scores_folder(run.name)), '--data-root', matrix.data_root, '--per-image']
    command = ['test', matrix.named(run.student), str(matrix.checkpoint(run)), *options, *matrix.robustness]
    return Step(f'test {run.name}', command)


def merged(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with changes, dictionary in dictionary; what is no dictionary takes the place of the other."""
    result = dict(settings)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result


def _write_config(matrix: Matrix, name: str, base: str, settings: Mapping, products: Path) -> Path:
    """Write the config of a step that makes a folder, see `distill.matrix.folder.write_config`."""
    path = matrix.work_dir.resolve() / 'configs' / f'{name}.py'
    write_config(path, base, ''.join(f'{key} = {value!r}\n' for key, value in settings.items()), products)
    return path
