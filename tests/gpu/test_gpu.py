"""What `robust-backbones gpu-check` checks on a card, as tests; without a card the logic of its frame alone."""

import json

import pytest
import torch

from distill.cli.gpu_check import main as gpu_check
from distill.gpu_check.contract import MEMBERS, TIMMS, build
from distill.gpu_check.plan import PARTS
from distill.gpu_check.rows import Mismatch, Setting, distance, require
from distill.gpu_check.worker import checks_of, run_check

needs_card = pytest.mark.skipif(not torch.cuda.is_available(), reason='there is no CUDA device')


@needs_card
@pytest.mark.parametrize('part', [part for part, plan in PARTS.items() if not plan.alone])
def test_the_card_does_what_the_cpu_does(part, tmp_path):
    rows = [run_check(part, check) for check in checks_of(part, Setting('cuda', tmp_path, False, 600))]
    assert [(row.name, row.cause) for row in rows if row.status == 'failed'] == []
    assert any(row.status == 'passed' for row in rows)


def test_small_members_of_all_families_give_logits(tmp_path):
    setting = Setting('cpu', tmp_path, True, 600)
    for name, kwargs in {**MEMBERS, **TIMMS}.items():
        network, images = build(name, kwargs, setting)
        assert network(images).shape == (len(images), 100), name


def test_a_part_gives_a_row_for_each_check_and_is_stopped_in_time(tmp_path, capsys):
    """In one call a part that is done in seconds, and one that never is in the time that is left."""
    pytest.importorskip('mmcv')
    out = tmp_path / 'result.json'
    status = gpu_check(['--device', 'cpu', '--minutes', '10', '--parts', 'operators', '--out', str(out)])
    result = json.loads(out.read_text())
    assert status == 0
    assert result['machine']['device'] == 'cpu'
    by_name = {row['name']: row for row in result['rows']}
    assert by_name['nms']['values']['error'] == 0
    assert by_name['roi_align']['status'] == 'passed'
    assert by_name['roi_align']['values']['fp32'] <= by_name['roi_align']['values']['limits']['fp32']
    assert 'roi_align' in capsys.readouterr().out
    assert gpu_check(['--device', 'cpu', '--minutes', '0.01', '--parts', 'contract', '--out', str(out)]) == 0
    # A fast machine is done with some of the checks by then, and a slow one has not listed them yet.
    found = [row['status'] for row in json.loads(out.read_text())['rows']]
    done = found.index('not reached in time')
    assert set(found[:done]) <= {'passed'}
    assert set(found[done:]) == {'not reached in time'}


@pytest.fixture
def unruly(monkeypatch, tmp_path):
    """A part whose first check fails, whose second crashes its process, and whose third passes."""
    folder = tmp_path / 'code'
    folder.mkdir()
    (folder / 'sitecustomize.py').write_text(
        'import sys, types\n'
        'module = types.ModuleType("distill.gpu_check.unruly")\n'
        'exec("""\n'
        'import os\n'
        'def checks(setting):\n'
        '    from distill.gpu_check.rows import Check, require\n'
        '    return [Check("wrong", lambda: require(dict(x=2.0), dict(x=1.0))),\n'
        '            Check("bug", lambda: 1 // 0),\n'
        '            Check("crash", lambda: os._exit(9)), Check("right", lambda: dict(x=3))]\n'
        '""", module.__dict__)\n'
        'sys.modules["distill.gpu_check.unruly"] = module\n'
    )
    monkeypatch.setenv('PYTHONPATH', str(folder))
    monkeypatch.setattr('distill.gpu_check.run.can_fork', lambda device: False)  # As for a card.
    monkeypatch.setitem(PARTS, 'unruly', type(PARTS['operators'])(0.5, ''))


def test_failures_are_rows_with_their_causes_and_the_others_go_on(unruly, tmp_path):
    out = tmp_path / 'result.json'
    assert gpu_check(['--device', 'cpu', '--minutes', '10', '--parts', 'unruly', '--out', str(out)]) == 1
    rows = {row['name']: row for row in json.loads(out.read_text())['rows']}
    assert {name: row['status'] for name, row in rows.items()} == {
        'wrong': 'failed', 'bug': 'failed', 'crash': 'failed', 'right': 'passed'
    }  # fmt: skip
    assert rows['wrong']['cause'] == 'x is 2, limit 1'
    assert rows['wrong']['values'] == {'x': 2.0, 'limits': {'x': 1.0}}
    assert rows['bug']['cause'].startswith('ZeroDivisionError')
    assert 'Traceback' in rows['bug']['traceback']
    assert 'status 9' in rows['crash']['cause']
    assert rows['right']['values'] == {'x': 3}


def test_no_number_passes_for_a_small_error():
    found = torch.tensor([1.0, float('nan')])
    with pytest.raises(Mismatch, match='error is nan'):
        require({'error': distance(found, torch.ones(2))}, {'error': 1.0})
    assert distance(torch.tensor([3.0, 5.0]), torch.tensor([3.0, 4.0])) == pytest.approx(0.2)
