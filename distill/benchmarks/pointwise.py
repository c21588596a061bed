"""Linear against 1×1 convolutional pointwise layers in ConvNeXt and its light variants, in eager and in engines.

ConvNeXt's pointwise layers are linear layers on images that lie channels last. A light implementation turns them into
1×1 convolutions, which are the same function (`backbones.relatives.convnext_roadmap.convert_pointwise`). Which of them
is faster depends on the engine.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from distill.benchmarks.inference import Settings, Subject, Tell, benchmark_inference

FORMS = {'linear': False, '1x1': True}
"""The forms, and `conv_mlp` of each."""


def benchmark_pointwise(
    models: Sequence[str],
    settings: Settings,
    folder: Path,
    tell: Tell = lambda line: None,
    track: Callable[[Iterable], Iterable] = iter,
) -> dict:
    """Measure both forms of each model in turns; see `benchmark_inference`.

    Args:
        models: timm names of models that take ``conv_mlp``.
        settings: What all variants share.
        folder: Folder for artefacts.
        tell: Takes lines about the preparation.
        track: Called with an iterable, which it passes on with a progress bar.

    Returns:
        What `benchmark_inference` returns, and ``pairs``: for each model and engine ``linear_ms`` and ``1x1_ms``, the
        median latency of one image, ``linear_images_per_s`` and ``1x1_images_per_s``, and ``ratio`` of the latter two,
        above 1 where the 1×1 convolutions are faster.
    """
    subjects = [
        Subject(f'{model}-{form}', model, {'conv_mlp': is_conv}) for model in models for form, is_conv in FORMS.items()
    ]
    result = benchmark_inference(subjects, settings, folder, tell, track)
    pairs = []
    for model in models:
        for engine, precision in dict.fromkeys((row['engine'], row['precision']) for row in result['rows']):
            of = {
                form: row
                for row in result['rows']
                for form in FORMS
                if (row['model'], row['engine'], row['precision']) == (f'{model}-{form}', engine, precision)
            }
            if len(of) < len(FORMS):
                continue  # What is missing is listed as left out.
            pair = {'model': model, 'engine': engine, 'precision': precision}
            for form, row in of.items():
                pair |= {f'{form}_ms': row['latency_ms']['p50'], f'{form}_images_per_s': row['images_per_s']}
            pairs.append({**pair, 'ratio': pair['1x1_images_per_s'] / pair['linear_images_per_s']})
    return {**result, 'pairs': pairs}


def table(result: dict) -> str:
    """The result of `benchmark_pointwise` as a table for people."""
    lines = [f'{"":<16}{"engine":<10}{"type":<6}{"linear ms":>10}{"1x1 ms":>8}{"linear/s":>10}{"1x1/s":>8}{"ratio":>7}']
    for pair in result['pairs']:
        latency = f'{pair["linear_ms"]:>10.1f}{pair["1x1_ms"]:>8.1f}'
        speed = f'{pair["linear_images_per_s"]:>10.2f}{pair["1x1_images_per_s"]:>8.2f}{pair["ratio"]:>7.2f}'
        lines.append(f'{pair["model"]:<16}{pair["engine"]:<10}{pair["precision"]:<6}{latency}{speed}')
    lines += [
        f'left out: {one["model"]} {one["engine"]} {one["precision"]}: {one["reason"]}' for one in result['left_out']
    ]
    return '\n'.join([*lines, 'ratio: images/s of 1x1 convolutions to those of linear layers'])
