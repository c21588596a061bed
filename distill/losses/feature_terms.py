"""What a student learns from one teacher of features: the terms of a config, with their heads and statistics."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distill.base.forward import find_layer
from distill.losses.embeddings import EMBEDDING_LOSSES, resampled
from distill.losses.features import FEATURE_LOSSES
from distill.losses.heads import HEADS, build_head, on_last_axis
from distill.losses.logits import LOGIT_LOSSES
from distill.losses.queue import EmbeddingQueue
from distill.losses.statistics import STATISTICS, WARMUP_STEPS, Statistics
from distill.losses.terms import check_options, check_weight

PLACES = ('pooled', 'grid', 'logits')
"""What is compared: embeddings of images, positions of maps, or predictions."""
STANDARDISED = ('mse', 'smooth_l1', 'radio')
"""Losses that see standardised targets unless a config says otherwise; the others do not depend on a scale."""
RELATIONS = ('rkd', 'attention_transfer', 'token_relations', 'gram')
"""Losses that compare relations, so that widths may differ and no head is needed."""
QUEUE_LENGTH = 8192
"""lightly-train's longest queue."""


@dataclass(frozen=True)
class Widths:
    """Numbers of channels on one side: of embeddings, of each map that can be asked for, and of logits.

    Attributes:
        pooled: Of embeddings; None where there are none.
        maps: Of maps, by layer; the teacher has one map, under None.
        logits: Number of classes.
    """

    pooled: int | None
    maps: Mapping[int | None, int | None]
    logits: int = 0


class FeatureTerm(nn.Module):
    """One loss of one teacher, as a config writes it: ``dict(type='cosine', on='pooled', weight=1.0, head='mlp')``.

    Args:
        type: A name of ``EMBEDDING_LOSSES`` or ``FEATURE_LOSSES``; on logits one of ``LOGIT_LOSSES`` without labels.
        on: One of ``PLACES``.
        weight: Factor of the term.
        head: Kind of the head, see `distill.losses.heads`; by default ``linear``, or ``none`` for relations.
        hidden: Width within an MLP; None for twice the teacher's.
        student_layer: On a grid the student's layer, an index of timm's `forward_intermediates`, negative from the
            end; None for what its `forward_features` gives.
        standardise: Whether the targets are standardised; by default for the losses in ``STANDARDISED``.
        queue: Length of the queue of `pseudo_classes`.
        **options: Arguments of the loss.

    Raises:
        ValueError: A name or an option is unknown, or the loss does not compare what ``on`` says.
    """

    def __init__(
        self,
        type: str,
        on: str = 'pooled',
        weight: float = 1.0,
        head: str | None = None,
        hidden: int | None = None,
        student_layer: int | None = None,
        standardise: bool | None = None,
        queue: int | None = None,
        **options,
    ):
        super().__init__()
        if on not in PLACES:
            raise ValueError(f"loss {type} is on '{on}'; choose from {', '.join(PLACES)}")
        known = losses_on(on)
        if type not in known:
            elsewhere = [place for place in PLACES if type in losses_on(place)]
            where = f'is no loss on {on}; set on={elsewhere[0]!r}, or' if elsewhere else 'is unknown;'
            raise ValueError(f"loss '{type}' {where} choose from {', '.join(known)}")
        check_weight(weight, f'loss {type}')
        check_options(type, known[type], options, ('head', 'hidden', 'standardise'))
        head = head or ('none' if type in RELATIONS else 'linear')
        if head not in HEADS:
            raise ValueError(f"loss {type} has the head '{head}', which is unknown; choose from {', '.join(HEADS)}")
        if student_layer is not None and on != 'grid':
            raise ValueError(f'loss {type} is on {on} and has student_layer={student_layer}; set on="grid" or drop it')
        if queue is not None and type != 'pseudo_classes':
            raise ValueError(f'loss {type} has no queue; drop queue={queue}')
        self.kind, self.on, self.weight, self.head, self.hidden = type, on, weight, head, hidden
        self.layer, self.function, self.options = student_layer, known[type], options
        self.standardise = type in STANDARDISED if standardise is None else standardise
        self.length = queue or QUEUE_LENGTH
        self.queue: EmbeddingQueue | None = None

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The term without its weight.

        Args:
            x: Student's features through the head, in fp32: [B, D], [B, H, W, D] or logits [B, K].
            y: Teacher's features, in fp32, of the same form.

        Returns:
            Scalar.
        """
        if self.kind in FEATURE_LOSSES:
            x, y = (z.permute(0, 3, 1, 2) if z.ndim == 4 else z[:, :, None, None] for z in (x, y))
        if self.queue is not None:
            return self.function(x, y, self.queue(y), **self.options)
        return self.function(x, y, **self.options)


def losses_on(place: str) -> dict[str, Callable[..., Tensor]]:
    """The losses that compare one of ``PLACES``, by name."""
    if place == 'logits':
        return {name: LOGIT_LOSSES[name] for name in ('soft_target_kl', 'hard_label', 'dist')}
    if place == 'pooled':
        of_images = {
            name: EMBEDDING_LOSSES[name] for name in EMBEDDING_LOSSES if name not in ('token_relations', 'gram')
        }
        return {**of_images, 'rkd': FEATURE_LOSSES['rkd']}
    return {**{name: EMBEDDING_LOSSES[name] for name in EMBEDDING_LOSSES if name != 'pseudo_classes'}, **FEATURE_LOSSES}


def check_settings(name: str, losses: Sequence[Mapping], statistics: str, warmup: int) -> None:
    """Check what a config says of a teacher's losses and statistics.

    Args:
        name: Name of the teacher, for errors.
        losses: Arguments of `FeatureTerm`.
        statistics: How the teacher's features are standardised.
        warmup: Steps over which statistics are gathered.

    Raises:
        ValueError: There is no loss, one has no type, or a value is none of its choices.
    """
    if not losses:
        raise ValueError(f"teacher '{name}' serves no loss; add one to its losses, such as dict(type='cosine')")
    for loss in losses:
        if not isinstance(loss, Mapping) or 'type' not in loss:
            raise ValueError(f"teacher '{name}' has the loss {loss!r} without a type; give dict(type='cosine')")
    if statistics not in STATISTICS:
        raise ValueError(
            f"teacher '{name}' has the statistics '{statistics}', which are unknown; choose from "
            f'{", ".join(STATISTICS)}'
        )
    if isinstance(warmup, bool) or not isinstance(warmup, int) or warmup < 1:
        raise ValueError(f"teacher '{name}' has a warmup of {warmup!r} steps; give a whole number of 1 or more")


def _widths(term: FeatureTerm, name: str, student: Widths, teacher: Widths) -> tuple[int, int]:
    """The widths of what a loss compares, of the student and of the teacher."""
    given = {'pooled': teacher.pooled, 'grid': teacher.maps.get(None), 'logits': teacher.logits or None}
    width = given[term.on]
    if width is None:
        there = ', '.join(place for place in PLACES if given[place]) or 'nothing'
        raise ValueError(
            f"loss {term.kind} is on {term.on}, which teacher '{name}' does not give; set on to one of: {there}"
        )
    own = student.maps[term.layer] if term.on == 'grid' else student.pooled
    if own is None:
        raise ValueError(f'loss {term.kind} is on {term.on}, which the student does not give; set on to pooled')
    if term.head == 'none' and own != width and term.kind not in RELATIONS:
        raise ValueError(
            f"loss {term.kind} compares {own} channels of the student with {width} of teacher '{name}' without "
            "a head; set head='linear' or 'mlp'"
        )
    return own, width


class FeatureTerms(nn.Module):
    """All losses of one teacher.

    Losses that compare the same with the same kind of head share that head, and all of a place share the teacher's
    statistics.

    Args:
        name: Name of the teacher.
        losses: Arguments of `FeatureTerm`.
        student: Widths of the student.
        teacher: Widths of the teacher.
        statistics: One of `distill.losses.statistics.STATISTICS`.
        warmup: Steps over which these are gathered.

    Raises:
        ValueError: There is no loss, or one compares what the teacher does not give.
    """

    def __init__(
        self,
        name: str,
        losses: Sequence[Mapping],
        student: Widths,
        teacher: Widths,
        statistics: str = 'mean_std',
        warmup: int = WARMUP_STEPS,
    ):
        super().__init__()
        check_settings(name, losses, statistics, warmup)
        self.terms = nn.ModuleList(FeatureTerm(**loss) for loss in losses)
        self.heads, self.statistics = nn.ModuleDict(), nn.ModuleDict()
        self.keys: list[str] = []
        for term in self.terms:
            if term.layer is not None:
                inner = [chs or 0 for layer, chs in student.maps.items() if layer is not None]
                term.layer = find_layer(term.layer, inner, 'student')
            own, width = _widths(term, name, student, teacher)
            place = term.on if term.layer is None else f'{term.on}_{term.layer}'
            key = f'{place}_{term.head}' + (f'_{term.hidden}' if term.hidden else '')
            self.keys.append(key)
            if key not in self.heads:
                self.heads[key] = build_head(term.head, own, width, term.hidden)
            if term.standardise and term.on != 'logits' and term.on not in self.statistics:
                self.statistics[term.on] = Statistics(statistics, width, warmup)
            if term.kind == 'pseudo_classes':
                term.queue = EmbeddingQueue(term.length, width)
        kinds = [f'{term.on}_{term.kind}' for term in self.terms]
        counts = [kinds[:i].count(kind) for i, kind in enumerate(kinds)]
        self.names = [f'{name}_{kind}' + (f'_{i + 1}' if i else '') for kind, i in zip(kinds, counts, strict=True)]

    @property
    def wanted(self) -> set[str]:
        """What the teacher must give, of ``PLACES``."""
        return {term.on for term in self.terms}

    @property
    def layers(self) -> set[int | None]:
        """Layers of the student whose maps are compared; None for the last features."""
        return {term.layer for term in self.terms if term.on == 'grid'}

    @property
    def weights(self) -> dict[str, float]:
        """The factor of each term by name."""
        return {name: term.weight for name, term in zip(self.names, self.terms, strict=True)}

    def forward(
        self, pooled: Tensor | None, maps: Mapping[int | None, Tensor], targets: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """The terms by name, without their weights.

        The head of a map runs on the coarser of the two grids; what it gives, or what it takes, is `resampled`.

        Args:
            pooled: Student's embeddings [B, C]; None if all terms are on the grid.
            maps: Student's maps [B, C, H, W] by layer.
            targets: What the teacher gives, by place: [B, D], [B, D', h, w], [B, K].

        Returns:
            Scalars.
        """
        projected: dict[str, Tensor] = {}
        for term, key in zip(self.terms, self.keys, strict=True):
            if key not in projected:
                x = maps[term.layer] if term.on == 'grid' else pooled
                assert x is not None
                projected[key] = self._project(self.heads[key], x, targets[term.on])
        with torch.autocast(next(iter(targets.values())).device.type, enabled=False):
            ys = {place: (on_last_axis(y) if y.ndim == 4 else y).float() for place, y in targets.items()}
            standardised = {place: own(ys[place]) for place, own in self.statistics.items()}
            values = {}
            for term, key, name in zip(self.terms, self.keys, self.names, strict=True):
                y = (standardised if term.standardise and term.on in standardised else ys)[term.on]
                values[name] = term(projected[key].float(), y)
            return values

    @staticmethod
    def _project(head: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """The student's features through a head, on the teacher's grid; positions lie before the channels."""
        if x.ndim == 2:
            return head(x)
        size = (y.shape[2], y.shape[3])
        if x.shape[2] * x.shape[3] > size[0] * size[1]:
            return head(resampled(on_last_axis(x), size))
        return resampled(head(on_last_axis(x)), size)
