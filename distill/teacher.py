"""Frozen teachers that their student's training never sees."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from backbones.checkpoint import build_model, fixed_size, read_description
from distill.forward import compiled, layer_channels
from distill.teacher_cache import CachedTeacher


class Teacher:
    """A frozen model beside the student, not inside it.

    A teacher that is a submodule would land in the checkpoint, the optimizer, the gradient reducer of DDP, the
    conversion to SyncBN and EMA's deep copy. This one is a plain object: it stays in eval mode, follows the
    student's device by `apply`, copies as itself and runs without gradients.

    Args:
        compile: Options of `torch.compile`, or whether to compile.
        **model: Arguments of `backbones.checkpoint.build_model`: ``model``, ``checkpoint``, ``pretrained``, ….

    Attributes:
        features: Whether it gives feature maps.
        exact: Whether it gives the logits of all classes.
    """

    features = True
    exact = True

    def __init__(self, compile: bool | Mapping = False, **model):
        self.network: nn.Module = build_model(**model).eval().requires_grad_(False)
        self.network = self.network.to(memory_format=torch.channels_last)
        self.predict = compiled(compile)
        self.source = model
        # A checkpoint of this project says what it was trained with.
        description = read_description(model['checkpoint']) if model.get('checkpoint') else None
        config = {**self.network.pretrained_cfg, **(description or {})}
        self.mean, self.std = tuple(config['mean']), tuple(config['std'])
        self.size = fixed_size(self.network)
        # Kept from one call to the next: to compare tensors on a device is to wait for it.
        self._compared: tuple[Tensor, Tensor, Tensor, bool] | None = None

    @property
    def num_classes(self) -> int:
        return self.network.num_classes

    def layer_channels(self) -> list[int]:
        """Channels of each layer that can be asked for."""
        return layer_channels(self.network, 'teacher')

    def apply(self, fn) -> None:
        """Follow the student to a device or type (`torch.nn.Module._apply`)."""
        self.network._apply(fn)

    def __deepcopy__(self, memo) -> 'Teacher':
        return self

    @torch.no_grad()
    def __call__(
        self, images: Tensor, mean: Tensor, std: Tensor, keys: Tensor | None = None, layers: Sequence[int] = ()
    ) -> tuple[Tensor, list[Tensor]]:
        """Predict on the student's view.

        Args:
            images: The very tensor that the student sees [B, 3, H, W], normalised with ``mean`` and ``std``.
            mean: Mean that it was normalised with [1, 3, 1, 1].
            std: Standard deviation that it was normalised with [1, 3, 1, 1].
            keys: Index and view of each image [B, 2]; this teacher looks at the images instead.
            layers: Layers whose feature maps are wanted.

        Returns:
            Logits [B, K], and a map [B, C, H', W'] for each layer.
        """
        if self._compared is None or self._compared[0] is not mean:
            self._compared = (mean, *self._compare(mean, std))
        _, own_mean, own_std, same = self._compared
        if not same:
            images = (images * std + mean - own_mean) / own_std
        if self.size is not None and tuple(images.shape[-2:]) != self.size:
            images = nn.functional.interpolate(images, self.size, mode='bicubic', antialias=True)
        return self.predict(self.network, images, layers)

    def _compare(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor, bool]:
        own_mean, own_std = mean.new_tensor(self.mean).view(1, 3, 1, 1), std.new_tensor(self.std).view(1, 3, 1, 1)
        return own_mean, own_std, torch.equal(own_mean, mean) and torch.equal(own_std, std)


class Ensemble:
    """Several teachers as one: the weighted mean of their probabilities.

    Its logits are log Σ_i w_i softmax(z_i): a temperature acts on the mean, not on each teacher.

    Args:
        teachers: At least one.
        weights: One each, above 0; they are divided by their sum.

    Raises:
        ValueError: The teachers do not have the same number of classes, or a weight is not above 0.
    """

    features = False

    def __init__(self, teachers: Sequence[Teacher], weights: Sequence[float]):
        classes = [teacher.num_classes for teacher in teachers]
        if len(set(classes)) > 1:
            raise ValueError(f'the teachers have {", ".join(map(str, classes))} classes; all must have the same')
        if min(weights) <= 0:
            raise ValueError(f'teacher weight {min(weights)} is not above 0; raise it or drop the teacher')
        self.teachers = teachers
        self.weights = [weight / sum(weights) for weight in weights]
        self.num_classes = classes[0]
        self.exact = all(teacher.exact for teacher in teachers)
        self.source = [
            dict(weight=weight, **teacher.source) for weight, teacher in zip(self.weights, teachers, strict=True)
        ]

    def apply(self, fn) -> None:
        """Follow the student to a device or type."""
        for teacher in self.teachers:
            teacher.apply(fn)

    def __deepcopy__(self, memo) -> 'Ensemble':
        return self

    @torch.no_grad()
    def __call__(
        self, images: Tensor, mean: Tensor, std: Tensor, keys: Tensor | None = None, layers: Sequence[int] = ()
    ) -> tuple[Tensor, list[Tensor]]:
        """Predict on the student's view, see `Teacher.__call__`; there are no feature maps."""
        logits = [teacher(images, mean, std, keys)[0].float() for teacher in self.teachers]
        log_weights = logits[0].new_tensor(self.weights).log().view(-1, 1, 1)
        return (torch.stack(logits).log_softmax(dim=2) + log_weights).logsumexp(dim=0), []


def build_teacher(config: Mapping | Sequence[Mapping], compile: bool | Mapping = False):
    """Build a teacher from a config.

    Args:
        config: Arguments of `Teacher`; or with the key ``cache`` those of `distill.teacher_cache.CachedTeacher`; or a
            list of such for the mean of several, each with an optional ``weight``.
        compile: Options of `torch.compile`, or whether to compile.

    Returns:
        An object that is called like a `Teacher`.
    """
    if isinstance(config, Sequence):
        weights = [one.get('weight', 1.0) for one in config]
        alone = [{key: value for key, value in one.items() if key != 'weight'} for one in config]
        return Ensemble([build_teacher(one, compile) for one in alone], weights)
    if 'cache' in config:
        return CachedTeacher(**config)
    return Teacher(compile=compile, **config)
