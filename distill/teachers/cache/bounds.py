"""How much a loss can differ when a cache's decoded grids take the place of the true ones.

Let e be the difference of the decoded and the true embeddings as the loss sees them, ρ = ``rms`` and κ = ``chord`` the
errors of the manifest in that form (see `distill.teachers.cache.grid_codec.ERRORS`), each the largest among all views.
The student's side is the same in both. Then for a batch, whatever the student:

- `smooth_l1`: each element's slope is at most 1, so |ΔL| ≤ mean |e| ≤ ρ.
- `mse`: √L is a distance, so |Δ√L| ≤ ρ, and |ΔL| ≤ ρ (2 √L + ρ).
- `cosine`: with û, t̂, t of length 1, |û·t̂ − û·t| ≤ ‖t̂ − t‖, so |ΔL| ≤ κ.
- `radio`: ``direction`` · κ + ``size`` · ρ.
- `gram`: a cosine of two cells changes by at most the sum of their chords, whose root mean square is at most 2 κ; as
  `mse` with ρ = 2 κ.

For losses with a temperature (`token_relations`, `cwd`) no bound is stated, as one would be too wide to be of use.
"""

import math
from collections.abc import Mapping

BOUNDED = ('cosine', 'mse', 'smooth_l1', 'radio', 'gram')


def loss_bound(
    kind: str,
    errors: Mapping[str, float],
    loss: float = 0.0,
    statistics: str = 'none',
    direction: float = 0.9,
    size: float = 0.1,
) -> float:
    """The largest difference of a loss on a grid between a cache and the live teacher, without the loss's weight.

    Args:
        kind: Name of the loss, one of ``BOUNDED``.
        errors: ``worst`` of the grid in a manifest: then the bound holds for any batch. With ``mean`` it holds for the
            mean over all views, of the losses that are linear in their bound.
        loss: The value of the loss, which `mse` and `gram` need.
        statistics: How targets are standardised, see `distill.losses.statistics`; ``none`` for losses that see them as
            they are. Mean and deviation are those of the cache's sample. If a run's own deviation is smaller, ρ is
            larger by that factor.
        direction: Option of `radio`.
        size: Option of `radio`.

    Raises:
        ValueError: No bound is stated for such a loss.
    """
    if kind not in BOUNDED:
        raise ValueError(f"no bound is stated for loss '{kind}' on a compressed grid; choose from {', '.join(BOUNDED)}")
    rms, chord = errors[f'rms_{statistics}'], errors[f'chord_{statistics}']
    if kind == 'gram':
        return 2 * chord * (2 * math.sqrt(loss) + 2 * chord)
    if kind == 'mse':
        return rms * (2 * math.sqrt(loss) + rms)
    return {'cosine': chord, 'smooth_l1': rms, 'radio': direction * chord + size * rms}[kind]
