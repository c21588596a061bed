"""Draw where two models look and how alike they are inside."""

import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from distill.api.checks import check_explanation
from distill.api.session import call
from distill.base.files import remove_leftovers
from distill.base.processes import cuda_or_cpu
from distill.base.screen import counting_progress, screen
from distill.explain.pair import Settings
from distill.explain.pair import explain_pair as explain
from distill.explain.write import check_replaceable, write_pair
from distill.results.provenance import command_line
from distill.results.schema import FILE_NAME
from distill.robustness.runs import load_run
from distill.robustness.sources import Source


class Explanation:
    """Two models explained: the pictures, and what they show in numbers.

    Attributes:
        content: Contents of ``results.json``, whose section ``explain`` ``docs/results_schema.md`` describes.
        path: The file ``results.json``.
        pictures: Paths of the pictures by name: ``receptive_field``, ``attribution`` and ``cka``.
    """

    def __init__(self, content: dict, folder: Path):
        self.content, self.path = content, folder / FILE_NAME
        self.pictures = {name: folder / picture for name, picture in content['explain'][0]['figures'].items()}

    def rows(self) -> tuple[list[str], list[list[str]]]:
        """For each stage of the first model, the stage of the other one that is most alike, and linear CKA."""
        entry = self.content['explain'][0]
        a, b = entry['a'], entry['b']
        rows = []
        for stage, similarities in zip(a['stages'], entry['cka'], strict=True):
            value, index = max((-1 if value is None else value, index) for index, value in enumerate(similarities))
            rows.append([stage, b['stages'][index], f'{value:.2f}'])
        return [a['name'], f'most alike in {b["name"]}', 'linear CKA'], rows

    def __repr__(self) -> str:
        return f"<Explanation '{self.path}': {', '.join(self.pictures)}>"

    def _repr_html_(self) -> str:
        """The pictures, for notebooks."""
        from base64 import b64encode

        found = {name: b64encode(path.read_bytes()).decode() for name, path in self.pictures.items()}
        return ''.join(f'<img alt="{escape(name)}" src="data:image/png;base64,{data}">' for name, data in found.items())


@call
def explain_pair(
    models: Sequence[str | os.PathLike],
    images: str | os.PathLike,
    out: str | os.PathLike,
    *,
    count: int = 64,
    shown: int = 4,
    batch_size: int = 16,
    workers: int = 1,
    seed: int = 0,
    device: str | None = None,
    model_options: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Explanation:
    """Draw receptive fields, attribution and the similarity of stages of two models.

    The same as ``robust-backbones explain``.

    Args:
        models: Two models: files, timm names; ``NAME=…`` names one.
        images: Folder with images, also in folders below it.
        out: Folder for ``results.json`` and ``explain/``.
        count: Images, evenly chosen.
        shown: Images with attribution.
        batch_size: Images of a forward pass.
        workers: Processes that decode images.
        seed: Seed of the receptive field.
        device: Device of torch; None for cuda if there is one, otherwise cpu.
        model_options: What is said of both models, as keywords of `backbones.load`.
        progress: Show a progress bar.

    Returns:
        The pictures and what they show in numbers.

    Raises:
        FileNotFoundError: A model or the folder does not exist.
        ValueError: There are too few images, a model gives no feature maps, or ``out`` holds other results.
    """
    sources = [Source.parse(os.fspath(model)) for model in models]
    check_explanation(sources, images, out, shown, batch_size, workers)
    folder = Path(out)
    check_replaceable(folder)
    remove_leftovers(folder, folder / 'explain')
    runs = [load_run(os.fspath(model), device or cuda_or_cpu(), **(model_options or {})) for model in models]
    console = screen(quiet=not progress)
    for note in (f'{run.name}: {note}' for run in runs for note in run.notes):
        console.print(note)
    with counting_progress(console, disable=not progress) as bar:
        task = bar.add_task('images', total=count)
        settings = Settings(
            Path(images), folder, count, shown, batch_size, workers, seed, lambda done: bar.advance(task, done)
        )
        entry = explain(runs, settings)
        bar.update(task, total=entry['images'])
    return Explanation(dict(write_pair(folder, entry, command_line())), folder)
