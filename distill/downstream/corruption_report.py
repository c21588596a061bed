"""The scores of a detector or segmenter under corruption, as Markdown and as a plot of score against severity."""

import io
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from mmengine.config import Config

from distill.base.figures import GRID, INK, PALETTE, PNG_DPI
from distill.base.files import write_bytes, write_text
from distill.base.markdown import table

MARKERS = 'os^Dv'


def write_report(entry: dict, config: Config, out: Path) -> None:
    """Write ``corruptions.md`` and ``corruptions.png``.

    Args:
        entry: The entry ``corruption`` of ``results.json``.
        config: The config that was tested.
        out: Folder for both.
    """
    names = [name for name, value in entry.items() if isinstance(value, dict) and 'mPC' in value]
    write_bytes(out / 'corruptions.png', draw(entry, names))
    write_text(out / 'corruptions.md', render(entry, names, config))


def render(entry: dict, names: list[str], config: Config) -> str:
    """Write the page in Markdown: P, mPC and rPC of each score, then every cell, all × 100.

    Args:
        entry: The entry ``corruption`` of ``results.json``.
        names: The scores to show.
        config: The config that was tested.
    """
    severities = entry['severities']
    lines = [
        f'# {Path(config.filename).stem} under corruption',
        '',
        f'{len(entry["kinds"])} kinds × {len(severities)} severities, corrupted on the fly (frost: {entry["frost"]}), '
        f'{entry["images"]} images, seed {entry["seed"]}. Checkpoint `{config.load_from}`, weights '
        f'`{entry["weights_sha256"][:12]}`; {", ".join(f"{k} {v}" for k, v in entry["versions"].items())}.',
        'P is the score on clean images, mPC the mean over all cells, rPC = mPC / P (Michaelis et al., 2019).',
        '',
        table(['score', 'P', 'mPC', 'rPC'], [_summary(name, entry[name]) for name in names]),
        '',
        '![score against severity](corruptions.png)',
        '',
        *_seen(entry, names),
    ]
    for name in names:
        rows = [
            [_label(kind, entry), *(f'{100 * score:.1f}' for score in [*scores, np.mean(scores)])]
            for kind, scores in entry[name]['cells'].items()
        ]
        lines += [f'## {name}', '', table(['kind', *map(str, severities), 'mean'], rows), '']
    return '\n'.join(lines)


def _label(kind: str, entry: dict) -> str:
    return kind.replace('_', ' ') + (' *' if kind in entry.get('seen_kinds', ()) else '')


def _seen(entry: dict, names: list[str]) -> list[str]:
    if 'seen_kinds' not in entry:
        return []
    means = [f'{name} {100 * entry[name]["mPC_unseen"]:.1f}' for name in names if 'mPC_unseen' in entry[name]]
    without = f' mPC without them: {", ".join(means)}.' if means else ''
    return ['Kinds with a star were seen in training, which makes their scores no test of robustness.' + without, '']


def _summary(name: str, score: dict) -> list[str]:
    relative = '–' if score['rPC_pct'] is None else f'{score["rPC_pct"]:.1f} %'
    return [name, f'{100 * score["P"]:.1f}', f'{100 * score["mPC"]:.1f}', relative]


def draw(entry: dict, names: list[str]) -> bytes:
    """Draw a PNG with a panel for each score: a line for each kind, and the mean of all in black.

    Args:
        entry: The entry ``corruption`` of ``results.json``.
        names: The scores to show.
    """
    severities = [0, *entry['severities']]  # 0 stands for the clean images
    figure = Figure(figsize=(6.4 * len(names), 4.8), layout='constrained')
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
        clean, by_kind = entry[name]['P'], entry[name]['cells']
        for number, (kind, scores) in enumerate(by_kind.items()):
            axes.plot(
                severities,
                [100 * clean, *(100 * score for score in scores)],
                color=PALETTE[number % len(PALETTE)],
                marker=MARKERS[number // len(PALETTE) % len(MARKERS)],
                markersize=4,
                linewidth=1,
                label=kind.replace('_', ' '),
            )
        mean = 100 * np.mean(list(by_kind.values()), axis=0)
        axes.plot(severities, [100 * clean, *mean], color=INK, linewidth=2.5, label='mean')
        axes.set(xlabel='severity', ylabel=f'{name} × 100', xticks=severities)
        axes.set_ylim(bottom=0)
        axes.set_title(f'P {100 * clean:.1f}, mPC {100 * entry[name]["mPC"]:.1f}', loc='left', fontsize=10)
        axes.grid(color=GRID, linewidth=0.6)
        axes.spines[['top', 'right']].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside right center', frameon=False, fontsize=8)
    buffer = io.BytesIO()
    with matplotlib.rc_context({'savefig.dpi': PNG_DPI}):
        figure.savefig(buffer, format='png')
    return buffer.getvalue()
