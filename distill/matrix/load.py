"""Read the config of a transfer experiment."""

from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config

from distill.base.packaged import CONFIG, find
from distill.matrix.matrix import Matrix
from distill.matrix.scenes import SceneMatrix, is_of_scenes


def load_matrix(
    path: str, data_root: str | None = None, work_dir: str | None = None, seeds: Sequence[int] | None = None
) -> Matrix:
    """Read a matrix config, of classifiers or of detectors or segmenters, as its students are.

    Args:
        path: The config.
        data_root: Data root in place of the config's.
        work_dir: Work folder in place of the config's.
        seeds: Some of its seeds, the first of them included; None for all.

    Raises:
        FileNotFoundError: The config, a student's config or the data is not there.
        ValueError: The config has a setting that no matrix has, lacks one, or contradicts itself; or a seed
            is none of its.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"matrix '{path}' does not exist; see distill/matrices")
    content = {key: value for key, value in Config.fromfile(path).to_dict().items() if not key.startswith('__')}
    if data_root is not None:
        content['data_root'] = data_root
    content['work_dir'] = Path(work_dir or content.get('work_dir') or f'work_dirs/{Path(path).stem}')
    missing = {'data_root', 'students', 'teachers', 'losses'} - content.keys()
    paths = [] if missing else [find(path, CONFIG) for path in content['students'].values()]
    kind = SceneMatrix if is_of_scenes(paths) else Matrix
    known = {name for name, field in kind.__dataclass_fields__.items() if field.init}
    unknown = content.keys() - known
    if unknown or missing:
        wrong = f'unknown: {", ".join(sorted(unknown))}' if unknown else f'missing: {", ".join(sorted(missing))}'
        raise ValueError(
            f"matrix '{path}' has settings that do not fit ({wrong}); a matrix has {', '.join(sorted(known))}"
        )
    if not Path(content['data_root']).is_dir():
        raise FileNotFoundError(f"data root '{content['data_root']}' does not exist; make the data or pass --data-root")
    matrix = kind(**content)
    if seeds is not None:
        matrix.seeds = _chosen(matrix.seeds, seeds)
    return matrix


def _chosen(known: Sequence[int], seeds: Sequence[int]) -> list[int]:
    """The seeds that are wanted, in the order of the config."""
    if unknown := sorted(set(seeds) - set(known)):
        raise ValueError(f'seed {unknown[0]} is none of the experiment; choose from {", ".join(map(str, known))}')
    if known[0] not in seeds:
        raise ValueError(f'seed {known[0]} is missing, by which the teachers are trained; give it as well')
    return [seed for seed in known if seed in seeds]
