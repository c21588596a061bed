"""Steps that were done before: also those that an earlier version did."""

import json

import pytest

from distill.jobs.steps import Step, Workplace


@pytest.mark.parametrize(
    ('recorded', 'command'),
    [('train', 'train'), ('train.py', 'train'), ('make_data.py', 'data'), ('cache_teacher.py', 'cache')],
)
def test_a_mark_of_an_earlier_version_counts(recorded, command, tmp_path):
    place = Workplace(tmp_path)
    place.mark('a step').write_text(json.dumps({'command': [recorded, 'x'], 'seconds': 1.5}))
    assert place.is_done(Step('a step', [command, 'x']))
    assert not place.is_done(Step('a step', [command, 'y']))
    assert not place.is_done(Step('another step', [command, 'x']))
    assert place.seconds('a step') == 1.5
