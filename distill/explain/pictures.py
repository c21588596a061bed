"""The pictures of a pair of models, in the style of the report."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from distill.base.figures import GRID, HEAT_COLORS, INK, add_color_bar, draw_heat_cells, short
from distill.explain.attribution import NONE

FRAME = '#ff9e45'
"""Visible on the dark and on the light end of the colours of heat."""
NUMBERED_STAGES = 16
"""The most stages that leave room for a number in each cell."""


def draw_receptive_fields(fields: Mapping[str, Sequence[Mapping]]) -> Figure:
    """Draw the receptive fields of several models: a row a model, a column a stage.

    Args:
        fields: By model, for each stage: ``stage``, ``field`` [H, W], ``centre``, ``side_95_px`` and ``side_95_pct``.
    """
    columns = max(map(len, fields.values()))
    figure = Figure(figsize=(2.5 * columns, 2.75 * len(fields)), layout='constrained')
    grid = figure.subplots(len(fields), columns, squeeze=False)
    for row, (name, stages) in zip(grid, fields.items(), strict=True):
        for axes, stage in zip(row, stages, strict=False):
            _draw_field(axes, stage)
        for axes in row[len(stages) :]:
            axes.set_visible(False)
        row[0].set_ylabel(short(name, 30), color=INK)
    return figure


def _draw_field(axes: Axes, stage: Mapping) -> None:
    field = np.asarray(stage['field'])
    norm = PowerNorm(0.5, vmin=0, vmax=max(float(field.max()), 1e-12))
    axes.imshow(field, cmap=HEAT_COLORS, norm=norm, interpolation='none')
    side = stage['side_95_px']
    row, column = stage['centre']
    corner = column - side / 2, row - side / 2
    axes.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=FRAME, linewidth=1.2))
    axes.set_title(f'{stage["stage"]}\n95 % in {stage["side_95_pct"]:.0f} % of the side', color=INK, fontsize=8.5)
    _hide_axes(axes)


def draw_attributions(columns: Mapping[str, Sequence[Mapping]], methods: Mapping[str, str]) -> Figure:
    """Draw images and the evidence for each model's prediction: a row an image, a column a model.

    Args:
        columns: By model, for each image: ``image`` [H, W, 3] in uint8, the coarse ``map`` [h, w], and the predicted
            ``label`` with its ``confidence``.
        methods: The method of attribution by model.
    """
    count = len(next(iter(columns.values())))
    figure = Figure(figsize=(2.6 * (1 + len(columns)), 2.75 * count + 0.4), layout='constrained')
    grid = figure.subplots(count, 1 + len(columns), squeeze=False)
    for axes, shown in zip(grid[:, 0], next(iter(columns.values())), strict=True):
        axes.imshow(shown['image'], interpolation='none')
    for column, (name, predictions) in zip(grid.T[1:], columns.items(), strict=True):
        method = 'no map' if methods[name] == NONE else methods[name]
        column[0].set_title(f'{short(name, 30)}\n{method}', color=INK, fontsize=8.5)
        for axes, shown in zip(column, predictions, strict=True):
            axes.imshow(overlay(shown['image'], shown['map']), interpolation='none')
            axes.set_xlabel(f'{short(shown["label"], 24)}, {100 * shown["confidence"]:.0f} %', labelpad=2)
    for axes in grid.flat:
        _hide_axes(axes)
    return figure


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Lay the colours of heat over an image in gray; stronger places are warmer.

    Args:
        image: RGB [H, W, 3] in uint8.
        heat: A coarse map [h, w]; the smallest value stays gray, and the largest is warmest.

    Returns:
        RGB [H, W, 3], 0 to 1.
    """
    height, width = image.shape[:2]
    scaled = (heat - heat.min()) / max(float(heat.max() - heat.min()), 1e-12)
    fine = Image.fromarray(scaled.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    fine = np.asarray(fine)[..., None]
    gray = np.asarray(Image.fromarray(image).convert('L'), np.float32)[..., None] / 255
    return (1 - 0.6 * fine) * gray * (0.4 + 0.6 * fine) + 0.6 * fine * colormaps[HEAT_COLORS](fine[..., 0])[..., :3]


def draw_cka(values: Sequence[Sequence[float]], names: tuple[str, str], stages: tuple[list[str], list[str]]) -> Figure:
    """Draw the CKA of each stage of the first model with each stage of the second.

    Args:
        values: CKA [stages of the first, stages of the second].
        names: Names of the models.
        stages: Names of their stages.
    """
    across, down = len(stages[1]), len(stages[0])
    figure = Figure(figsize=(max(0.5 * across, 1.6) + 2.4, max(0.36 * down, 1.2) + 1.4), layout='constrained')
    axes = figure.subplots()
    numbers = '{:.2f}' if max(across, down) <= NUMBERED_STAGES else ''
    mesh = draw_heat_cells(axes, values, numbers, vmin=0, vmax=1)
    axes.set_xticks([index + 0.5 for index in range(across)], stages[1], rotation=40, ha='right', color=INK)
    axes.set_yticks([index + 0.5 for index in range(down)], stages[0], color=INK)
    axes.set_xlabel(short(names[1], 30))
    axes.set_ylabel(short(names[0], 30))
    add_color_bar(axes, mesh, 'linear CKA', fraction=0.05, pad=0.02)
    return figure


def _hide_axes(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color(GRID)
