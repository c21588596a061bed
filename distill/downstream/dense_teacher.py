"""A frozen detector or segmenter beside the student."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from backbones.checkpoint import weights_sha256
from distill.base.classes import match_classes
from distill.base.packaged import find
from distill.base.seeding import kept_generators
from distill.downstream.class_order import classes_of
from distill.downstream.dense_inputs import ForTeacher
from distill.downstream.dense_terms.base import Call, Level, Network, Pass
from distill.downstream.inference import config_beside, first_dataset
from distill.downstream.trained import load_trained, read_scene_config

PROBE = 256
"""Height and width, in pixels, of the empty image that tells the strides and widths of a network's maps."""


class DenseTeacher:
    """A frozen detector or segmenter: in eval mode as a whole, without gradients, and in no module tree.

    As a submodule it would land in the checkpoint, the optimizer, the gradient reducer of DDP, the conversion to SyncBN
    and EMA's deep copy, and `train()` would switch on its dropout. So it is a plain object that all copies of the
    student's model share.

    Args:
        checkpoint: The weights that it was trained to.
        config: The config that it was trained with: a path, or a name of ``robust-backbones configs``. By default the
            one that lies beside the checkpoint, where a run has put it.

    Attributes:
        network: The detector or segmenter.
        classes: Names of its classes, in the order of the labels.
        source: Plain values that say which teacher this is.
        described: What is known of its maps.
        places: For each class of the student its place among the teacher's classes; None for the same order.

    Raises:
        FileNotFoundError: There is no such config or checkpoint.
        ValueError: The checkpoint does not fit the config, or there are several configs beside it.
    """

    def __init__(self, checkpoint: str | os.PathLike | None = None, config: str | os.PathLike | None = None):
        if not checkpoint:
            raise ValueError(
                "model.teacher has no checkpoint, and random weights teach nothing; give checkpoint='FILE'"
            )
        path = os.fspath(checkpoint)
        if not Path(path).is_file():
            raise FileNotFoundError(f"the teacher's checkpoint '{path}' does not exist; train the teacher first")
        if config is None and (beside := config_beside(path)) is None:
            raise ValueError(
                f"no config lies beside the teacher's checkpoint '{path}'; give model.teacher.config, the one that it "
                'was trained with'
            )
        found = find(os.fspath(config)) if config is not None else str(beside)
        settings = read_scene_config(found, "give model.teacher a detector's or segmenter's")
        trained = load_trained(settings, path, "the teacher's ", f"it is another model than that of '{found}'")
        self.network: Any = trained.network.requires_grad_(False)
        self.classes = trained.classes or list(classes_of(first_dataset(settings), settings))
        digest = weights_sha256(self.network.state_dict())
        self.source = {'config': found, 'checkpoint': path, 'weights_sha256': digest}
        self.described = describe('teacher', self.network)
        self.places: Tensor | None = None
        self._translate: ForTeacher | None = None

    def __deepcopy__(self, memo: dict) -> 'DenseTeacher':
        """Return the teacher itself: copies of the student's model, such as EMA's, share it."""
        return self

    def take_from(self, student: nn.Module) -> None:
        """Prepare for the batches of a student's ``data_preprocessor``."""
        self._translate = ForTeacher(student.data_preprocessor, self.network.data_preprocessor)

    def order_classes(self, classes: Sequence[str], where: str) -> None:
        """Answer class by class in the order of the student's classes, from now on.

        Raises:
            ValueError: The teacher's classes are others.
        """
        places = match_classes(classes, self.classes, where, f"the teacher '{self.source['checkpoint']}'")
        self.places = None if places == list(range(len(places))) else torch.tensor(places)

    def apply(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Follow the student to a device or a type."""
        with torch.no_grad():
            self.network._apply(fn)
            if self._translate is not None:
                self._translate._apply(fn)

    @torch.no_grad()
    def __call__(self, inputs: Tensor, samples: Sequence[Any]) -> Pass:
        """Run the backbone and the neck on the student's batch, preprocessed as the teacher's own.

        Args:
            inputs: The student's batch [N, 3, H, W].
            samples: Its data samples.
        """
        own_inputs, own_samples = self._translate(inputs, samples)
        run = Pass(self.network, own_inputs, own_samples)
        with watch(run, self.described.neck_strides):
            self.network.extract_feat(own_inputs)
        if self.places is not None:
            self.places = run.places = self.places.to(own_inputs.device)
        return run


@contextmanager
def watch(run: Pass, neck_strides: Sequence[int], names: Sequence[str] = ()) -> Iterator[None]:
    """Keep what a network's backbone and neck return while the block runs, and the calls of further modules.

    Args:
        run: Takes the maps and calls.
        neck_strides: The stride of each map of the neck, in its order.
        names: Names of further modules.
    """
    detector = run.detector

    def keep_stages(module: nn.Module, inputs: tuple, output: Any) -> None:
        run.features = output
        run.stages = dict(enumerate(maps_of(output)))

    def keep_levels(module: nn.Module, inputs: tuple, output: Any) -> None:
        run.features = output
        run.levels = {}
        for stride, level in zip(neck_strides, maps_of(output), strict=True):
            run.levels.setdefault(stride, level)

    def keep_call(name: str) -> Callable:
        return lambda module, inputs, output: run.calls.setdefault(name, []).append(Call(inputs, output))

    handles = [detector.backbone.register_forward_hook(keep_stages)]
    if has_neck(detector):
        handles.append(detector.neck.register_forward_hook(keep_levels))
    handles += [detector.get_submodule(name).register_forward_hook(keep_call(name)) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def has_neck(detector: nn.Module) -> bool:
    """Whether a detector or segmenter has something between its backbone and its heads."""
    return isinstance(getattr(detector, 'neck', None), nn.Module)


def maps_of(output: Any) -> list[Tensor]:
    """The maps [N, C, h, w] among what a backbone or a neck returns."""
    given = list(output.values()) if isinstance(output, Mapping) else output
    found = given if isinstance(given, (list, tuple)) else [given]
    return [one for one in found if isinstance(one, Tensor) and one.ndim == 4]


def describe(role: str, detector: Any) -> Network:
    """Find the strides and widths of a network's maps by showing it an empty image.

    The network is as before afterwards, and so are the random generators.

    Args:
        role: ``student`` or ``teacher``.
        detector: A detector or segmenter on the CPU.

    Raises:
        ValueError: It has no backbone.
    """
    network = Network(role, detector)
    if not isinstance(getattr(detector, 'backbone', None), nn.Module):
        raise ValueError(f'{network.name} has no backbone, whose maps distillation compares; give another model')
    modes = [(module, module.training) for module in detector.modules()]
    found: dict[str, list[Level]] = {}

    def measure(name: str) -> Callable:
        def keep(module: nn.Module, inputs: tuple, output: Any) -> None:
            found[name] = [Level(round(PROBE / level.shape[-1]), level.shape[1]) for level in maps_of(output)]

        return keep

    handles = [
        getattr(detector, name).register_forward_hook(measure(name))
        for name in ('backbone', 'neck')
        if isinstance(getattr(detector, name, None), nn.Module)
    ]
    try:
        with torch.no_grad(), kept_generators():
            detector.eval()
            detector.extract_feat(torch.zeros(1, 3, PROBE, PROBE))
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes:
            module.training = mode
    network.stages, levels = found['backbone'], found.get('neck', [])
    network.neck_strides = [level.stride for level in levels]
    for level in levels:
        network.levels.setdefault(level.stride, level)
    return network
