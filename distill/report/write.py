"""Write a report from folders with a ``results.json``."""

import json
from collections.abc import Sequence
from pathlib import Path

from distill.base.files import write_bytes, write_text
from distill.report.collect import collect
from distill.report.contents import sections
from distill.report.explained import read_figures
from distill.report.headline import default_title
from distill.report.html import render_html
from distill.report.ledger_entries import ledger_entries
from distill.report.markdown import render_markdown
from distill.report.plots import draw_figures
from distill.report.scene_changes import artefact_changes, student_changes
from distill.report.style import run_colors
from distill.results.entries import Results
from distill.results.files import write_results
from distill.results.schema import FILE_NAME


def write_report(
    folders: Sequence[str | Path], out: str | Path | None = None, title: str | None = None
) -> tuple[Results, dict]:
    """Write ``report.html``, ``report.md``, ``figures/*.png`` and, for several folders, the merged results.

    The one file of a folder that the report goes to gets the ledger, if it has one.

    Args:
        folders: Folders with a ``results.json`` each.
        out: Where to write; None takes the first of ``folders``.
        title: Heading of the report; None takes one that fits the results.

    Returns:
        The results, and the paths written: ``html``, ``markdown``, ``figures`` by name, and ``results`` (the
        merged file, or the single input).

    Raises:
        FileNotFoundError: A folder or its file is missing.
        ValueError: A file is malformed, files contradict each other, or the merged results would take the
            place of a file that is not a product of merging.
    """
    folders = [Path(folder) for folder in folders]
    out = Path(folders[0] if out is None else out)
    results = collect(folders, out)
    merged = len(folders) > 1
    if merged:
        _check_replaceable(out / FILE_NAME)
    # The folder comes first: no path with '..' leads through a folder that is not there.
    (out / 'figures').mkdir(parents=True, exist_ok=True)
    if changes := artefact_changes(results, out):
        results['artefact_changes'] = changes
    if lessons := student_changes(results, out):
        results['student_changes'] = lessons
    before = results.pop('ledger', None)
    if ledger := ledger_entries(results):
        results['ledger'] = ledger
    figures = draw_figures(results) | read_figures(results, out)
    parts = sections(results, figures)
    title = default_title(results) if title is None else title
    paths = {
        'html': out / 'report.html',
        'markdown': out / 'report.md',
        'figures': {name: out / 'figures' / f'{name}.png' for name in figures},
        'results': out / FILE_NAME if merged else folders[0] / FILE_NAME,
    }
    for name, (_, png) in figures.items():
        write_bytes(paths['figures'][name], png)
    # What is written to another folder has other paths than the one file.
    if merged or (ledger and ledger != before and out.resolve() == folders[0].resolve()):
        write_results(paths['results'], results)
    write_text(paths['markdown'], render_markdown(title, parts, out))
    write_text(paths['html'], render_html(title, parts, figures, run_colors(results), out))
    return results, paths


def _check_replaceable(path: Path) -> None:
    """Refuse to put merged results in the place of results that are no product of merging."""
    if not path.is_file():
        return
    try:
        replaceable = 'merged_from' in json.loads(path.read_bytes()).get('provenance', {})
    except (ValueError, AttributeError):
        replaceable = False
    if not replaceable:
        raise ValueError(f'{path} holds results of its own and is not overwritten; give another --out')
