"""Score a student's features by k-NN while it trains, for runs whose images have no labels."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather, get_rank, get_world_size
from mmengine.hooks import EMAHook, Hook
from mmengine.registry import HOOKS
from torch import Tensor, nn

from distill.base.folders import ClassFolders
from distill.base.images import normalise
from distill.base.processes import unwrap
from distill.robustness.images import SuiteImages, load_batches
from distill.robustness.probe.features import Embedding, open_training
from distill.robustness.probe.neighbours import NEIGHBOURS, TEMPERATURE, NearestNeighbours
from distill.training.resume import is_epoch_based


@HOOKS.register_module()
class KnnScoresHook(Hook):
    """Score student, its average and the teachers by k-NN on a small labelled set, every N epochs or iterations.

    The log and TensorBoard get ``knn/<network>_top1_pct`` for each ``network`` of ``student``, ``ema`` (the average of
    the student's weights) and, once, the name of each teacher that runs itself. Features are those before a
    classifier, and neighbours vote as in `distill.robustness.probe.neighbours.NearestNeighbours`. Several processes
    share the images.

    Args:
        data_root: Folder with the two folders of class folders.
        train: The folder whose images vote.
        val: The folder whose images are classified.
        interval: Score after every N-th epoch, and after the last; of a run that is counted in iterations, every N.
        images_of_class: Voting images of a class at the most, None for all.
        transform: Arguments of timm's evaluation transform in place of those of the validation set or, without one, of
            the size of the training views.
        neighbours: k.
        temperature: T of the votes.
        batch_size: Images a forward pass.
        workers: Processes that decode.

    Raises:
        FileNotFoundError: A folder is not there.
        ValueError: The two folders have other classes, or an image cannot be read.
    """

    # After EMAHook has updated the average with the last step, before CheckpointHook writes.
    priority = 'LOW'

    def __init__(
        self,
        data_root: str,
        train: str = 'train',
        val: str = 'val',
        interval: int = 1,
        images_of_class: int | None = None,
        transform: Mapping | None = None,
        neighbours: int = NEIGHBOURS,
        temperature: float = TEMPERATURE,
        batch_size: int = 256,
        workers: int = 0,
    ):
        if interval < 1 or (images_of_class is not None and images_of_class < 1):
            raise ValueError(f'interval is {interval} and images_of_class {images_of_class}; give 1 or more')
        self.folders = [Path(data_root, name) for name in (train, val)]
        self.interval, self.images_of_class, self.transform = interval, images_of_class, transform
        self.neighbours, self.temperature = neighbours, temperature
        self.batch_size, self.workers = batch_size, workers
        self._images: list[SuiteImages] = []
        self._chosen: list[np.ndarray] = []
        self._of_teachers: set[str] = set()

    def before_train(self, runner) -> None:
        """Open the two folders, so that a wrong or missing one stops the run before it starts."""
        for folder in self.folders:
            if not folder.is_dir():
                raise FileNotFoundError(f"folder '{folder}' of KnnScoresHook does not exist; correct data_root")
        classes = ClassFolders.read(self.folders[0]).classes
        sets = [open_training(folder, classes) for folder in self.folders]
        self._images = [SuiteImages(image_set, self._transform(runner)) for image_set in sets]
        self._chosen = [np.arange(len(image_set.labels)) for image_set in sets]
        if self.images_of_class is not None:
            labels = sets[0].labels
            by_class = [np.flatnonzero(labels == label) for label in range(len(classes))]
            self._chosen[0] = np.concatenate([_spread(places, self.images_of_class) for places in by_class])

    def _transform(self, runner) -> dict:
        """Arguments of timm's evaluation transform."""
        validation = getattr(getattr(runner.val_loop, 'dataloader', None), 'dataset', None)
        training = runner.train_dataloader.dataset
        known = dict(getattr(validation, 'transform_config', {}) or {})
        if not known:
            known = {'input_size': getattr(training, 'transform_config', {}).get('input_size', 224)}
        known |= dict(self.transform or {})
        side = known['input_size']
        return {**known, 'input_size': (side, side) if isinstance(side, int) else tuple(side[-2:])}

    def after_train_epoch(self, runner) -> None:
        """Score after every N-th epoch and after the last, and at the end of a run that is counted in iterations."""
        done = runner.epoch + 1
        if not is_epoch_based(runner):
            if runner.iter % self.interval:
                self._score_all(runner, runner.iter)
        elif done % self.interval == 0 or done >= runner.max_epochs:
            self._score_all(runner, done)

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Score after every N-th iteration of a run that is counted in iterations."""
        if not is_epoch_based(runner) and (runner.iter + 1) % self.interval == 0:
            self._score_all(runner, runner.iter + 1)

    def _score_all(self, runner, step: int) -> None:
        model: Any = unwrap(runner.model)
        networks: dict[str, nn.Module] = {'student': model.student}
        for hook in runner.hooks:
            if isinstance(hook, EMAHook):
                networks['ema'] = hook.ema_model.module.student
        training = {network: network.training for network in networks.values()}
        scores = {}
        for name, network in networks.items():
            scores[name] = self._score(Embedding(network.eval()), model.data_preprocessor)
        for teacher in getattr(model, 'teachers', ()):
            if teacher.live and teacher.pooled_chs and teacher.name not in self._of_teachers:
                self._of_teachers.add(teacher.name)
                shown = model.data_preprocessor.view_batch
                answer = lambda x, one=teacher, shown=shown: one(shown(x), ('pooled',)).pooled  # noqa: E731
                scores[teacher.name] = self._score(answer, model.data_preprocessor)
        for network, mode in training.items():
            network.train(mode)
        scalars = {f'knn/{name}_top1_pct': value for name, value in scores.items()}
        runner.visualizer.add_scalars(scalars, step=step)
        shown = '  '.join(f'{name}: {value:.2f}' for name, value in scores.items())
        runner.logger.info(f'k-NN top1_pct({"epoch" if is_epoch_based(runner) else "iter"} {step})  {shown}')
        for name, value in scalars.items():
            runner.message_hub.update_scalar(name, value)

    @torch.no_grad()
    def _score(self, network: Any, preprocessor: Any) -> float:
        """Top-1 of the validation images in percent, by the votes of the training images."""
        bank, queries = (self._features(network, place, preprocessor) for place in (0, 1))
        labels = [
            torch.from_numpy(images.image_set.labels[chosen].astype(np.int64))
            for images, chosen in zip(self._images, self._chosen, strict=True)
        ]
        count = len(self._images[0].image_set.classes)
        knn = NearestNeighbours(bank, labels[0], count, self.neighbours, self.temperature, str(bank.device))
        return 100 * (knn(queries).argmax(dim=1) == labels[1]).double().mean().item()

    def _features(self, network: Any, place: int, preprocessor: Any) -> Tensor:
        """Features [N, D] of all images that are chosen from a folder, on the device of the model."""
        rank, processes = get_rank(), get_world_size()
        chosen, device = self._chosen[place], preprocessor.mean.device
        # Each process has as many, so that they can be gathered: the first come again at the end.
        own = np.resize(chosen, -(-len(chosen) // processes) * processes)[rank::processes]
        found = []
        for shown, _, _ in load_batches(self._images[place], own, self.batch_size, self.workers):
            images = shown[:, 0].to(device).to(memory_format=preprocessor.memory_format)
            found.append(network(normalise(images, preprocessor.mean, preprocessor.std)).float())
        gathered = torch.stack(all_gather(torch.cat(found)), dim=1).flatten(0, 1)
        return gathered[: len(chosen)]


def _spread(places: np.ndarray, count: int) -> np.ndarray:
    """As many of some places, spread evenly, as there are to be at the most."""
    return places[np.linspace(0, len(places) - 1, min(len(places), count)).round().astype(int)]
