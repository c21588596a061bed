"""What an evaluation returns."""

import io
import os
import tempfile
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.results.schema import FILE_NAME

if TYPE_CHECKING:
    from pandas import DataFrame

    from distill.results.entries import SuiteEntry

WIDTH = 200
"""Columns of a table as text, in which no cell is broken."""


class Results:
    """The scores of models on suites: the contents of ``results.json``, and views of them.

    ``results['resnet50']['clean']['top1_pct']`` is a score; an entry of a suite has all that
    ``docs/results_schema.md`` describes. In a notebook the object shows itself as a table.

    Args:
        content: Contents of ``results.json``.
        folder: Where that file is, with predictions and samples.
        runs: Names of the runs that were asked for; the file may have others.
        suites: Keys of the suites that were asked for.
        notes: Lines that a reader of the scores should know.
        absent: Names of suites that are not there.
        temporary: The folder, if it goes with the object.

    Attributes:
        content: Contents of ``results.json``.
        folder: Where that file is, with predictions and samples.
        runs: Names of the runs.
        suites: Keys of the suites.
        notes: What was counted beside the scores, such as images in grey, a line each.
        absent: Names of the suites whose folder is not there.
    """

    def __init__(
        self,
        content: Mapping[str, Any],
        folder: str | os.PathLike,
        runs: Sequence[str],
        suites: Sequence[str],
        notes: Sequence[str] = (),
        absent: Sequence[str] = (),
        temporary: tempfile.TemporaryDirectory | None = None,
    ):
        self.content, self.folder = content, Path(folder)
        self.runs, self.suites, self.notes, self.absent = list(runs), list(suites), list(notes), list(absent)
        self._temporary = temporary

    @classmethod
    def read(cls, folder: str | os.PathLike) -> 'Results':
        """The results of an earlier evaluation.

        Args:
            folder: The folder with ``results.json``.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is damaged.
        """
        from distill.results.files import read_results

        content = read_results(Path(folder) / FILE_NAME)
        scores = content.get('classification', {})
        suites = dict.fromkeys(suite for entries in scores.values() for suite in entries)
        return cls(content, folder, list(scores), list(suites))

    @property
    def path(self) -> Path:
        """The file ``results.json``; it goes with this object if no ``out`` was given."""
        return self.folder / FILE_NAME

    @property
    def scores(self) -> dict[str, dict[str, float]]:
        """Top-1 accuracy in percent by run and suite; that of ``corruption`` is the mean over kinds and severities."""
        return {run: {suite: entry['top1_pct'] for suite, entry in self[run].items()} for run in self.runs}

    def __getitem__(self, run: str) -> 'dict[str, SuiteEntry]':
        """The scores of a run by suite.

        Raises:
            KeyError: There is no such run.
        """
        if run not in self.runs:
            raise KeyError(f"run '{run}' is none of {', '.join(self.runs)}")
        return self.content.get('classification', {}).get(run, {})

    def rows(self) -> tuple[list[str], list[list[str]]]:
        """The table as text: the names of its columns, and a row a run.

        A cell is a top-1 accuracy in percent with its 95 % interval; for a suite of fewer classes, the clean accuracy
        on these stands below.
        """
        rows = [[run, *(_cell(self[run].get(suite)) for suite in self.suites)] for run in self.runs]
        return ['top-1 %', *self.suites], rows

    def table(self) -> str:
        """The scores as a table of text: top-1 accuracy in percent with its 95 % interval, by run and suite."""
        from rich.console import Console

        from distill.base.screen import result_table

        text = io.StringIO()
        head, rows = self.rows()
        Console(file=text, width=WIDTH, color_system=None, force_jupyter=False).print(result_table(head, rows))
        return text.getvalue()

    def to_pandas(self) -> 'DataFrame':
        """The scores as a table of pandas: a row for each run and suite, a column for each number of the schema.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise ImportError('to_pandas needs pandas, which is not installed; pip install pandas') from None
        records = []
        for run in self.runs:
            for suite, entry in self[run].items():
                numbers = {key: value for key, value in entry.items() if isinstance(value, (int, float))}
                low, high = entry.get('top1_ci95_pct', (None, None))
                records.append({'run': run, 'suite': suite, **numbers, 'top1_low_pct': low, 'top1_high_pct': high})
        return pandas.DataFrame(records)

    def report(self, out: str | os.PathLike | None = None, title: str | None = None) -> Path:
        """Write the report: ``report.html``, which needs no other file, ``report.md`` and ``figures``.

        Args:
            out: Folder of the report; None for that of the results.
            title: Heading; None for one that fits.

        Returns:
            Path of ``report.html``.

        Raises:
            ValueError: The results are in a temporary folder, and no folder is given for the report.
        """
        if out is None and self._temporary is not None:
            raise ValueError("the results are in a temporary folder; give the report one of its own: report('DIR')")
        from distill.api.report import write_report

        return write_report(self.folder, out, title).html

    def __repr__(self) -> str:
        return f"<Results '{self.path}': {len(self.runs)} runs on {', '.join(self.suites)}>"

    def __str__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        """The table, for notebooks."""
        head, rows = self.rows()
        parts = [f'<tr>{"".join(f"<th>{escape(name)}</th>" for name in head)}</tr>']
        for row in rows:
            parts.append(f'<tr>{"".join(f"<td>{escape(cell)}</td>" for cell in row)}</tr>'.replace('\n', '<br>'))
        lines = [*self.notes, *([f'not there: {", ".join(self.absent)}'] if self.absent else [])]
        notes = ''.join(f'<br>{escape(line)}' for line in lines)
        return f'<table>{"".join(parts)}</table><small>top-1 in percent with its 95 % interval{notes}</small>'


def _cell(entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return '-'
    text = '{:.1f} [{:.1f}, {:.1f}]'.format(entry['top1_pct'], *entry['top1_ci95_pct'])
    clean = entry.get('clean_subset_top1_pct')
    return text if clean is None else f'{text}\nclean {clean:.1f}'
