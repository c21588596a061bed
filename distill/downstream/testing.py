"""Two wishes of OpenMMLab's test command: augmentation (``--tta``), and predictions in a file (``--out``)."""

from pathlib import Path

from mmengine.config import Config


def augment_test_time(config: Config) -> None:
    """Let a config test with augmentation, as OpenMMLab's ``--tta`` does.

    Args:
        config: A config with ``tta_model`` and ``tta_pipeline``, which is changed in place.

    Raises:
        ValueError: The config lacks one of the two.
    """
    missing = [key for key in ('tta_model', 'tta_pipeline') if not config.get(key)]
    if missing:
        raise ValueError(f'{config.filename} has no {" and no ".join(missing)}; add it or drop --tta')
    config.model = dict(**config.tta_model, module=config.model)
    config.test_dataloader.dataset.pipeline = config.tta_pipeline


def dump_predictions(config: Config, path: Path) -> None:
    """Let a test write its predictions to a file too, as OpenMMLab's ``--out`` does.

    Args:
        config: A config of any task, which is changed in place.
        path: The file, which ends in ``.pkl``.
    """
    dump = dict(type='DumpDetResults' if config.get('default_scope') == 'mmdet' else 'DumpResults')
    evaluators = config.test_evaluator if isinstance(config.test_evaluator, list) else [config.test_evaluator]
    config.test_evaluator = [*evaluators, dict(dump, out_file_path=str(path))]
