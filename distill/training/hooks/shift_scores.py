"""Score a student on shifted images while it trains, and measure its distance from the teacher there."""

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


@HOOKS.register_module()
class ShiftScoresHook(Hook):
    """Score the student, its average and the teacher on the robustness suites, every N epochs.

    The log and TensorBoard get, under ``shift/<suite>/``, ``<network>_top1_pct`` for each ``network`` of ``student``,
    ``ema`` (the average of the student's weights) and ``teacher``. For student and average they also get the distance
    from the teacher: ``<network>_agreement_pct``, the share of images on which network and teacher decide alike, and
    ``<network>_kl``, the mean KL divergence from the teacher's probabilities, in nats. A teacher that is not live, one
    from a cache, knows the training set only and is left out. Several processes share the images.

    Args:
        data_root: Folder with the suites' folders.
        suites: Names of suites; None takes those that are there.
        interval: Score after every N-th epoch, and after the last.
        corruption_limit: Images that are corrupted, spread evenly over the classes.
        batch_size: Images a forward pass.
        workers: Processes that decode and corrupt.
        seed: Seed of the corruptions.

    Raises:
        FileNotFoundError: A suite is not there.
        ValueError: A suite does not fit the classes.
    """

    # After EMAHook has updated the average with the last step, before CheckpointHook writes.
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
        self._suite_images: dict[str, SuiteImages] = {}
        # By suite, the teacher's probabilities for this process's images, batch by batch [B · cells, decisions]: the
        # teacher and the images stay the same, so they are computed once. In half precision on the CPU to save memory.
        self._of_teacher: dict[str, list[Tensor]] = {}

    def before_train(self, runner) -> None:
        """Open the suites, so that a wrong or missing one stops the run before it starts."""
        dataset = runner.val_dataloader.dataset
        suites, absent = choose_suites(list(self.suites) if self.suites else None, self.data_root, dataset.classes)
        if absent and not self.suites:
            runner.logger.info(f'shifted sets that are not there: {", ".join(suite.name for suite in absent)}')
        side = dataset.transform_config['input_size']
        size = (side, side) if isinstance(side, int) else tuple(side[-2:])
        transform = {**dataset.transform_config, 'input_size': size}
        for suite in suites:
            image_set = open_suite(suite, self.data_root, dataset.classes, self.corruption_limit)
            self._suite_images[suite.key] = SuiteImages(image_set, transform, seed=self.seed)

    def after_train_epoch(self, runner) -> None:
        """Score after every N-th epoch and after the last."""
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
        for key, images in self._suite_images.items():
            scores = {f'shift/{key}/{name}': value for name, value in self._score(key, images, networks, model).items()}
            runner.visualizer.add_scalars(scores, step=runner.epoch + 1)
            shown = '  '.join(f'{name.rpartition("/")[2]}: {value:.2f}' for name, value in scores.items())
            runner.logger.info(f'Shift(epoch {runner.epoch + 1}) {key}  {shown}')
            for name, value in scores.items():
                runner.message_hub.update_scalar(name, value)
        for network, mode in training.items():
            network.train(mode)

    @torch.no_grad()
    def _score(
        self, key: str, images: SuiteImages, networks: dict[str, nn.Module], model: nn.Module
    ) -> dict[str, float]:
        """Scores of the networks on a suite, and their distances from the teacher, by name."""
        image_set, preprocessor = images.image_set, model.data_preprocessor
        device, cells = preprocessor.mean.device, len(image_set.cells)
        recorder = Recorder(image_set, {})
        decisions = recorder.decisions.to(device)
        teacher = model.teacher if model.teacher is not None and model.teacher.live else None
        of_teacher = self._of_teacher.setdefault(key, [])
        sums = {f'{name}_{what}': 0.0 for name in networks for what in ('hits', 'agreements', 'kl')}
        if teacher is not None:
            sums['teacher_hits'] = 0.0
        own_indices = np.arange(len(image_set.paths))[get_rank() :: get_world_size()]
        for number, (batch, indices, _) in enumerate(load_batches(images, own_indices, self.batch_size, self.workers)):
            labels = torch.from_numpy(image_set.labels[indices]).repeat_interleave(cells).to(device)
            x = self._normalise(batch.flatten(0, 1), preprocessor)
            if teacher is not None:
                if number == len(of_teacher):
                    logits = teacher(preprocessor.view_batch(x)).logits
                    of_teacher.append(recorder.probabilities(logits.float()).half().cpu())
                target = of_teacher[number].to(device).float()
                sums['teacher_hits'] += (decisions[target.argmax(dim=1)] == labels).sum().item()
            for name, network in networks.items():
                probabilities = recorder.probabilities(network(x).float())
                best = probabilities.argmax(dim=1)
                sums[f'{name}_hits'] += (decisions[best] == labels).sum().item()
                if teacher is not None:
                    sums[f'{name}_agreements'] += (best == target.argmax(dim=1)).sum().item()
                    divergence = torch.special.xlogy(target, target) - target * probabilities.clamp(min=1e-12).log()
                    sums[f'{name}_kl'] += divergence.sum().item()
        return self._means(sums, len(image_set.paths) * cells, teacher is not None)

    @staticmethod
    def _normalise(images: Tensor, preprocessor: nn.Module) -> Tensor:
        images = images.to(preprocessor.mean.device).to(memory_format=preprocessor.memory_format)
        return normalise(images, preprocessor.mean, preprocessor.std)

    @staticmethod
    def _means(sums: dict[str, float], shown: int, with_teacher: bool) -> dict[str, float]:
        """Means over the images and cells of all processes.

        Args:
            sums: Sums over those of this process, by ``<network>_<what>``.
            shown: Number of images times cells of all processes.
            with_teacher: Whether the distances from a teacher were measured.
        """
        total = torch.tensor(list(sums.values()), dtype=torch.float64)
        all_reduce(total)
        names_and_factors = {'hits': ('top1_pct', 100), 'agreements': ('agreement_pct', 100), 'kl': ('kl', 1)}
        scores = {}
        for key, value in zip(sums, (total / shown).tolist(), strict=True):
            network, _, what = key.rpartition('_')
            if what == 'hits' or with_teacher:
                name, factor = names_and_factors[what]
                scores[f'{network}_{name}'] = value * factor
        return scores
