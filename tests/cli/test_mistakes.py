"""A mistake in a config is one line, where it is not a bug."""

import errno
import subprocess
import sys

import pytest
from mmengine.config import Config
from mmengine.hooks import Hook  # noqa: F401 (registers mmengine's hooks)
from mmengine.registry import HOOKS, MODELS, DefaultScope

from distill.base.mistakes import config_mistake
from distill.cli.command import one_line
from distill.cli.train import main as train


def caught(function, *args) -> BaseException:
    try:
        function(*args)
    except Exception as error:
        return error
    raise AssertionError('nothing was raised')


@pytest.mark.parametrize(
    ('registry', 'settings', 'message'),
    [
        (HOOKS, dict(type='EMAHok'), "type 'EMAHok' is unknown among the hooks of mmengine; did you mean EMAHook?"),
        (HOOKS, dict(type='IterTimerHook', nonsense=3), "IterTimerHook takes no 'nonsense'; it takes "),
        (HOOKS, dict(type='LoggerHook', intervall=3), "LoggerHook takes no 'intervall'; did you mean interval?"),
        (HOOKS, dict(type='LoggerHook', interval='often'), 'LoggerHook cannot be built (interval must be an integer)'),
        (MODELS, dict(), 'the config cannot be built'),
    ],
)
def test_what_the_registry_refuses_is_a_mistake(registry, settings, message):
    with DefaultScope.overwrite_default_scope('mmengine'):
        assert config_mistake(caught(registry.build, settings)).startswith(message)


def test_the_same_exceptions_from_elsewhere_are_bugs():
    assert config_mistake(caught(lambda: {}['a'])) is None
    assert config_mistake(caught(lambda: len(3))) is None


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('x = = 3', 'cannot be read (SyntaxError: '),
        ('x = 1 / 0', 'cannot be read (ZeroDivisionError: division by zero); correct it, or what it inherits from'),
        ("_base_ = './own.py'", 'inherits from itself by _base_'),
        ("_base_ = './gone.py'", "gone.py', which does not exist; correct its _base_"),
        ('', 'has no model; inherit from one that has, by _base_'),
    ],
)
def test_a_config_that_cannot_be_read_is_one_line(tmp_path, capsys, text, message):
    (tmp_path / 'own.py').write_text(text)
    assert train([str(tmp_path / 'own.py')]) == 1
    line = capsys.readouterr().err
    assert message in line
    assert line.count('\n') == 1


def test_a_setting_that_nothing_reads_is_refused(tmp_path, capsys):
    (tmp_path / 'own.py').write_text('model = dict(type="Distiller")\ntrain_cfg = dict(max_epochs=1)\n')
    assert train([str(tmp_path / 'own.py'), '--cfg-options', 'trian_cfg.max_epochs=3']) == 1
    assert "sets 'trian_cfg', which nothing reads; did you mean train_cfg?" in capsys.readouterr().err
    assert Config.fromfile(tmp_path / 'own.py').train_cfg.max_epochs == 1


def test_a_system_error_says_what_to_do():
    full = OSError(errno.ENOSPC, 'No space left on device')
    assert one_line(full) == 'the disk that is written to is full; make room or name another folder'
    assert one_line(caught(open, '/nowhere/file')) == "'/nowhere/file': no such file or directory"


def test_a_reader_that_has_seen_enough_is_no_mistake():
    command = [sys.executable, '-c', 'from distill.cli.main import main; raise SystemExit(main(["configs"]))']
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b''
