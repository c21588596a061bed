"""What a command writes, and where: nothing to the home folder, and a full disk is named."""

import errno
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from distill.cli.command import one_line, written

ROOT = Path(__file__).parents[2]
CODE = """
import os, sys
from distill.base.caches import leave_home_alone
leave_home_alone()
import matplotlib.font_manager
folder = os.environ.get('MPLCONFIGDIR', '')
print(folder, len(os.listdir(folder)) if folder else 'none', 'yapf' in sys.modules, 'XDG_CACHE_HOME' in os.environ)
"""


def run(home: Path) -> list[str]:
    kept = {name: value for name, value in os.environ.items() if name not in ('MPLCONFIGDIR', 'XDG_CACHE_HOME')}
    environment = {**kept, 'HOME': str(home), 'PYTHONPATH': str(ROOT)}
    done = subprocess.run([sys.executable, '-c', CODE], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.skipif(sys.platform != 'linux', reason='looks where Linux keeps caches')
def test_a_home_without_caches_stays_as_it_is_and_those_that_are_there_are_used(tmp_path):
    pytest.importorskip('yapf')
    folder, files, has_yapf, has_variable = run(tmp_path)
    assert not list(tmp_path.rglob('*'))
    assert (int(files) > 0, has_yapf, has_variable) == (True, 'True', 'False')
    assert not Path(folder).exists()
    for name in ('matplotlib/fontlist-v390.json', 'YAPF/1/Grammar.pickle'):
        (tmp_path / '.cache' / name).parent.mkdir(parents=True)
        (tmp_path / '.cache' / name).write_text('{}')
    assert run(tmp_path)[:2] == ['none', 'False']


def test_a_full_disk_is_named_by_what_is_written():
    full = OSError(errno.ENOSPC, 'No space left on device')
    args = Namespace(models=['a'], out=None, work_dir='work')
    assert one_line(full, written(args)) == "the disk of 'work' is full; make room or name another folder"
    assert one_line(full, written(Namespace(models=['a']))).startswith('the disk that is written to is full')
    named = OSError(errno.ENOSPC, 'No space left on device', '/there')
    assert one_line(named, written(args)).startswith("the disk of '/there' is full")
