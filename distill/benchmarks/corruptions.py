"""Speed and agreement of the corruptions against imagecorruptions-imaug, side by side."""

import importlib
import importlib.util
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from distill.base.images import read_image
from distill.corruptions import DETERMINISTIC, KINDS, SEVERITIES, corrupt, frost_source

ENDINGS = ('.jpg', '.jpeg', '.png')
BANDS = 8
"""Rings into which the spectrum of a corruption is divided."""


def read_images(folder: Path, count: int, size_px: int = 224) -> np.ndarray:
    """Read up to `count` images of a folder and the folders below it, evenly spread: resized, and the middle cropped.

    Returns:
        uint8 [B, size_px, size_px, 3], RGB.

    Raises:
        ValueError: The folder has no image, or a file cannot be decoded.
    """
    files = sorted(path for path in folder.rglob('*') if path.suffix.lower() in ENDINGS)
    if not files:
        raise ValueError(f"'{folder}' has no image ({', '.join(ENDINGS)}); correct the path")
    chosen = np.linspace(0, len(files) - 1, min(count, len(files))).round().astype(int)
    images = [read_image(files[index])[0] for index in chosen]
    return np.stack([np.asarray(ImageOps.fit(image, (size_px, size_px), Image.Resampling.BICUBIC)) for image in images])


def benchmark_corruptions(
    images: np.ndarray,
    kinds: Sequence[str] = KINDS,
    repeats: int = 3,
    progress: Callable[[str], None] = lambda kind: None,
) -> dict:
    """Time every severity of `kinds` in turns with the peer and compare the results.

    The time of a cell is processor time of all threads together, the best of `repeats` passes over the images. Where
    the peer differs from the original, the time is that of the original's definition and the agreement that of the
    peer's.

    Args:
        images: uint8 [B, H, W, 3], RGB; 20 or so of 224 pixels give steady figures.
        kinds: Of `KINDS` and `EXTRA_KINDS`.
        repeats: Passes over the images, at least 1.
        progress: Called with each kind that is about to start.

    Returns:
        ``total_ratio``: this project's images/s divided by the peer's, all cells together. ``worst_ratio``: the
        least ratio of a kind. ``kinds``: for each kind ``images_per_s``, ``peer_images_per_s``, ``ratio`` and
        ``agreement``. The agreement of deterministic kinds has ``mismatch_pct`` and ``mismatch_above_1_pct`` (share of
        values that differ at all, and by more than one grey level). That of random kinds has ``mean_difference`` and
        its standard error ``mean_difference_se`` (grey levels), ``rms_ratio`` (of the change that the corruption
        makes) and ``spectrum_ratio`` (of that change, in the ring of frequencies that agrees least), this project's
        to the peer's.

    Raises:
        ValueError: The peer is not installed, or a kind is unknown.
    """
    if importlib.util.find_spec('imagecorruptions') is None:
        raise ValueError('imagecorruptions is not installed; get the peer by `pip install imagecorruptions-imaug`')
    peer = importlib.import_module('imagecorruptions').corrupt
    np.random.seed(0)  # the peer draws from the global generator
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        rows = {}
        for kind in kinds:
            progress(kind)
            rows[kind] = _benchmark_kind(images, kind, peer, repeats)
    finally:
        cv2.setNumThreads(threads)
    own_s, peer_s = (sum(row[key] for row in rows.values()) for key in ('time_s', 'peer_time_s'))
    return {
        'images': len(images),
        'size_px': list(images.shape[1:3]),
        'severities': list(SEVERITIES),
        'repeats': repeats,
        'frost': frost_source(),
        'total_ratio': peer_s / own_s,
        'worst_ratio': min(row['ratio'] for row in rows.values()),
        'kinds': rows,
    }


def _benchmark_kind(images: np.ndarray, kind: str, peer: Callable, repeats: int) -> dict:
    times = np.full((2, len(SEVERITIES)), np.inf)
    agreements = []
    for column, severity in enumerate(SEVERITIES):
        # The first call of each builds its tables or compiles its code.
        corrupt(images[:1], kind, severity, [0])
        peer(images[0], severity, kind)
        for repeat in range(repeats):
            start = time.process_time()
            own = corrupt(images, kind, severity, [(repeat, index) for index in range(len(images))])
            middle = time.process_time()
            peers = np.stack([peer(image, severity, kind) for image in images])
            passed = middle - start, time.process_time() - middle
            times[:, column] = np.minimum(times[:, column], passed)
        own = corrupt(images, kind, severity, range(len(images)), definition='imagecorruptions')
        agreements.append(_agreement(images, own, peers, kind))
    agreement = {key: float(np.mean([row[key] for row in agreements])) for key in agreements[0]}
    if kind not in DETERMINISTIC:
        # Of the mean over severities, which are independent.
        agreement['mean_difference_se'] /= len(SEVERITIES) ** 0.5
    time_s, peer_time_s = times.sum(axis=1).tolist()
    cells = len(images) * len(SEVERITIES)
    return {
        'time_s': time_s,
        'peer_time_s': peer_time_s,
        'images_per_s': cells / time_s,
        'peer_images_per_s': cells / peer_time_s,
        'ratio': peer_time_s / time_s,
        'agreement': agreement,
    }


def _agreement(images: np.ndarray, own: np.ndarray, peers: np.ndarray, kind: str) -> dict[str, float]:
    """Compare the corrupted images of both, all [B, H, W, 3]; see `benchmark_corruptions`."""
    if kind in DETERMINISTIC:
        difference = np.abs(own.astype(int) - peers)
        return {
            'mismatch_pct': 100 * np.mean(difference > 0),
            'mismatch_above_1_pct': 100 * np.mean(difference > 1),
        }
    changes = [corrupted.astype(np.float32) - images for corrupted in (own, peers)]
    rms = [np.sqrt(np.mean(change**2)) for change in changes]
    spectra = [_spectrum(change) for change in changes]
    ratios = spectra[0] / spectra[1]
    differences = changes[0].mean(axis=(1, 2, 3)) - changes[1].mean(axis=(1, 2, 3))
    return {
        'mean_difference': differences.mean(),
        'mean_difference_se': differences.std() / np.sqrt(len(images)),
        'rms_ratio': rms[0] / rms[1],
        'spectrum_ratio': ratios[np.abs(np.log(ratios)).argmax()],
    }


def _spectrum(change: np.ndarray) -> np.ndarray:
    """Average the amplitudes [BANDS] of the frequencies of [B, H, W, 3] in rings of equal width, without the mean."""
    height, width = change.shape[1:3]
    power = np.mean(np.abs(np.fft.fft2(change, axes=(1, 2))) ** 2, axis=(0, 3))
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    ring = np.minimum(radius / 0.5 * BANDS, BANDS - 1).astype(int)
    power[0, 0] = 0
    return np.sqrt(np.bincount(ring.ravel(), power.ravel()) / np.bincount(ring.ravel()))


def table(result: dict) -> str:
    """Format the result of `benchmark_corruptions` as a table for people."""
    lines = [f'{"corruption":<20}{"images/s":>10}{"peer":>10}{"ratio":>8}  agreement']
    for kind, row in result['kinds'].items():
        agreement = ', '.join(f'{key} {value:.4g}' for key, value in row['agreement'].items())
        speed = f'{row["images_per_s"]:>10.1f}{row["peer_images_per_s"]:>10.1f}{row["ratio"]:>8.2f}'
        lines.append(f'{kind:<20}{speed}  {agreement}')
    return '\n'.join([*lines, f'{"total":<40}{result["total_ratio"]:>8.2f}'])
