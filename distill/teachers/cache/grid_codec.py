"""Compress a teacher's grid of patch embeddings: principal components of a sample, each as a number of 8 or 16 bits.

Channels are standardised before the components are found, since the losses on grids standardise them: a channel of
small variance counts as much as a wide one. The error of a grid is measured when it is written, see `ERRORS`, in such
a way that a bound on the difference of a loss follows from it, see `distill.teachers.cache.bounds`.
"""

import functools
import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from distill.base.files import write_npz

CODEC = 'grid.npz'
ARRAYS = ('mean', 'std', 'components', 'scale')
DTYPES = ('int8', 'float16')
LARGEST = 127
STATISTICS = ('none', 'mean_std', 'phi_s', 'layer_norm')
"""Forms in which losses compare embeddings, see `distill.losses.statistics`; mean and deviation are the codec's."""
ERRORS = tuple(f'{measure}_{form}' for form in STATISTICS for measure in ('rms', 'chord'))
"""Errors of a view's grid, between the decoded and the true embeddings in each of ``STATISTICS``. ``rms``: root of the
mean square, over cells and channels, of their difference. ``chord``: root of the mean square, over cells, of the length
of the difference when each of the two is scaled to length 1, from 0 to 2."""
TOKENS = 2**15
"""Cells of the sample that components are found on, at the most: spread evenly over its views."""


@dataclass(frozen=True)
class GridCodec:
    """How a grid [N, D, h, w] becomes codes [N, h · w, d] and comes back. All arrays are in float32.

    An embedding t is decoded from its code c as ``mean + std · ((c · scale) @ components)``.

    Attributes:
        mean: Mean of each channel in the sample [D].
        std: Its standard deviation in the sample [D].
        components: The first principal components of the standardised sample, as orthonormal rows [d, D].
        scale: What a code of 1 means, for each component [d].
        dtype: ``int8`` or ``float16``.
    """

    mean: Tensor
    std: Tensor
    components: Tensor
    scale: Tensor
    dtype: str
    _copies: dict[torch.device, 'GridCodec'] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def fit(cls, tokens: Tensor, dims: int, dtype: str) -> 'GridCodec':
        """Find the components of a sample.

        Args:
            tokens: Embeddings [M, D].
            dims: Components d to keep, at most D.
            dtype: ``int8`` or ``float16``.
        """
        exact = tokens.double()
        mean, variance = exact.mean(0), exact.var(0)
        # As the standardisation of losses does: a channel that hardly varies is not blown up to the size of the others.
        std = variance.clamp(min=1e-4 * variance.mean().clamp(min=1e-12)).sqrt()
        standard = (exact - mean) / std
        _, vectors = torch.linalg.eigh(standard.T @ standard)
        components = vectors.T.flip(0)[:dims]
        # The sign of a component is free: with the largest entry positive, the same sample gives the same file.
        largest = components.gather(1, components.abs().argmax(1, keepdim=True))
        components = components * largest.sign()
        most = (standard @ components.T).abs().amax(0).clamp(min=1e-6)
        scale = most / LARGEST if dtype == 'int8' else most
        return cls(mean.float(), std.float(), components.float(), scale.float(), dtype)

    @classmethod
    def read(cls, folder: Path, dtype: str, sha256: str) -> 'GridCodec':
        """Read the codec of a cache.

        Args:
            folder: Folder of the cache.
            dtype: ``int8`` or ``float16``.
            sha256: Hash of the file.

        Raises:
            FileNotFoundError: There is none.
            ValueError: It is not the one that the cache was written with.
        """
        path = folder / CODEC
        if not path.is_file():
            raise FileNotFoundError(f"cache '{folder}' lacks {CODEC}, by which its grids are decoded; write it anew")
        if codec_sha256(folder) != sha256:
            raise ValueError(f"'{path}' is not the one that the cache was written with; write the cache anew")
        with np.load(path) as arrays:
            mean, std, components, scale = (torch.from_numpy(arrays[name]) for name in ARRAYS)
        return cls(mean, std, components, scale, dtype)

    def write(self, folder: Path) -> str:
        """Write the codec into the folder of its cache; returns the hash of the file."""
        write_npz(folder / CODEC, {name: getattr(self, name).numpy() for name in ARRAYS}, compress=False)
        return codec_sha256(folder)

    def on(self, device: torch.device | str) -> 'GridCodec':
        """The codec with its arrays on a device; the same copy each time."""
        device = torch.device(device)
        if device == self.mean.device:
            return self
        if device not in self._copies:
            mean, std, components, scale = (getattr(self, name).to(device) for name in ARRAYS)
            self._copies[device] = GridCodec(mean, std, components, scale, self.dtype)
        return self._copies[device]

    def encode(self, grid: Tensor) -> Tensor:
        """Codes [N, h · w, d] of a grid [N, D, h, w]."""
        tokens = grid.float().flatten(2).transpose(1, 2)
        values = ((tokens - self.mean) / self.std) @ self.components.T / self.scale
        if self.dtype == 'int8':
            return values.round().clamp(-LARGEST, LARGEST).to(torch.int8)
        return values.half()

    def decode(self, codes: Tensor, height: int, width: int) -> Tensor:
        """The grid [N, D, h, w] of codes [N, h · w, d], channels last in memory."""
        # In single precision under mixed precision too: what is stored is as exact as the manifest says.
        with torch.autocast(codes.device.type, enabled=False):
            tokens = torch.addmm(self.mean, codes.flatten(0, 1).float(), self._basis)
        return tokens.view(len(codes), height, width, -1).permute(0, 3, 1, 2)

    @functools.cached_property
    def _basis(self) -> Tensor:
        """What a code of 1 adds to the embedding, for each component [d, D]."""
        return self.scale[:, None] * self.components * self.std

    def errors(self, grid: Tensor, decoded: Tensor) -> Tensor:
        """The errors `ERRORS` of each view [N, 8].

        Args:
            grid: True embeddings [N, D, h, w].
            decoded: What their codes give [N, D, h, w].
        """
        true, found = (each.float().flatten(2).transpose(1, 2) for each in (grid, decoded))
        errors = []
        for form in STATISTICS:
            a, b = self._in_form(true, form), self._in_form(found, form)
            errors.append((b - a).square().mean((1, 2)).sqrt())
            a, b = F.normalize(a, dim=2), F.normalize(b, dim=2)
            errors.append((b - a).square().sum(2).mean(1).sqrt())
        return torch.stack(errors, dim=1)

    def _in_form(self, tokens: Tensor, form: str) -> Tensor:
        """Embeddings [N, P, D] in one of ``STATISTICS``, up to a rotation, which changes no length."""
        if form == 'layer_norm':
            return F.layer_norm(tokens, tokens.shape[2:])
        if form == 'none':
            return tokens
        scale = self.std if form == 'mean_std' else self.std.square().mean().sqrt()
        return (tokens - self.mean) / scale


def codec_sha256(folder: Path) -> str:
    """Hash of the codec's file in the folder of a cache."""
    return hashlib.sha256((folder / CODEC).read_bytes()).hexdigest()


def sample_tokens(grid: Tensor, views: int, seed: int) -> Tensor:
    """Some embeddings [M, D] of a batch of grids [N, D, h, w], the same number of each view and at cells of chance.

    Args:
        grid: Grids of a part of the sample.
        views: Views of the whole sample.
        seed: Of the cells.
    """
    tokens = grid.float().flatten(2).transpose(1, 2)
    count = min(max(TOKENS // views, 1), tokens.shape[1])
    generator = torch.Generator().manual_seed(seed)
    places = torch.stack([torch.randperm(tokens.shape[1], generator=generator)[:count] for _ in range(len(tokens))])
    return tokens.gather(1, places[:, :, None].expand(-1, -1, tokens.shape[2]).to(tokens.device)).flatten(0, 1).cpu()
