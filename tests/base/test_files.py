"""Files are written in one piece, and what they hold is plain."""

import os
import platform
import subprocess

import numpy as np
import pytest

from distill.base.files import read_json, remove_leftovers, to_plain, write_json, write_npz, write_text


def test_json_of_numpy_comes_back_plain(tmp_path):
    content = {'a': np.float64(0.5), 'b': (np.int64(1), [np.arange(2)]), 'c': {2}, 'd': 'ä'}
    assert to_plain(content) == {'a': 0.5, 'b': (1, [[0, 1]]), 'c': [2], 'd': 'ä'}
    write_json(tmp_path / 'new' / 'x.json', content)
    assert read_json(tmp_path / 'new' / 'x.json') == {'a': 0.5, 'b': [1, [[0, 1]]], 'c': [2], 'd': 'ä'}
    (tmp_path / 'x.json').write_text('{')
    with pytest.raises(ValueError, match=r"x\.json' is not valid JSON \(.*\); delete it"):
        read_json(tmp_path / 'x.json', 'delete it')


def test_a_write_that_fails_leaves_the_file_before_and_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / 'x.txt'
    write_text(path, 'before')

    def full(self, content):
        raise OSError('no space left')

    monkeypatch.setattr('pathlib.Path.write_bytes', full)
    with pytest.raises(OSError, match='no space left'):
        write_text(path, 'after')
    assert path.read_text() == 'before'
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize('compress', [True, False])
def test_arrays_come_back(tmp_path, compress):
    arrays = {'cells': ['', 'fog 3'], 'hits': np.eye(3, dtype=bool)}
    write_npz(tmp_path / 'x.npz', arrays, compress)
    with np.load(tmp_path / 'x.npz') as stored:
        assert stored['cells'].tolist() == arrays['cells']
        np.testing.assert_array_equal(stored['hits'], arrays['hits'])


def test_leftovers_of_dead_processes_of_this_machine_go_and_others_stay(tmp_path):
    ended = subprocess.Popen(['true'])
    ended.wait()
    here, dead = platform.node(), ended.pid
    stay = ['x.pth', '.x.pth', f'.x.pth.{here}.{os.getpid()}.tmp', f'.x.pth.elsewhere.{dead}.tmp']
    for name in (*stay, f'.x.pth.{here}.{dead}.tmp', f'.y.json.{here}.{dead}.tmp'):
        (tmp_path / name).touch()
    (tmp_path / f'.coco.{here}.{dead}.partial' / 'train').mkdir(parents=True)
    remove_leftovers(tmp_path, tmp_path / 'not_there')
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(stay)
