"""How a student does on shifted images while it trains, and how far it is from its teacher there."""

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.dist import all_reduce, get_rank, get_world_size
from mmengine.hooks import EMAHook, Hook
from mmengine.registry import HOOKS
from torch import Tensor, nn

from distill.base.images import normalise
from distill.base.processes import unwrap
from distill.robustness.images import SuiteImages, load_batches
from distill.robustness.recorder import Recorder
from distill.robustness.suites import choose_suites, open_suite
from distill.teachers.ensemble import Ensemble
from distill.teachers.live import Teacher


@HOOKS.register_module()
class ShiftScoresHook(Hook):
    """Score the student, its average and once the teacher on the robustness suites, every N epochs.

    To the log and TensorBoard go, under ``shift/<suite>/``: ``<network>_top1_pct``, and of student and average beside
    the teacher ``<network>_agreement_pct`` (the share of images on which the two decide alike) and ``<network>_kl``
    (mean KL divergence from the teacher's probabilities, in nats). ``network`` is ``student``, ``ema`` or ``teacher``.
    A teacher that is read from a cache knows the training set only, and is left out. Several processes share the
    images.

    Args:
        data_root: Folder with the suites' folders.
        suites: Names of suites; None takes those that are there.
        interval: Epochs from one time to the next; the last epoch always counts.
        corruption_limit: Images that are corrupted, spread evenly over the classes.
        batch_size: Images a forward pass.
        workers: Processes that decode and corrupt.
        seed: Seed of the corruptions.

    Raises:
        FileNotFoundError: A suite is not there.
        ValueError: A suite does not fit the classes.
    """

    # After the optimizer step and the average's, before a checkpoint is written.
    priority = 'LOW'

    def __init__(
        self,
        data_root: str,
        suites: Sequence[str] | None = None,
        interval: int = 5,
        corruption_limit: int = 100,
        batch_size: int = 256,
        workers: int = 1,
        seed: int = 0,
    ):
        self.data_root, self.suites, self.interval = data_root, suites, interval
        self.corruption_limit, self.batch_size, self.workers, self.seed = corruption_limit, batch_size, workers, seed
        self._shown: dict[str, SuiteImages] = {}
        self._teacher: dict[str, Tensor] = {}

    def before_train(self, runner) -> None:
        """Find the suites, so that what is wrong with them is said before training starts."""
        dataset = runner.val_dataloader.dataset
        suites, absent = choose_suites(list(self.suites) if self.suites else None, self.data_root, dataset.classes)
        if absent and not self.suites:
            runner.logger.info(f'shifted sets that are not there: {", ".join(suite.name for suite in absent)}')
        side = dataset.transform_config['input_size']
        size = (side, side) if isinstance(side, int) else tuple(side[-2:])
        transform = {**dataset.transform_config, 'input_size': size}
        for suite in suites:
            image_set = open_suite(suite, self.data_root, dataset.classes, self.corruption_limit)
            self._shown[suite.key] = SuiteImages(image_set, transform, seed=self.seed)

    def after_train_epoch(self, runner) -> None:
        """Score, if it is time."""
        if (runner.epoch + 1) % self.interval and runner.epoch + 1 < runner.max_epochs:
            return
        model = unwrap(runner.model)
        networks = {'student': model.student}
        for hook in runner.hooks:
            if isinstance(hook, EMAHook):
                networks['ema'] = hook.ema_model.module.student
        training = {network: network.training for network in networks.values()}
        for network in networks.values():
            network.eval()
        for key, images in self._shown.items():
            scores = {f'shift/{key}/{name}': value for name, value in self._score(key, images, networks, model).items()}
            runner.visualizer.add_scalars(scores, step=runner.epoch + 1)
            shown = '  '.join(f'{name.rpartition("/")[2]}: {value:.2f}' for name, value in scores.items())
            runner.logger.info(f'Shift(epoch {runner.epoch + 1}) {key}  {shown}')
            for name, value in scores.items():
                runner.message_hub.update_scalar(name, value)
        for network, mode in training.items():
            network.train(mode)

    @torch.no_grad()
    def _score(self, key: str, images: SuiteImages, networks: dict[str, nn.Module], model: nn.Module) -> dict:
        image_set = images.image_set
        cells = len(image_set.cells)
        recorder = Recorder(image_set, {})
        recorder.decisions = recorder.decisions.to(model.data_preprocessor.mean.device)
        mine = np.arange(len(image_set.paths))[get_rank() :: get_world_size()]
        teacher = model.teacher if isinstance(model.teacher, (Teacher, Ensemble)) else None
        first = teacher is not None and key not in self._teacher
        sums = dict.fromkeys((f'{name}_{what}' for name in networks for what in ('hits', 'agreements', 'kl')), 0.0)
        told, place = [], 0
        for shown, indices, _ in load_batches(images, mine, self.batch_size, self.workers):
            labels = torch.from_numpy(image_set.labels[indices]).repeat_interleave(cells)
            x = self._normalise(shown.flatten(0, 1), model.data_preprocessor)
            labels = labels.to(x.device)
            if first:
                logits = teacher(x, model.data_preprocessor.mean, model.data_preprocessor.std)[0]
                told.append(recorder.probabilities(logits.float()).half().cpu())
            if teacher is not None:
                known = told[-1] if first else self._teacher[key][place : place + len(labels)]
                known = known.to(x.device).float()
                place += len(labels)
            for name, network in networks.items():
                logits = network(x)
                probabilities = recorder.probabilities(logits.float())
                decided = probabilities.argmax(dim=1)
                sums[f'{name}_hits'] += (recorder.decisions[decided] == labels).sum().item()
                if teacher is not None:
                    sums[f'{name}_agreements'] += (decided == known.argmax(dim=1)).sum().item()
                    divergence = torch.special.xlogy(known, known) - known * probabilities.clamp(min=1e-12).log()
                    sums[f'{name}_kl'] += divergence.sum().item()
        if first:
            self._teacher[key] = torch.cat(told) if told else torch.zeros(0)
        if teacher is not None:
            labels = torch.from_numpy(image_set.labels[mine]).repeat_interleave(cells)
            sums['teacher_hits'] = (recorder.decisions.cpu()[self._teacher[key].argmax(dim=1)] == labels).sum().item()
        return self._means(sums, len(image_set.paths) * cells, teacher is not None)

    @staticmethod
    def _normalise(images: Tensor, preprocessor: nn.Module) -> Tensor:
        images = images.to(preprocessor.mean.device).to(memory_format=preprocessor.memory_format)
        return normalise(images, preprocessor.mean, preprocessor.std)

    @staticmethod
    def _means(sums: dict[str, float], shown: int, with_teacher: bool) -> dict[str, float]:
        """Means over all images and cells, of all processes."""
        total = torch.tensor(list(sums.values()), dtype=torch.float64)
        all_reduce(total)
        named = {'hits': ('top1_pct', 100), 'agreements': ('agreement_pct', 100), 'kl': ('kl', 1)}
        scores = {}
        for key, value in zip(sums, (total / shown).tolist(), strict=True):
            name, _, what = key.rpartition('_')
            if what == 'hits' or with_teacher:
                scores[f'{name}_{named[what][0]}'] = value * named[what][1]
        return scores
