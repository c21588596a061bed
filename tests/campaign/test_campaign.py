"""A short campaign on every change; ``make campaign`` runs long ones."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from campaign import breaks_configs, breaks_data, breaks_stored  # noqa: F401
from campaign.bad_input import BREAKS, SPREAD

TESTS = Path(__file__).parents[1]


def test_all_ways_of_breaking_take_their_turns():
    assert len({number * SPREAD % len(BREAKS) for number in range(len(BREAKS))}) == len(BREAKS)


@pytest.mark.slow
def test_a_short_campaign_finds_nothing(tmp_path):
    path = os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get('PYTHONPATH', '')])
    command = [sys.executable, '-m', 'campaign', '--kills', '18', '--inputs', '48', '--jobs', '1', '--out', tmp_path]
    ran = subprocess.run(command, env={**os.environ, 'PYTHONPATH': path}, capture_output=True, text=True, timeout=3000)
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
    assert '| hostile files |' in (tmp_path / 'table.md').read_text()
