"""The part of the report on pairs of models: where they look, and how alike their stages are."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from distill.report.blocks import Block, Paragraph, Plot
from distill.report.tables import Cell, Column, Table, number_cell, text_cell
from distill.results.entries import Results

FIGURES = {
    'receptive_field': 'Effective receptive field: how strongly each input pixel moves the central feature of a stage, '
    'root mean square over the images (brightness: its square root). The frame is the smallest centred square with '
    '95 % of the sum.',
    'attribution': 'What speaks for the class that each model predicts: Grad-CAM, or attention rollout for a '
    'transformer with a class token.',
    'cka': 'Linear CKA between the stages of the two models: 1 for representations that are equal up to rotation and '
    'scale, about 0 for unrelated ones.',
}
"""The captions of a pair's pictures, in their order."""


def figure_name(index: int, name: str) -> str:
    """Name in the report of a picture of the pair with this number, from 0."""
    return f'explain_{index + 1}_{name}'


def read_figures(results: Results, folder: Path) -> dict[str, tuple[str, bytes]]:
    """Read the pictures of all pairs, but for lost ones.

    Args:
        results: Checked results.
        folder: Where the paths of pictures start.

    Returns:
        By name: the SVG text (the file beside the PNG), and the bytes of the PNG.
    """
    found = {}
    for index, pair in enumerate(_pairs(results)):
        for name, path in pair['figures'].items():
            png = folder / path
            svg = png.with_suffix('.svg')
            if name in FIGURES and png.is_file() and svg.is_file():
                found[figure_name(index, name)] = svg.read_text(encoding='utf-8'), png.read_bytes()
    return found


def explain_blocks(results: Results, figures: Mapping[str, object]) -> Iterator[Block]:
    """The sizes of the receptive fields and the pictures of each pair."""
    for index, pair in enumerate(_pairs(results)):
        yield _field_table(pair)
        for name, caption in FIGURES.items():
            if name in pair['figures'] and figure_name(index, name) in figures:
                caption = f'{_names(pair)}. {caption}'
                yield Plot(figure_name(index, name), caption, narrow=name != 'receptive_field')
            elif name in pair['figures']:
                yield Paragraph(f'missing picture: {pair["figures"][name]}', 'note')


def _pairs(results: Results) -> list[dict]:
    return results.get('explain', [])


def _names(pair: dict) -> str:
    return f'{pair["a"]["name"]} and {pair["b"]["name"]}'


def _field_table(pair: dict) -> Table:
    columns = [Column('Model', number=False), Column('Stage', number=False)]
    columns += [
        Column('Half of the field', 'side, %'),
        Column('95 % of the field', 'side, %'),
        Column('Attribution', number=False),
    ]
    rows = [
        [
            Cell(model['name'], run=model['name']),
            text_cell(field['stage']),
            number_cell(field['side_50_pct']),
            number_cell(field['side_95_pct']),
            text_cell(model['attribution']),
        ]
        for model in (pair['a'], pair['b'])
        for field in model['receptive_field']
    ]
    notes = [
        'Side of the smallest centred square that holds half, or 95 %, of the effective receptive field, in percent of '
        f'the input side; {pair["images"]:,} images.'
    ]
    return Table(f'{_names(pair)}: effective receptive field', columns, [rows], notes)
