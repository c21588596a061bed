"""The other sections of ``results.json``: downstream scores, unlabelled images, problems, and provenance."""

from collections.abc import Iterator
from pathlib import Path

from distill.results.entries import Provenance, Results, UnlabelledEntry

DOWNSTREAM = ('detection', 'segmentation')
STUDENT_FILE = 'student_last.pth'


def downstream(results: Results, section: str) -> list[dict]:
    """All entries of ``detection`` or ``segmentation``, the merged ones included."""
    entry = results.get(section)
    return [entry, *entry.get('others', [])] if entry else []


def scene_name(entry: dict) -> str:
    """What a detector or segmenter is called: its file; the folder of a file whose name all students have."""
    path = Path(entry.get('checkpoint') or entry.get('config') or '')
    return path.parent.name if path.name == STUDENT_FILE and path.parent.name else path.name


def backbone(entry: dict) -> str:
    """The run behind a detector or segmenter; empty if the file does not tell."""
    return entry.get('backbone', '')


def provenances(results: Results) -> list[Provenance]:
    """The provenance of each file that went into these results."""
    provenance = results.get('provenance', {})
    return provenance.get('merged_from', [provenance] if provenance else [])


def unlabelled(results: Results) -> Iterator[tuple[str, str, UnlabelledEntry]]:
    """Run, image folder and entry for all predictions without labels."""
    for run, folders in results.get('unlabelled', {}).items():
        for folder, entry in folders.items():
            yield run, folder, entry


def problems(results: Results) -> dict[tuple[str, str, int], list[str]]:
    """The runs that met a problem, by suite or image folder, problem, and how often it happened."""
    found: dict[tuple[str, str, int], list[str]] = {}
    judged = results.get('classification', {})
    labelled = ((run, suite, entry) for run, suites in judged.items() for suite, entry in suites.items())
    for run, suite, entry in (*labelled, *unlabelled(results)):
        for problem, count in entry.get('problems', {}).items():
            found.setdefault((suite, problem, count), []).append(run)
    return found
