"""The terms of a weighted sum of losses, as a config writes them.

The losses themselves are in `distill.losses.logits` and `distill.losses.features`. Where the student has a distillation
token, terms that need the teacher act on the logits of that token and the others on the logits of the class token.
``cross_entropy`` + ``hard_label``, weight 0.5 each, is then DeiT's hard distillation through the token, and
``soft_target_kl`` in place of ``hard_label`` DeiT's soft distillation (Touvron et al., ICML 2021). When such a student
predicts, it averages the two.
"""

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from distill.base.forward import find_layer
from distill.losses.consistency import CONSISTENCY_LOSSES
from distill.losses.features import FEATURE_LOSSES, needs_projector
from distill.losses.logits import LOGIT_LOSSES


class WeightedLoss(nn.Module):
    """One term of a weighted sum, as a config writes it: ``dict(type='soft_target_kl', weight=1.0, temperature=2.0)``.

    Args:
        type: A name of ``LOGIT_LOSSES``, ``CONSISTENCY_LOSSES`` or ``FEATURE_LOSSES``.
        weight: Factor of the term.
        layers: For a feature loss, pairs (layer of the student, layer of the teacher), each an index of timm's
            `forward_intermediates`, negative from the end; the term is the sum over the pairs.
        **options: Arguments of the loss.

    Attributes:
        name: Key of the term in the log.
        needs_clean: Whether the term takes the student's logits of the clean views beside those of corrupted copies.
        needs_teacher: Whether the term compares the student with the teacher.
        needs_all_classes: Whether the teacher must give the logits of all classes exactly: the largest probabilities
            alone do not tell how the others are softened (T ≠ 1) or standardised.
        projectors: For each pair of layers what maps the student's channels to the teacher's, see `connect`.

    Raises:
        ValueError: The name or an option is unknown; a feature loss has no layers, or another loss has some.
    """

    def __init__(self, type: str, weight: float = 1.0, layers: Sequence[tuple[int, int]] = (), **options):
        super().__init__()
        functions = {**LOGIT_LOSSES, **CONSISTENCY_LOSSES, **FEATURE_LOSSES}
        if type not in functions:
            raise ValueError(f"loss '{type}' is unknown; choose from {', '.join(functions)}")
        if bool(layers) != (type in FEATURE_LOSSES):
            example = f"dict(type='{type}', layers=[(-1, -1)])"
            raise ValueError(
                f'loss {type} compares logits; drop layers' if layers else f'loss {type} needs layers, as in {example}'
            )
        check_weight(weight, f'loss {type}')
        self.kind, self.name, self.weight = type, f'loss_{type}', weight
        self.layers = [tuple(pair) for pair in layers]
        self.function, self.options = functions[type], options
        self.inputs = check_options(type, self.function, options)
        inputs = inspect.signature(self.function).parameters
        self.needs_clean = 'logits_of_all' in self.inputs
        self.needs_teacher = bool(layers) or 'teacher_logits' in self.inputs
        temperature = options.get('temperature', inputs['temperature'].default if 'temperature' in inputs else 1.0)
        self.needs_all_classes = temperature != 1.0 or options.get('standardise', False)
        self.projectors = nn.ModuleList()

    def connect(self, student_chs: Sequence[int], teacher_chs: Sequence[int]) -> None:
        """Look up the layers, and make projectors (1×1 convolutions) from the student's channels to the teacher's.

        Projectors are trained with the student and stay out of the saved student.

        Args:
            student_chs: Channels of each layer of the student.
            teacher_chs: Channels of each layer of the teacher.

        Raises:
            ValueError: A layer is out of range.
        """
        pairs = [(find_layer(s, student_chs, 'student'), find_layer(t, teacher_chs, 'teacher')) for s, t in self.layers]
        self.layers = pairs
        for s, t in pairs:
            if needs_projector(self.kind, student_chs[s], teacher_chs[t]):
                self.projectors.append(nn.Conv2d(student_chs[s], teacher_chs[t], 1))
            else:
                self.projectors.append(nn.Identity())

    def forward(
        self,
        logits: Tensor,
        target: Tensor,
        teacher_logits: Tensor | None = None,
        maps: dict[int, Tensor] | None = None,
        teacher_maps: dict[int, Tensor] | None = None,
        logits_of_all: Tensor | None = None,
    ) -> Tensor:
        """The weighted loss, computed outside autocast.

        Args:
            logits: Student's logits [B, K].
            target: Labels [B], or probabilities [B, K].
            teacher_logits: Teacher's logits [B, K].
            maps: Student's feature maps [B, C, H, W] by layer.
            teacher_maps: Teacher's feature maps [B, C', H', W'] by layer.
            logits_of_all: Student's logits [n · B', K] of the clean views and then of their copies, for a term that
                needs the clean ones; it takes the first B' of the targets, which come again for each copy.

        Returns:
            Scalar.
        """
        with torch.autocast(logits.device.type, enabled=False):
            if self.layers:
                pairs = zip(self.projectors, self.layers, strict=True)
                terms = [
                    self.function(project(maps[s].float()), teacher_maps[t].float(), **self.options)
                    for project, (s, t) in pairs
                ]
                return self.weight * sum(terms)
            given = dict(logits=logits, target=target, teacher_logits=teacher_logits)
            if self.needs_clean:
                of_all: Any = logits_of_all  # There, since a term of this kind asks for it.
                views = 1 + len(logits) // (len(of_all) - len(logits))
                given |= dict(logits_of_all=of_all, views=views, target=target[: len(of_all) // views])
            return self.weight * self.function(**{name: given[name] for name in self.inputs}, **self.options)


def check_weight(weight: Any, owner: str) -> None:
    """Check that a weight is a finite number.

    Args:
        weight: The weight.
        owner: Whose it is, for the error.

    Raises:
        ValueError: It is not.
    """
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not math.isfinite(weight):
        raise ValueError(f'{owner} has the weight {weight!r}; give a number')


def check_options(type: str, function: Callable, options: Iterable[str], others: Sequence[str] = ()) -> list[str]:
    """Check that a loss takes what a config gives it.

    Args:
        type: Name of the loss, for the error.
        function: The loss: what it compares has no default, and an option has one.
        options: Names that the config gives.
        others: What every loss of the config takes besides its weight.

    Returns:
        What the loss compares.

    Raises:
        ValueError: It has no such option.
    """
    inputs = inspect.signature(function).parameters
    known = [name for name, parameter in inputs.items() if parameter.default is not parameter.empty]
    if unknown := sorted(set(options) - set(known)):
        raise ValueError(
            f"loss {type} has no option '{unknown[0]}'; choose from {', '.join(['weight', *others, *known])}"
        )
    return [name for name in inputs if name not in known]


def build_losses(configs: Sequence[dict]) -> nn.ModuleList:
    """Terms of a weighted sum; the second and further ones of a type are numbered: ``loss_dkd``, ``loss_dkd_2``, ….

    Args:
        configs: Arguments of `WeightedLoss`.
    """
    losses = nn.ModuleList(WeightedLoss(**config) for config in configs)
    for i, loss in enumerate(losses):
        same = [earlier.kind for earlier in losses[:i]].count(loss.kind)
        loss.name += f'_{same + 1}' if same else ''
    return losses
