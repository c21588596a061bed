"""A detector or segmenter that learns from a teacher: any model of mmdet or mmseg, with a teacher beside it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.logging import MessageHub
from mmengine.registry import MODELS
from torch import Tensor, nn

from distill.base.processes import rank_and_count
from distill.base.seeding import kept_generators, seed_everything
from distill.downstream.dense_teacher import DenseTeacher, describe, watch
from distill.downstream.dense_terms.base import Pass
from distill.downstream.dense_terms.build import build_terms
from distill.downstream.student_config import DISTILLER, PART

BEFORE, AFTER = 0, 1
"""The two blocks of random numbers of a step: of the teacher, and of the terms."""


class Distillation(nn.Module):
    """A teacher and the terms that compare the student with it; the part of a student's model that is not the student.

    Args:
        teacher: The teacher, which is no submodule.
        terms: The terms, connected.
        neck_strides: The stride of each map of the student's neck.
        watched: Names of the student's modules whose calls the terms want to see.
    """

    def __init__(
        self, teacher: DenseTeacher, terms: nn.ModuleList, neck_strides: Sequence[int], watched: Sequence[str]
    ):
        super().__init__()
        self.teacher, self.terms = teacher, terms
        self.neck_strides, self.watched = list(neck_strides), list(watched)

    def _apply(self, fn: Callable, *args: Any, **kwargs: Any) -> nn.Module:
        self.teacher.apply(fn)
        return super()._apply(fn, *args, **kwargs)

    def forward(self, student: Any, loss: Callable[..., dict], inputs: Tensor, samples: list, **more: Any) -> dict:
        """The student's own losses, and the terms beside them.

        Args:
            student: The student's model.
            loss: Its own ``loss``.
            inputs: The batch [N, 3, H, W].
            samples: The data samples.
            **more: Further arguments of ``loss``.

        Returns:
            Losses by name; those of the distillation begin with ``distill.``.
        """
        step = MessageHub.get_current_instance().get_info('iter', 0)
        weights = [term.weight(step) for term in self.terms]
        if not any(weights):
            return self._beside(loss(inputs, samples, **more), self._without(weights, inputs))
        # The teacher first: the memory of its activations is free again when the student's pile up.
        with own_randomness(inputs.device, BEFORE):
            taught = self.teacher(inputs, samples)
        run = Pass(student, inputs, samples)
        with watch(run, self.neck_strides, self.watched):
            losses = loss(inputs, samples, **more)
        terms: dict[str, Tensor] = {}
        with own_randomness(inputs.device, AFTER), torch.autocast(inputs.device.type, enabled=False):
            for term, weight in zip(self.terms, weights, strict=True):
                if weight:
                    found = term(run, taught)
                    number = term.name.removeprefix(term.kind)
                    terms |= {f'{k}{number}': v * weight if 'loss' in k else v for k, v in found.items()}
        return self._beside(losses, self._without(weights, inputs) | terms)

    def _without(self, weights: Sequence[float], inputs: Tensor) -> dict[str, Tensor]:
        """What stands for the terms that have no weight now: 0, which of several processes all parameters are part of.

        A parameter that no loss depends on is an error of DDP's.
        """
        terms = {}
        for term, weight in zip(self.terms, weights, strict=True):
            if not weight:
                zero = inputs.new_zeros(())
                if rank_and_count()[1] > 1:
                    zero = sum((0 * p.sum() for p in term.parameters()), zero)
                terms[f'loss_{term.name}'] = zero
        return terms

    @staticmethod
    def _beside(losses: Mapping[str, Any], terms: Mapping[str, Tensor]) -> dict[str, Any]:
        return {**losses, **{f'distill.{name}': value for name, value in terms.items()}}


class Distilled:
    """What a student's class gets in front of it: the same model, whose training adds the terms of a distillation.

    Attributes:
        distillation: Teacher and terms.
    """

    distillation: Distillation

    def loss(self, inputs: Tensor, data_samples: list, **more: Any) -> dict:
        """The student's losses, which are those that it has alone, and those of the distillation."""
        return self.distillation(self, super().loss, inputs, data_samples, **more)  # type: ignore[misc]

    def init_weights(self) -> None:
        """Initialise the student as if it were alone: what the terms train has its weights already."""
        distillation = self._modules.pop(PART)  # type: ignore[attr-defined]
        try:
            super().init_weights()  # type: ignore[misc]
        finally:
            self._modules[PART] = distillation  # type: ignore[attr-defined]


@MODELS.register_module(name=DISTILLER)
def dense_distiller(
    student: Mapping, teacher: Mapping | None = None, losses: Sequence[Mapping] = (), data_preprocessor: Any = None
) -> nn.Module:
    """Build a student that learns from a teacher.

    The result is the student's own model: its class has `Distilled` in front of it, as torch's parametrisations and
    FSDP put a class in front of a module's, and its one further part ``distillation`` holds what the terms train. So
    names of weights, optimizers, layer decay, hooks, wrappers, tests and checkpoints are those of the student's config;
    checkpoints hold a few weights more, which `distill.downstream.dense_hooks` leaves out of the student's own file.

    Building the student draws the random numbers that it draws alone, and training does too.

    Args:
        student: The student's model, as any config of mmdet or mmseg has it.
        teacher: Arguments of `DenseTeacher`: ``checkpoint``, and ``config`` unless it lies beside that.
        losses: The terms, see `distill.downstream.dense_terms.build.build_terms`.
        data_preprocessor: The student's, where its model has none: mmengine puts a config's here.

    Raises:
        FileNotFoundError: The teacher's config or checkpoint does not exist.
        ValueError: A part is missing or wrong, the checkpoint does not fit, or a network cannot give what a term needs.
    """
    for name, value in (('student', student), ('teacher', teacher)):
        if not isinstance(value, Mapping) or (name == 'student' and 'type' not in value):
            example = "dict(checkpoint='FILE', config='FILE')" if name == 'teacher' else 'the model of a config'
            raise ValueError(f'model.{name} is {value!r}; give {example}')
    if unknown := sorted(set(teacher) - {'checkpoint', 'config'}):
        raise ValueError(f"model.teacher has no '{unknown[0]}'; it takes checkpoint and config")
    settings = dict(student)
    if data_preprocessor is not None:
        settings.setdefault('data_preprocessor', data_preprocessor)
    model: Any = MODELS.build(settings)
    with kept_generators():
        terms = build_terms(losses)
        taught_by = DenseTeacher(**teacher)
        taught_by.take_from(model)
        described = describe('student', model)
        for term in terms:
            term.connect(described, taught_by.described)
    watched = dict.fromkeys(name for term in terms for name in term.watched(model))
    kind = type(model)
    model.__class__ = type(kind.__name__, (Distilled, kind), {'__module__': kind.__module__, '__doc__': kind.__doc__})
    model.distillation = Distillation(taught_by, terms, described.neck_strides, watched)
    return model


@contextmanager
def own_randomness(device: torch.device, block: int) -> Iterator[None]:
    """Random numbers of the distillation's own, which follow from those of the run and leave these as they were.

    Args:
        device: Of the batch.
        block: Number of the block in the step.
    """
    on_card = device.type == 'cuda'
    with kept_generators():
        card = torch.cuda.get_rng_state(device) if on_card else None
        try:
            seed = seed_everything(*torch.randint(2**31, (2,)).tolist(), block)
            if on_card:
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed)
            yield
        finally:
            if on_card:
                torch.cuda.set_rng_state(card, device)
