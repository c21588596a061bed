"""The examples of docs/python.md, in the order of the page, as one notebook."""

import re
from pathlib import Path

import distill

PAGE = Path(__file__).parents[2] / 'docs' / 'python.md'


def test_every_example_of_the_page_runs(shapes, tmp_path, monkeypatch, capsys):
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'shapes').symlink_to(shapes.parent)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r'^```python\n(.*?)^```$', PAGE.read_text(), re.M | re.S)
    # Small enough for the images of the tests.
    train = distill.train
    monkeypatch.setattr(distill, 'train', lambda *args, **given: train(*args, **{'num_workers': 0, **given}))
    space: dict = {}
    for block in blocks:
        exec(compile(block, str(PAGE), 'exec'), space)
    assert 'did you mean epochs?' in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ['data', 'work_dirs']
    assert (tmp_path / 'work_dirs' / 'report' / 'report.html').is_file()


def test_the_table_of_the_page_names_every_call_and_shortcut():
    from distill.training.options import SHORTCUTS

    text = PAGE.read_text()
    calls = [name for name in distill.__all__ if name.islower()]
    assert [name for name in calls if f'| `distill.{name}(' not in text] == []
    assert [name for name in SHORTCUTS if f'| `{name}` |' not in text] == []
