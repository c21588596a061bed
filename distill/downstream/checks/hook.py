"""The hook that checks data and model against each other before a detector or segmenter trains or is tested."""

import math
from collections.abc import Callable

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner.base_loop import BaseLoop
from torch import nn

from distill.downstream.checks.evaluator import check_evaluator
from distill.downstream.checks.files import check_files, check_objects
from distill.downstream.checks.labels import LabelCensus
from distill.downstream.checks.model import check_checkpoint, check_classes, check_crop, check_order
from distill.downstream.checks.norm import watch_norms
from distill.downstream.checks.sample import CheckSample, check_samples, name_label_maps, steps_inside
from distill.training.runner import bare_model


@HOOKS.register_module()
class CheckDataHook(Hook):
    """Check data and model against each other, once before training and once before tests.

    The hook also fills in the number of the segmenter's classes in every `CheckSample` of the pipelines, so that a
    config need not repeat it.
    """

    priority = 'VERY_HIGH'

    def __init__(self):
        self.checked: set[str] = set()
        self.classes: tuple[list[str], str] | None = None  # Of the first data set that was checked, and its name.
        self.end_watch: Callable[[], None] | None = None

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Compare the classes of the checkpoint with those of the data.

        Raises:
            ValueError: They are others, or stand in another order.
        """
        loops = [
            loop for loop in (runner._train_loop, runner._test_loop, runner._val_loop) if isinstance(loop, BaseLoop)
        ]
        if loops:
            starts = isinstance(runner._train_loop, BaseLoop) and not runner._resume
            classes = class_names(base_datasets(loops[0].dataloader.dataset)[0])
            line = check_checkpoint(checkpoint.get('meta') or {}, classes, runner._load_from, starts)
            if line:
                runner.logger.warning(line)

    def before_train(self, runner) -> None:
        """Check the training and validation sets.

        Raises:
            ValueError: They do not fit each other or the model.
            FileNotFoundError: A file that they name does not exist.
        """
        self._check(runner, 'training', runner.train_loop)
        if runner.val_loop is not None:
            self._check(runner, 'validation', runner.val_loop)
        datasets = base_datasets(runner.train_loop.dataloader.dataset)
        check_objects(datasets)
        for dataset in datasets:
            check_crop(dataset, getattr(getattr(bare_model(runner.model), 'backbone', None), 'strides', ()))

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Watch the norms of the first step.

        Raises:
            ValueError: In the forward, where a norm has one value a channel.
        """
        if self.end_watch is None:
            self.end_watch = watch_norms(bare_model(runner.model), len(data_batch['inputs']), runner.train_dataloader)

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Leave the norms alone after the first step."""
        self.end_watch()
        self.end_watch = bool

    def before_val(self, runner) -> None:
        """Check the validation set, unless that was done before training."""
        self._check(runner, 'validation', runner.val_loop)

    def after_val_epoch(self, runner, metrics: dict | None = None) -> None:
        """Say why a score is not a number."""
        empty = [name for name in ('mIoU', 'mAcc', 'aAcc') if math.isnan((metrics or {}).get(name, 0))]
        if empty:
            runner.logger.warning(
                f'{", ".join(empty)}: not a number, because no pixel of the validation set has a label that counts'
            )

    def before_test(self, runner) -> None:
        """Check the test set."""
        self._check(runner, 'test', runner.test_loop)

    def _check(self, runner, part: str, loop: BaseLoop) -> None:
        if part in self.checked:
            return
        self.checked.add(part)
        model = bare_model(runner.model)
        datasets = base_datasets(loop.dataloader.dataset)
        census = LabelCensus(part)
        for dataset in datasets:
            self._compare_classes(dataset, f'the {part} set')
            fill_in_classes(dataset, model)
            name_label_maps(dataset.pipeline)
            check_classes(dataset, model, part)
            if is_main_process():
                for line in check_files(dataset):
                    runner.logger.warning(line)
                check_samples(dataset, census, runner.logger.warning)
        for line in census.check():
            runner.logger.warning(line)
        if hasattr(loop, 'evaluator'):
            check_evaluator(loop.evaluator, datasets, part)

    def _compare_classes(self, dataset, part: str) -> None:
        """Compare the names of the classes with those of the data set that was checked first."""
        names = class_names(dataset)
        name = f"{part} '{getattr(dataset, 'ann_file', '') or dataset.data_root}'"
        if names and self.classes is None:
            self.classes = names, name
        elif names:
            check_order(names, name, *self.classes)


def class_names(dataset) -> list[str]:
    """The names of a data set's classes; none if it does not know them."""
    return list(dataset.metainfo.get('classes') or ())


def fill_in_classes(dataset, model: nn.Module) -> None:
    """Fill in the segmenter's classes wherever the data set's pipeline has a `CheckSample` that does not know them."""
    head = getattr(model, 'decode_head', None)
    head = head[-1] if isinstance(head, nn.ModuleList) else head
    for step in steps_inside(dataset.pipeline):
        if isinstance(step, CheckSample) and head is not None:
            if step.num_classes is None:
                step.num_classes = getattr(head, 'num_classes', None)
            if step.ignore_index is None:
                step.ignore_index = getattr(head, 'ignore_index', None)


def base_datasets(dataset) -> list:
    """The data sets that read files, out of the wrappers around them."""
    inside = vars(dataset)
    inner = [inside['dataset']] if 'dataset' in inside else inside.get('datasets', [])
    return [base for one in inner for base in base_datasets(one)] if inner else [dataset]
