"""The notebooks run, as a reader runs them, and what the site shows of them is what they print."""

import json
import os
import subprocess
import sys

import pytest
from pages import REPO

pytest.importorskip('nbclient')
pytest.importorskip('ipykernel')

NOTEBOOKS = sorted((REPO / 'docs' / 'notebooks').glob('*.ipynb'))


@pytest.mark.slow
@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path):
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(REPO), os.environ.get('PYTHONPATH', '')])}
    command = [sys.executable, REPO / 'docs' / 'notebooks' / 'run.py', path.stem, '--check']
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_shows_its_outputs_and_no_place_of_the_machine_that_ran_it(path):
    """`make notebooks` writes them."""
    text = path.read_text()
    cells = [cell for cell in json.loads(text)['cells'] if cell['cell_type'] == 'code']
    assert any(cell['outputs'] for cell in cells)
    assert '/tmp/' not in text
    assert not [cell for cell in cells if any(output['output_type'] == 'error' for output in cell['outputs'])]
