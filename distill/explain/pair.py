"""Explain a pair of models on a folder of images: pictures, and an entry of ``results.json``."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from distill.base.figures import house_style, render
from distill.base.files import write_bytes, write_text
from distill.explain.attribution import Attribution, attribute
from distill.explain.cka import MIN_IMAGES, MinibatchCKA
from distill.explain.images import Views, class_name, find_images, normalise
from distill.explain.pictures import draw_attributions, draw_cka, draw_receptive_fields
from distill.explain.receptive_field import ReceptiveField, square_side
from distill.explain.stages import spread, stage_features, stage_names
from distill.robustness.runs import Run

FIELD_STAGES = 4
"""Receptive fields a model: as many as a CNN has stages."""


@dataclass
class Settings:
    """How a pair is explained.

    Attributes:
        images: Folder with images, in any folders below it.
        out: Folder that the pictures go to.
        count: Images taken, spread evenly over the sorted files.
        shown: Images whose attribution is drawn.
        batch_size: Images a forward pass.
        workers: Processes that decode.
        seed: Seed of the receptive field's signs.
        advance: Called with the number of images done after each batch.
    """

    images: Path
    out: Path
    count: int = 64
    shown: int = 4
    batch_size: int = 16
    workers: int = 0
    seed: int = 0
    advance: Callable[[int], None] = field(default=lambda count: None)


class Subject:
    """One model of the pair, and what is gathered while images pass.

    Args:
        run: The model.
        view: An image as it sees it, uint8 [3, H, W].
        seed: Seed of the receptive field's signs.
    """

    def __init__(self, run: Run, view: Tensor, seed: int):
        self.run, self.name = run, run.name
        self.stages = stage_names(run.network, normalise(run, view[None]))
        self.indices = spread(len(self.stages), FIELD_STAGES)
        self.receptive_field = ReceptiveField(run.network, self.indices, seed)

    def take(self, views: Tensor) -> list[Tensor]:
        """The features of all stages for a batch of views, which adds to the receptive fields."""
        images = normalise(self.run, views)
        self.receptive_field.add(images)
        with torch.no_grad():
            return stage_features(self.run.network, images)

    def attribute(self, views: Tensor) -> Attribution:
        """Explain the predictions for a batch of views."""
        return attribute(self.run.network, normalise(self.run, views))

    def fields(self) -> list[dict]:
        """The receptive field and its size, a stage each."""
        receptive = self.receptive_field
        found = zip(self.indices, receptive.result(), receptive.centres, strict=True)
        return [{'stage': self.stages[index], **_measured(its, centre)} for index, its, centre in found]

    def entry(self, fields: Sequence[dict], attribution: Attribution) -> dict:
        """What ``results.json`` says of this model."""
        keys = ('model', 'model_kwargs', 'weights_sha256', 'input_size', 'mean', 'std')
        return (
            {'name': self.name}
            | {key: self.run.record[key] for key in keys}
            | {
                'stages': self.stages,
                'attribution': attribution.method,
                'receptive_field': [
                    {key: its[key] for key in ('stage', 'side_50_pct', 'side_95_pct')} for its in fields
                ],
            }
        )


def _measured(field: Tensor, centre: tuple[float, float]) -> dict:
    """A receptive field and its size; a square around a place off the middle may reach beyond the image."""
    half, most = (square_side(field, centre, share) for share in (0.5, 0.95))
    side = max(field.shape)
    return {
        'field': field,
        'centre': centre,
        'side_95_px': most,
        'side_50_pct': min(100 * half / side, 100.0),
        'side_95_pct': min(100 * most / side, 100.0),
    }


def explain_pair(runs: Sequence[Run], settings: Settings) -> dict:
    """Draw the pictures of a pair.

    Args:
        runs: Two models.
        settings: How.

    Returns:
        An entry of the section ``explain`` of ``results.json``, paths relative to ``settings.out``.

    Raises:
        FileNotFoundError: There is no such image folder.
        ValueError: There are too few images, one cannot be decoded, or a model has no ``forward_intermediates``.
    """
    dataset = Views(find_images(settings.images, settings.count), runs)
    subjects = [Subject(run, view, settings.seed) for run, view in zip(runs, dataset[0], strict=True)]
    a, b = subjects
    cka = MinibatchCKA()
    for views in _batches(dataset, settings):
        cka.add(a.take(views[0]), b.take(views[1]))
        settings.advance(len(views[0]))
    similarity = cka.result().cpu()
    fields = {subject.name: subject.fields() for subject in subjects}
    shown = [dataset[index] for index in spread(len(dataset), settings.shown)]
    views = {subject.name: torch.stack(its) for subject, *its in zip(subjects, *shown, strict=True)}
    attributions = {subject.name: subject.attribute(views[subject.name]) for subject in subjects}
    with house_style():
        figures = {
            'receptive_field': draw_receptive_fields(fields),
            'attribution': _attribution_figure(subjects, views, attributions),
            'cka': draw_cka(similarity.tolist(), (a.name, b.name), (a.stages, b.stages)),
        }
        paths = {name: _write(settings.out, name, figure) for name, figure in figures.items()}
    return {
        'a': a.entry(fields[a.name], attributions[a.name]),
        'b': b.entry(fields[b.name], attributions[b.name]),
        'images': len(dataset),
        'root': str(settings.images),
        'seed': settings.seed,
        'cka': [[None if value != value else value for value in row] for row in similarity.tolist()],
        'figures': paths,
    }


def _batches(dataset: Dataset, settings: Settings) -> Iterator[list[Tensor]]:
    """Batches of about equal size, none of them too small for CKA."""
    count = min(-(-len(dataset) // settings.batch_size), len(dataset) // MIN_IMAGES)
    batches = np.array_split(np.arange(len(dataset)), count)
    return iter(DataLoader(dataset, batch_sampler=[its.tolist() for its in batches], num_workers=settings.workers))


def _attribution_figure(subjects: Sequence[Subject], views: dict[str, Tensor], found: dict[str, Attribution]) -> Figure:
    columns = {}
    for subject in subjects:
        its = found[subject.name]
        pictures = views[subject.name].permute(0, 2, 3, 1).numpy()
        said = zip(pictures, its.maps.cpu().numpy(), its.classes.tolist(), its.confidence.tolist(), strict=True)
        columns[subject.name] = [
            {'image': picture, 'map': heat, 'label': class_name(subject.run, index), 'confidence': confidence}
            for picture, heat, index, confidence in said
        ]
    return draw_attributions(columns, {name: its.method for name, its in found.items()})


def _write(out: Path, name: str, figure: Figure) -> str:
    """Write a picture as SVG and PNG; returns the path of the PNG relative to ``out``."""
    svg, png = render(figure)
    path = Path('explain') / f'{name}.png'
    write_text(out / path.with_suffix('.svg'), svg)
    write_bytes(out / path, png)
    return path.as_posix()
