"""A student without a classifier and its teachers of features, in one mmengine model."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from distill.base.forward import compiled, embed, layer_channels
from distill.data.batch import ViewBatch
from distill.losses.balance import Balance
from distill.losses.feature_terms import FeatureTerms, Widths
from distill.losses.statistics import WARMUP_STEPS
from distill.losses.terms import check_weight
from distill.teachers.build import OF_TRAINING, build_feature_teacher
from distill.teachers.protocol import FeatureTeacher
from distill.training.shares import Shares
from distill.training.student import StudentModel, repeated


@MODELS.register_module()
class FeatureDistiller(StudentModel):
    """A student that learns embeddings and feature maps from one or several teachers, on images without labels.

    The student has no classifier unless its config says so. ``teachers`` is a list of dicts; in each

    - ``name`` tells the teacher apart;
    - ``losses`` are the arguments of `distill.losses.feature_terms.FeatureTerm`;
    - ``weight`` (1) is the factor of their sum, see `distill.losses.balance`;
    - ``share`` (1) is the part of each batch that the teacher is shown, see `distill.training.shares`;
    - ``statistics`` and ``warmup`` say how its features are standardised, see `distill.losses.statistics`; by default
      ``mean_std`` for one teacher and ``phi_s`` for several;
    - the others are arguments of `distill.teachers.build.build_feature_teacher`.

    Args:
        student: Arguments of `backbones.checkpoint.build_model`.
        teachers: See above.
        data_preprocessor: Config of a `distill.data.preprocessor.ViewPreprocessor`.
        balance: How the teachers are balanced, one of `distill.losses.balance.BALANCES`.
        compile: Whether to compile student and teachers, or options of `torch.compile`.
        sync_bn: See `StudentModel`.
        cut_kernels: See `StudentModel`.

    Attributes:
        teachers: The teachers, which are no submodules.
        terms: For each of them what the student learns from it, with heads and statistics.
        balance: How the teachers are weighted.
        shares: Which images of a batch each of them is shown.

    Raises:
        ValueError: Two teachers have one name; or a teacher cannot be built, or cannot give what a loss needs.
    """

    classifies = False

    def __init__(
        self,
        student: dict,
        teachers: Sequence[Mapping[str, Any]],
        data_preprocessor: dict | None = None,
        balance: str = 'weights',
        compile: bool | dict = False,
        sync_bn: bool = False,
        cut_kernels: bool = False,
    ):
        names = check_teachers(teachers)
        super().__init__({'num_classes': 0, **student}, data_preprocessor, sync_bn, cut_kernels)
        self.embed = compiled(compile, embed)
        self.teachers: list[FeatureTeacher] = []
        self.terms = nn.ModuleList()
        self.balance = Balance(balance, [config.get('weight', 1.0) for config in teachers])
        self.shares = Shares(dict(zip(names, [config.get('share', 1.0) for config in teachers], strict=True)))
        for config in teachers:
            teacher = build_feature_teacher({k: v for k, v in config.items() if k not in OF_TRAINING}, compile)
            self.teachers.append(teacher)
            self.terms.append(
                FeatureTerms(
                    teacher.name,
                    config.get('losses') or (),
                    self._widths(config.get('losses') or ()),
                    Widths(teacher.pooled_chs, {None: teacher.grid_chs}, teacher.num_classes),
                    config.get('statistics') or ('mean_std' if len(teachers) == 1 else 'phi_s'),
                    config.get('warmup', WARMUP_STEPS),
                )
            )
        layers = set().union(*(terms.layers for terms in self.terms))
        self.layers = sorted(layers, key=lambda layer: -1 if layer is None else layer)
        self.pools = any(terms.wanted - {'grid'} for terms in self.terms)

    @property
    def all_teachers(self) -> list[FeatureTeacher]:
        """The teachers."""
        return getattr(self, 'teachers', [])

    def _widths(self, losses: Sequence[Mapping]) -> Widths:
        """Widths of the student; those of inner layers only if a loss asks for one, as not every model has them."""
        network: Any = self.student
        asked = any(isinstance(loss, Mapping) and loss.get('student_layer') is not None for loss in losses)
        inner = layer_channels(network, 'student') if asked else []
        width = getattr(network, 'num_features', None)
        # Of a user's own network all that is known is the width of what it gives.
        pooled = getattr(network, 'head_hidden_size', None) or width or network.num_classes
        return Widths(pooled, {None: width, **dict(enumerate(inner))})

    def forward(
        self,
        images: Tensor,
        targets: Tensor | None = None,
        keys: Tensor | None = None,
        corrupted: Tensor | None = None,
        mode: str = 'tensor',
    ):
        """Run the student, and in ``loss`` mode its teachers beside it.

        Args:
            images: Normalised views [B, 3, H, W].
            targets: Labels [B], which are handed on, if there are any.
            keys: Index and view of each image [B, 2].
            corrupted: Corrupted copies of the views [copies · B, 3, H, W], which the student sees in ``loss`` mode.
            mode: ``loss``, ``predict`` or ``tensor``.

        Returns:
            ``loss``: the weighted terms by name. ``predict``: one dict with ``features`` [B, C], the student's
            embeddings, and ``targets``, in a list. ``tensor``: the embeddings.
        """
        if mode != 'loss':
            embeddings = self.embed(self.student, images)[0]
            return embeddings if mode == 'tensor' else [dict(features=embeddings.float(), targets=targets)]
        parts = self.shares.places(keys, len(images))
        # The teachers first: the memory of their activations is free again when the student's pile up.
        views = self.data_preprocessor.view_batch(images, keys)
        asked = zip(self.teachers, self.terms, parts, strict=True)
        answers = [teacher(_part(views, part), terms.wanted) for teacher, terms, part in asked]
        shown = images if corrupted is None else corrupted
        copies = len(shown) // len(images)
        pooled, maps, _ = self.embed(self.student, shown, None, self.layers, False, self.pools)
        by_layer = dict(zip(self.layers, maps, strict=True))
        values = []
        for terms, answer, part in zip(self.terms, answers, parts, strict=True):
            own, own_maps = pooled, by_layer
            if part is not None:  # Of each copy the same views.
                places = torch.cat([part + copy * len(images) for copy in range(copies)]).to(images.device)
                own = pooled[places] if pooled is not None else None
                own_maps = {layer: one[places] for layer, one in by_layer.items()}
            answered = {place: repeated(getattr(answer, place), copies) for place in terms.wanted}
            values.append(terms(own, own_maps, answered))
        return self._weighted(values)

    def _weighted(self, values: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The terms of all teachers by name, with their weights and those of the teachers."""
        weighted = [
            {name: terms.weights[name] * value for name, value in of_teacher.items()}
            for terms, of_teacher in zip(self.terms, values, strict=True)
        ]
        factors = self.balance([torch.stack([*of_teacher.values()]).sum() for of_teacher in weighted])
        losses = {}
        for of_teacher, factor in zip(weighted, factors, strict=True):
            losses |= {f'loss_{name}': factor * value for name, value in of_teacher.items()}
        if self.balance.kind == 'size':
            # mmengine logs them, and adds up what has "loss" in its name.
            losses |= {name: value.detach() for of_teacher in weighted for name, value in of_teacher.items()}
        return losses


def check_teachers(teachers: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of the teachers of a config.

    Raises:
        ValueError: There is none; one has no name, or the name of another, or one that no key can have; or a weight is
            no number.
    """
    example = "dict(name='dinov2', model='vit_small_patch14_dinov2.lvd142m', losses=[dict(type='cosine')])"
    if isinstance(teachers, (str, Mapping)) or not teachers or not all(isinstance(one, Mapping) for one in teachers):
        raise ValueError(f'model.teachers is {teachers!r}; give a list of dicts such as {example}')
    names: list[str] = []
    for place, config in enumerate(teachers):
        name = config.get('name')
        if not isinstance(name, str) or not name.replace('-', '_').isidentifier():
            raise ValueError(f'model.teachers.{place}.name is {name!r}; give a name of letters, digits, _ and -')
        if 'loss' in name:
            raise ValueError(
                f"a teacher is called '{name}', and all that has 'loss' in its name is added up; rename it"
            )
        if name in names:
            raise ValueError(f"two teachers are called '{name}' (model.teachers); give each a name of its own")
        check_weight(config.get('weight', 1.0), f"teacher '{name}'")
        names.append(name)
    return names


def _part(views: ViewBatch, places: Tensor | None) -> ViewBatch:
    """The views at some places of a batch; all of them if that is None."""
    if places is None:
        return views
    keys = views.keys[places] if views.keys is not None else None
    return ViewBatch(views.images[places.to(views.images.device)], views.mean, views.std, keys)
