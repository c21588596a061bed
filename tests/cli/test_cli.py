"""How every command line fails: one line for a user's mistake, a traceback for a bug."""

import argparse

import pytest

from distill.cli.command import one_line, run_command

WORKER = """Caught ValueError in DataLoader worker process 0.
Original Traceback (most recent call last):
  File "worker.py", line 1, in loop
    data = fetcher.fetch(index)
ValueError: image 'a.jpg' cannot be decoded; replace it
"""


@pytest.mark.parametrize(
    ('message', 'line'),
    [
        ('two\n  lines', 'two lines'),
        (WORKER, "image 'a.jpg' cannot be decoded; replace it"),
        ('class `A` in x/a.py: class `B` in x/b.py: b is 3: choose 4', 'b is 3: choose 4'),
        ('', 'ValueError'),
    ],
)
def test_one_line(message, line):
    assert one_line(ValueError(message)) == line


def test_mistakes_end_with_one_line_and_bugs_with_a_traceback(capsys, monkeypatch):
    def fail(error):
        def run(args):
            raise error

        return run_command(lambda: argparse.ArgumentParser(prog='tool'), run, [])

    monkeypatch.delenv('TRACEBACK', raising=False)
    assert fail(FileNotFoundError('no x; make it')) == 1
    assert capsys.readouterr().err == 'tool: error: no x; make it\n'
    assert fail(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == 'tool: stopped\n'
    monkeypatch.setenv('TRACEBACK', '1')
    assert fail(ValueError('x is 1')) == 1
    assert 'Traceback' in capsys.readouterr().err
    with pytest.raises(AttributeError):
        fail(AttributeError('a bug'))
