"""Explain a pair of models on a folder of images, in pictures and in an entry of ``results.json``."""

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
from distill.explain.images import ModelInputs, class_name, find_images, to_input
from distill.explain.pictures import draw_attributions, draw_cka, draw_receptive_fields
from distill.explain.receptive_field import ReceptiveField, square_side
from distill.explain.stages import spread, stage_features, stage_names
from distill.robustness.runs import Run

FIELD_STAGES = 4
"""The number of receptive fields a model, as many as a CNN has stages."""


@dataclass
class Settings:
    """The settings of an explanation.

    Attributes:
        images: Folder with images, also in folders below it.
        out: Folder for the pictures.
        count: Number of images, spread evenly over the sorted files.
        shown: Number of images whose attribution is drawn.
        batch_size: Images a forward pass.
        workers: Processes that decode images.
        seed: Seed of the receptive field's signs.
        advance: Called after each batch with its number of images.
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
    """One model of the pair, with the receptive fields that are gathered over the images.

    Args:
        run: The model.
        image: An image as the model takes it, uint8 [3, H, W].
        seed: Seed of the receptive field's signs.
    """

    def __init__(self, run: Run, image: Tensor, seed: int):
        self.run, self.name = run, run.name
        self.stages = stage_names(run.network, to_input(run, image[None]))
        self.indices = spread(len(self.stages), FIELD_STAGES)
        self.receptive_field = ReceptiveField(run.network, self.indices, seed)

    def take(self, images: Tensor) -> list[Tensor]:
        """Add a batch of images to the receptive fields; returns the features of all stages."""
        images = to_input(self.run, images)
        self.receptive_field.add(images)
        with torch.no_grad():
            return stage_features(self.run.network, images)

    def attribute(self, images: Tensor) -> Attribution:
        """Explain the predictions for a batch of images."""
        return attribute(self.run.network, to_input(self.run, images))

    def fields(self) -> list[dict]:
        """The receptive field of each stage and its size."""
        gathered = self.receptive_field
        stages = zip(self.indices, gathered.result(), gathered.centres, strict=True)
        return [{'stage': self.stages[index], **_measured(result, centre)} for index, result, centre in stages]

    def entry(self, fields: Sequence[dict], attribution: Attribution) -> dict:
        """The entry of this model in ``results.json``."""
        keys = ('model', 'model_kwargs', 'weights_sha256', 'input_size', 'mean', 'std')
        return (
            {'name': self.name}
            | {key: self.run.record[key] for key in keys}
            | {
                'stages': self.stages,
                'attribution': attribution.method,
                'receptive_field': [
                    {key: stage[key] for key in ('stage', 'side_50_pct', 'side_95_pct')} for stage in fields
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
        settings: The settings.

    Returns:
        An entry of the section ``explain`` of ``results.json``, paths relative to ``settings.out``.

    Raises:
        FileNotFoundError: There is no such image folder.
        ValueError: There are too few images, one cannot be decoded, or a model has no ``forward_intermediates``.
    """
    dataset = ModelInputs(find_images(settings.images, settings.count), runs)
    subjects = [Subject(run, image, settings.seed) for run, image in zip(runs, dataset[0], strict=True)]
    a, b = subjects
    cka = MinibatchCKA()
    for images_a, images_b in _batches(dataset, settings):
        cka.add(a.take(images_a), b.take(images_b))
        settings.advance(len(images_a))
    similarity = cka.result().cpu()
    fields = {subject.name: subject.fields() for subject in subjects}
    shown = [dataset[index] for index in spread(len(dataset), settings.shown)]
    images = {subject.name: torch.stack(column) for subject, *column in zip(subjects, *shown, strict=True)}
    attributions = {subject.name: subject.attribute(images[subject.name]) for subject in subjects}
    with house_style():
        figures = {
            'receptive_field': draw_receptive_fields(fields),
            'attribution': _attribution_figure(subjects, images, attributions),
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
    return iter(DataLoader(dataset, batch_sampler=[batch.tolist() for batch in batches], num_workers=settings.workers))


def _attribution_figure(
    subjects: Sequence[Subject], images: dict[str, Tensor], attributions: dict[str, Attribution]
) -> Figure:
    columns = {}
    for subject in subjects:
        found = attributions[subject.name]
        pictures, maps = images[subject.name].permute(0, 2, 3, 1).numpy(), found.maps.cpu().numpy()
        rows = zip(pictures, maps, found.classes.tolist(), found.confidence.tolist(), strict=True)
        columns[subject.name] = [
            {'image': picture, 'map': heat, 'label': class_name(subject.run, index), 'confidence': confidence}
            for picture, heat, index, confidence in rows
        ]
    return draw_attributions(columns, {name: found.method for name, found in attributions.items()})


def _write(out: Path, name: str, figure: Figure) -> str:
    """Write a picture as SVG and PNG; returns the path of the PNG relative to ``out``."""
    svg, png = render(figure)
    path = Path('explain') / f'{name}.png'
    write_text(out / path.with_suffix('.svg'), svg)
    write_bytes(out / path, png)
    return path.as_posix()
