"""A run that says little on the screen: what a notebook shows below a cell."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.logging import MMLogger

from distill.training.runner import Runner

OF_MMENGINE = (
    'Distributed training is not used',
    '"FileClient" will be',
    '"HardDiskBackend" is',
    'The prefix is not set',
    'Exp name:',
)
"""Beginnings of mmengine's own lines that are the same in every run and tell nothing of it."""


class BriefRunner(Runner):
    """A `Runner` whose screen leaves out what the log file has: the environment, the config and the order of hooks."""

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """Build the logger, and filter what goes to the screen."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(is_brief)
        return logger


def is_brief(record: logging.LogRecord) -> bool:
    """Whether a line belongs on the screen: warnings and all single lines do."""
    text = record.getMessage()
    return not text.startswith(OF_MMENGINE) and (record.levelno > logging.INFO or '\n' not in text)


@contextmanager
def without_library_warnings(verbose: bool) -> Iterator[None]:
    """Leave out the warnings that OpenMMLab's libraries raise in every run, of which most are about their own code."""
    with warnings.catch_warnings():
        for name in () if verbose else ('mmengine', 'mmcv', 'mmdet', 'mmseg'):
            warnings.filterwarnings('ignore', category=UserWarning, module=name)
        yield
