"""Compare the classes of data, student, teacher and checkpoint by name, and bring them into one order."""

from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from backbones.class_names import known_classes
from backbones.record import ModelRecord
from distill.base.classes import first, match_classes
from distill.base.processes import unwrap
from distill.training.metrics import TopK


@HOOKS.register_module()
class CheckClassesHook(Hook):
    """Stop before training or testing if data, student, teacher and checkpoint do not have the same classes.

    Lists of the same names in another order are brought into one order: that of the checkpoint that a run goes on or
    starts from, else that of the training set. Where a list has no names, the classes can only be counted.
    """

    def __init__(self):
        self._loaded: tuple[list[str], str] | None = None

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Keep the names of the classes that a checkpoint was trained for."""
        file = runner._load_from
        named = ((checkpoint.get('meta') or {}).get('dataset_meta') or {}).get('classes')
        if not named and runner._resume and file:
            # Earlier versions wrote the names beside the best student alone.
            record = ModelRecord.read(Path(file).with_name('student_best.pth'))
            named = record.classes if record is not None else None
        self._loaded = (list(map(str, named)), f"the checkpoint '{file}'") if named else None

    def before_train(self, runner) -> None:
        """Compare all parts of a run.

        Raises:
            ValueError: The classes differ, or labels are to be predicted by a model that has no classes.
        """
        model, training = unwrap(runner.model), runner.train_dataloader.dataset
        if not model.classifies:
            check_without_classes(runner.val_loop, 'val')
            return
        if not getattr(training, 'labelled', True):
            check_without_labels(model, training)
        validation = getattr(getattr(runner.val_loop, 'dataloader', None), 'dataset', None)
        known = self._loaded or _start(model, training)
        _order(training, known)
        if getattr(training, 'labelled', True):
            _check_count(training, 'training', model)
        mixup = getattr(model.data_preprocessor, 'mixup', None)
        if mixup is not None and mixup.num_classes != model.student.num_classes:
            raise ValueError(
                f'mixing makes labels of {mixup.num_classes} classes and the student has {model.student.num_classes}; '
                f'set model.data_preprocessor.mixup.num_classes={model.student.num_classes}'
            )
        if known is None and _is_named(training):
            known = (list(training.classes), f"the training set '{_where(training)}'")
        if validation is not None:
            _order(validation, known)
            _check_count(validation, 'validation', model)
        if model.teacher is not None and getattr(training, 'classes', None) and hasattr(training, 'order_classes'):
            model.teacher.order_classes(training)

    def before_test(self, runner) -> None:
        """Compare the test set with the checkpoint.

        Raises:
            ValueError: The classes differ, or labels are to be predicted by a model that has no classes.
        """
        dataset = runner.test_loop.dataloader.dataset
        if not unwrap(runner.model).classifies:
            check_without_classes(runner.test_loop, 'test')
            return
        _order(dataset, self._loaded)
        _check_count(dataset, 'test', unwrap(runner.model))


def check_without_classes(loop: Any, part: str) -> None:
    """Check that nothing compares the logits of a model that has none.

    Args:
        loop: A loop of validation or test, or None.
        part: ``val`` or ``test``, for the error.

    Raises:
        ValueError: An evaluator counts correct classes.
    """
    if any(isinstance(metric, TopK) for metric in getattr(getattr(loop, 'evaluator', None), 'metrics', ())):
        raise ValueError(
            f'{part}_evaluator is TopK, and a student of features predicts no classes; set {part}_dataloader, '
            f'{part}_evaluator and {part}_cfg to None, and score features by a KnnScoresHook in custom_hooks'
        )


def check_without_labels(model: Any, training: Any) -> None:
    """Check that a run on images without labels needs none.

    Args:
        model: The model; the terms of its ``losses`` tell by ``inputs`` whether they take the target.
        training: The training set.

    Raises:
        ValueError: A loss compares with labels.
    """
    needing = [loss.name for loss in getattr(model, 'losses', ()) if 'target' in getattr(loss, 'inputs', ())]
    if needing:
        raise ValueError(
            f"{', '.join(needing)} compares with labels, and the training set '{_where(training)}' has none "
            '(labels=False); drop the loss, or train on class folders with labels=True'
        )


def _start(model: Any, training: Any) -> tuple[list[str], str] | None:
    """The names of the classes of a student that is trained already, and where they come from."""
    student, settings = model.student, model.student_config
    if settings.get('checkpoint'):
        names = known_classes(model.student_record.classes, {}, student.num_classes)
        return (names, f"the student's checkpoint '{settings['checkpoint']}'") if names else None
    names = known_classes(None, student.pretrained_cfg, student.num_classes) if settings.get('pretrained') else None
    # Pretrained weights may be trained on for other classes, but where the classes are the same, their order holds.
    return (names, 'the pretrained student') if names and {*names} == {*getattr(training, 'classes', ())} else None


def _order(dataset: Any, known: tuple[list[str], str] | None) -> None:
    """Bring the classes of a data set into a known order."""
    if known is None or not _is_named(dataset):
        return
    if hasattr(dataset, 'order_classes'):
        dataset.order_classes(*known)
    elif match_classes(dataset.classes, known[0], 'the data set', known[1]) != list(range(len(known[0]))):
        raise ValueError(f'the data set has the classes {first(dataset.classes)}, in another order than {known[1]}')


def _check_count(dataset: Any, part: str, model: Any) -> None:
    """Compare the number of classes with the student's."""
    classes, expected = getattr(dataset, 'classes', None), model.student.num_classes
    if classes is None or len(classes) == expected:
        return
    found = f'the {part} set has {len(classes)} classes ({first(classes)}) and the student {expected}'
    if not classes:
        advice = 'give it names of classes (of Hugging Face data sets: a ClassLabel feature)'
    elif not getattr(dataset, 'named', True) and part != 'training':
        advice = 'a set without names of classes has as many as its largest label and one: choose the data that belong'
    elif len(classes) == 1:
        advice = 'each folder directly in it is a class: name the folder that holds the class folders'
    elif part != 'training':
        advice = 'choose data of the classes that the student was trained for'
    elif model.teacher is not None or model.student_config.get('checkpoint'):
        advice = 'choose the data that the teacher, or the checkpoint of the student, was trained for'
    else:
        advice = f'set model.student.num_classes={len(classes)} if these are the classes'
    raise ValueError(f"{found}, in '{_where(dataset)}'; {advice}")


def _is_named(dataset: Any) -> bool:
    return getattr(dataset, 'classes', None) is not None and getattr(dataset, 'named', True)


def _where(dataset: Any) -> str:
    return getattr(dataset, 'where', type(dataset).__name__)
