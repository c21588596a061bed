"""What a training returns."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from backbones import LoadedModel

NOT_SCORES = ('epoch', 'iter', 'step', 'lr', 'base_lr', 'time', 'data_time', 'memory', 'momentum')
"""Keys of mmengine's log that are neither losses nor scores."""


@dataclass(repr=False)
class TrainResult:
    """What a training has come to, and where it is.

    Attributes:
        work_dir: Folder of logs, checkpoints and the config that ran.
        epoch: Epochs that were trained, those before a resumption included.
        iter: Steps that were trained.
        scores: Scores of the last validation by name, such as ``top1_pct`` in percent; empty without one.
        best: The best of each score over all validations. For a student: the scores of ``student_best``.
        student_best: Weights of the best student, or None where no student was trained or validated.
        checkpoint: The newest checkpoint of the whole run, or None.
    """

    work_dir: Path
    epoch: int
    iter: int
    scores: dict[str, float] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)
    student_best: Path | None = None
    checkpoint: Path | None = None
    _network: 'nn.Module | None' = None

    @property
    def history(self) -> list[dict[str, float]]:
        """The course of the training, by mmengine's log in the work directory: a row for each epoch that it has.

        A row has ``epoch`` (for iteration-based runs ``iter``, the step of a validation), the mean of each loss over
        the epoch's log lines, ``lr`` at its end, and the scores of the validation after it. Rows of runs that were
        resumed are joined. Empty if the config switches mmengine's `LocalVisBackend` off.
        """
        return read_history(self.work_dir)

    def student(self) -> 'LoadedModel':
        """Load the best student.

        Returns:
            The network in eval mode, with classes, normalisation and size; one of a class of your own too.

        Raises:
            ValueError: The run has trained no student, or was never validated.
        """
        if self.student_best is None:
            raise ValueError(f"'{self.work_dir}' has no student_best; a detector is loaded by distill.load_predictor")
        import backbones

        if self._network is None:
            return backbones.load(self.student_best)
        from backbones.checkpoint import read_weights_for
        from backbones.record import ModelRecord
        from backbones.sources.own import copy_on_cpu
        from backbones.weights.fit import load_all

        network, path = copy_on_cpu(self._network), self.student_best
        read = read_weights_for(network, path)
        load_all(network, read.weights, read.source, type(network).__name__)
        stored = ModelRecord.read(path) or ModelRecord('')
        shown = {key: getattr(stored, key) for key in ('classes', 'mean', 'std', 'input_size')}
        loaded = backbones.load(network, **shown)
        found = {key: getattr(loaded.record, key) for key in ('crop_pct', 'crop_mode', 'interpolation')}
        return replace(loaded, record=replace(stored, **found), source=str(path), file=str(path))

    def __repr__(self) -> str:
        shown = ', '.join(f'{name} {value:.4g}' for name, value in self.best.items())
        return f"<TrainResult '{self.work_dir}': {self._length()}, {f'best {shown}' if shown else 'not validated'}>"

    def _length(self) -> str:
        return f'{self.epoch} epochs, {self.iter} steps' if self.epoch else f'{self.iter} steps'

    def _repr_html_(self) -> str:
        """The history as a table, for notebooks."""
        rows = self.history
        head = list(dict.fromkeys(key for row in rows for key in row))
        cells = ''.join(f'<tr>{"".join(f"<td>{_shown(row.get(key))}</td>" for key in head)}</tr>' for row in rows)
        table = f'<table><tr>{"".join(f"<th>{escape(key)}</th>" for key in head)}</tr>{cells}</table>' if rows else ''
        best = ', '.join(f'{name} {_shown(value)}' for name, value in self.best.items())
        where = escape(str(self.student_best or self.checkpoint or self.work_dir))
        return f'<p>{self._length()}; best: {escape(best) or "not validated"}; <code>{where}</code></p>{table}'


def _shown(value: float | None) -> str:
    return '' if value is None else f'{value:.4g}' if isinstance(value, float) else str(value)


def read_history(work_dir: Path) -> list[dict[str, float]]:
    """The rows of `TrainResult.history`, from the logs of all runs in a work directory."""
    trained: dict[int, list[Mapping]] = {}
    validated: dict[int, Mapping] = {}
    by_epoch = False
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in path.read_text(encoding='utf-8').splitlines():
            record = json.loads(line)
            if 'loss' in record:
                by_epoch = by_epoch or 'epoch' in record
                # A line that a resumed run writes again takes the place of the first.
                at = record.get('epoch', record.get('iter'))
                lines = [one for one in trained.get(at, []) if one.get('iter') != record.get('iter')]
                trained[at] = [*lines, record]
            elif 'step' in record and not any(key.startswith('shift/') for key in record):
                validated[record['step']] = record
    rows: list[dict[str, float]] = []
    for at in sorted({*(trained if by_epoch or not validated else {}), *validated}):
        row: dict[str, float] = {'epoch' if by_epoch else 'iter': at}
        lines = trained.get(at, [])
        for key in dict.fromkeys(key for line in lines for key in line if 'loss' in key):
            values = [line[key] for line in lines if key in line]
            row[key] = sum(values) / len(values)
        if lines and 'lr' in lines[-1]:
            row['lr'] = lines[-1]['lr']
        row.update({key: value for key, value in validated.get(at, {}).items() if _is_score(key, value)})
        rows.append(row)
    return rows


def _is_score(key: str, value: object) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and key.rpartition('/')[2] not in NOT_SCORES
