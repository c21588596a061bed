"""Make the report of folders with a ``results.json``."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from distill.api.checks import check_report
from distill.api.session import call
from distill.base.files import remove_leftovers
from distill.report.write import write_report as write


@dataclass(repr=False)
class Report:
    """A report that is written.

    Attributes:
        html: The page, which needs no other file.
        markdown: The same as text.
        figures: Pictures by name.
        results: The file of the results that it shows.
        content: These results.
    """

    html: Path
    markdown: Path
    figures: dict[str, Path]
    results: Path
    content: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"<Report '{self.html}'>"

    def _repr_html_(self) -> str:
        """A link, for notebooks."""
        return f'<a href="{escape(str(self.html))}">{escape(str(self.html))}</a>'


@call
def write_report(
    folders: str | os.PathLike | Sequence[str | os.PathLike],
    out: str | os.PathLike | None = None,
    title: str | None = None,
) -> Report:
    """Write ``report.html``, ``report.md``, ``figures`` and, for several folders, the merged ``results.json``.

    The same as ``robust-backbones report``.

    Args:
        folders: A folder with a ``results.json``, or several.
        out: Folder of the report; None for the first of ``folders``.
        title: Heading; None for one that fits.

    Returns:
        Where the report is, and what it shows.

    Raises:
        FileNotFoundError: A folder does not exist, or holds no ``results.json``.
        ValueError: A file is damaged, or the files contradict one another.
    """
    found = [Path(folders)] if isinstance(folders, (str, os.PathLike)) else [Path(folder) for folder in folders]
    check_report(found, out)
    folder = Path(out if out is not None else found[0])
    remove_leftovers(folder, folder / 'figures')
    content, paths = write(found, None if out is None else Path(out), title)
    return Report(paths['html'], paths['markdown'], paths['figures'], paths['results'], content)
