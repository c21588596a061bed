"""Calls in a notebook: results that show themselves, and bars that fit."""

from pathlib import Path

import pytest
from api_runs import ALONE

nbformat = pytest.importorskip('nbformat')
nbclient = pytest.importorskip('nbclient')
pytest.importorskip('ipykernel')

REPO = Path(__file__).parents[2]
CELLS = [
    """
import sys
sys.path.insert(0, {repo!r})
sys.modules['ipywidgets'] = None    # As in an environment without.
import distill
small = dict(epochs=1, batch_size=20, num_workers=0, model=dict(student=dict(
    dims=[8, 8, 16, 16], depths=[1, 1, 1, 1], kernel_size=3)))
result = distill.train({config!r}, {data!r}, 'first', **small)
result
""",
    "second = distill.train({config!r}, {data!r}, 'second', **small)",
    "distill.evaluate(dict(a=result.student_best, b=second.student()), {data!r}, ['clean', 'corruption'], "
    'corruption_limit=4)',
    'distill.train({config!r}, {data!r}, epoch=3)',
]


@pytest.mark.slow
def test_cells_show_tables_and_little_else(shapes, tmp_path):
    words = dict(repo=str(REPO), config=ALONE, data=str(shapes))
    cells = [nbformat.v4.new_code_cell(cell.format(**words)) for cell in CELLS]
    notebook = nbformat.v4.new_notebook(cells=cells)
    resources = {'metadata': {'path': str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, allow_errors=True, resources=resources).execute()
    outputs = [cell.outputs for cell in notebook.cells]
    texts = [''.join(one.text for one in cell if one.output_type == 'stream') for cell in outputs]
    tables = [[one.data['text/html'] for one in cell if one.output_type == 'execute_result'] for cell in outputs]
    assert '<th>loss</th>' in tables[0][0]
    for text in texts[:2]:
        assert text.count('Epoch(train) [1]') == 1
        assert len(text.splitlines()) < 20
    assert tables[2][0].count('<tr>') == 3
    assert 'predictions' in texts[2]
    assert not [one for one in outputs[2] if one.output_type == 'display_data' and 'ipywidgets' in str(one.data)]
    (error,) = outputs[3]
    assert error.ename == 'ValueError'
    assert error.evalue.endswith('did you mean epochs?')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['first', 'second']
