"""What a teacher is: an object that answers a batch of views with predictions, and says what it can answer.

A `Teacher` predicts classes: `distill.teachers.live.LiveTeacher` runs a network,
`distill.teachers.cached.CachedTeacher` looks predictions up, and `distill.teachers.ensemble.Ensemble` averages several
teachers. A `FeatureTeacher` gives embeddings and feature maps and needs no classes:
`distill.teachers.features.LiveFeatures` runs a network.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self, runtime_checkable

from torch import Tensor

from distill.data.batch import ViewBatch
from distill.data.preprocessor import ViewPreprocessor
from distill.data.sampler import ViewSampler
from distill.data.views import Views


@dataclass(frozen=True)
class Prediction:
    """A teacher's answer to a batch of views.

    Attributes:
        logits: [B, K], up to a constant for each image: log-probabilities are logits too. K is the teacher's
            ``num_classes``.
        maps: A feature map [B, C, H', W'] for each layer that was asked for, in that order.
    """

    logits: Tensor
    maps: list[Tensor] = field(default_factory=list)


@dataclass(frozen=True)
class Features:
    """What a feature teacher answers to a batch of views; what was not asked for is None.

    Attributes:
        pooled: One embedding an image [B, D], after the teacher's own final norm.
        grid: A feature map [B, D', h, w]: the patch tokens laid out, or the last map of a CNN, or an asked layer's.
        logits: [B, K], of a teacher with a classifier.
    """

    pooled: Tensor | None = None
    grid: Tensor | None = None
    logits: Tensor | None = None


class Companion(Protocol):
    """What stands beside the student and teaches it.

    It is no submodule of the student's model. There it would land in the checkpoint, the optimizer, the gradient
    reducer of DDP, the conversion to SyncBN and EMA's deep copy. It is a plain object that has no gradient, never
    trains, and is shared by all copies of the model. Classes that name this one as their base inherit what most
    teachers have in common.

    Attributes:
        num_classes: Number K of classes; 0, as in timm, for a teacher without a classifier.
        live: Whether any image is answered. Otherwise only the views that a cache holds are, by their keys.
        source: Plain values (a dict, or a list of dicts) that say which teacher this is; they stand in the record of
            the student.
    """

    num_classes: int
    live: bool
    source: Any

    def apply(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Follow the student to a device or a type, as `torch.nn.Module._apply` has submodules follow.

        Args:
            fn: Moves or converts a tensor.
        """
        return None  # Nothing to move: a network has something.

    def order_classes(self, dataset: Views) -> None:
        """Answer with the logits in the order of a data set's classes, from now on.

        Args:
            dataset: The run's training set.

        Raises:
            ValueError: The teacher's classes are others.
        """
        return None  # Nothing to order for a teacher that does not know the names of its classes.

    def check_run(self, dataset: Views, sampler: ViewSampler, preprocessor: ViewPreprocessor) -> None:
        """Refuse a run whose views the teacher has no answers for, before the run starts.

        A teacher that holds views for some epochs only has the sampler start again at the first view after them.

        Args:
            dataset: The run's training set.
            sampler: The run's sampler of the training set.
            preprocessor: The run's preprocessor.

        Raises:
            ValueError: The views differ; the message says in what.
        """
        return None  # Every run will do for a teacher that looks at the images.

    def __deepcopy__(self, memo: dict) -> Self:
        """Return the teacher itself: copies of the student's model, such as EMA's, share it."""
        return self


@runtime_checkable
class Teacher(Companion, Protocol):
    """A source of predictions beside the student.

    Attributes:
        exact: Whether the logits of all classes are known, up to rounding. Otherwise the largest probabilities are
            known and the rest is a guess, which does for a loss that neither softens nor standardises logits.
    """

    exact: bool

    def __call__(self, views: ViewBatch, layers: Sequence[int] = ()) -> Prediction:
        """Predict, without gradients.

        Args:
            views: The very tensor that the student sees, and what is known of it.
            layers: Layers whose feature maps are wanted, indices into `layer_channels`, not negative.

        Raises:
            ValueError: A layer or a view is wanted that the teacher has no answer for.
        """

    def layer_channels(self) -> list[int]:
        """Channels of each layer whose feature map can be asked for; empty if the teacher gives no feature maps.

        Raises:
            ValueError: The teacher is a network that cannot return feature maps.
        """
        return []


@runtime_checkable
class FeatureTeacher(Companion, Protocol):
    """A source of embeddings and feature maps beside the student.

    Attributes:
        name: Its name among the teachers of a run; keys of losses, heads and caches have it.
        pooled_chs: Width D of its embeddings; None if it gives none.
        grid_chs: Width D' of its feature map; None if it gives none.
    """

    name: str
    pooled_chs: int | None
    grid_chs: int | None

    def __call__(self, views: ViewBatch, wanted: Collection[str] = ('pooled', 'grid')) -> Features:
        """Look at a batch of views, without gradients.

        Args:
            views: The very tensor that the student sees, or a part of its images, and what is known of it.
            wanted: Which of ``pooled``, ``grid`` and ``logits`` are computed; the others are None.

        Raises:
            ValueError: Something is wanted that the teacher does not give, or a view that it has no answer for.
        """

    def describe(self) -> dict:
        """What fixes the features of a view, in plain values by name: what a cache must agree with.

        ``model``, ``model_kwargs`` and ``weights_sha256`` of the network; ``pooling``, ``layer``, ``size`` (height and
        width in pixels that the network is shown, None for those of the view), ``mean`` and ``std``.
        """
