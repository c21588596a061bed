"""The file of predictions is whole at any moment, whatever happens."""

import errno
import json
import os

import pytest

from distill.predict.record import FILE_NAME, PARTIAL_NAME, PredictionFile, check_replaceable

HEADER = {'task': 'classification', 'model': {'source': 'x'}}


def read(path) -> dict:
    return json.loads(path.read_text())


def test_the_file_is_whole_after_each_image_and_gets_its_name_when_all_are_there(tmp_path):
    partial = tmp_path / 'out' / PARTIAL_NAME
    with PredictionFile(tmp_path / 'out', HEADER) as record:
        for count in range(3):
            content = read(partial)
            assert content['finished'] is False
            assert content['images'] == [{'id': n} for n in range(count)]
            record.add({'id': count})
        record.finish(counts={'images': 3})
    assert not partial.exists()
    content = read(tmp_path / 'out' / FILE_NAME)
    assert (content['finished'], content['counts'], len(content['images'])) == (True, {'images': 3}, 3)
    assert content.items() >= HEADER.items()


def test_after_an_error_the_images_so_far_are_kept_beside_an_earlier_file(tmp_path):
    with PredictionFile(tmp_path, HEADER) as record:
        record.finish()

    def fail() -> None:
        with PredictionFile(tmp_path, HEADER) as record:
            record.add({'id': 0})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert read(tmp_path / PARTIAL_NAME)['images'] == [{'id': 0}]
    assert read(tmp_path / FILE_NAME)['finished'] is True


@pytest.mark.parametrize('room', [0, 1, 10, 50])
def test_a_disk_that_gets_full_in_an_entry_leaves_the_entries_before(tmp_path, monkeypatch, room):
    """The system writes what there is room for, and then refuses; what is there already can be written over."""
    real = os.pwrite
    with PredictionFile(tmp_path, HEADER) as record:
        record.add({'id': 0})
        size = (tmp_path / PARTIAL_NAME).stat().st_size

        def nearly_full(file: int, content, at: int) -> int:
            fits = content[: max(0, size + room - at)]
            if not len(fits):
                raise OSError(errno.ENOSPC, 'No space left on device')
            return real(file, fits, at)

        monkeypatch.setattr(os, 'pwrite', nearly_full)
        with pytest.raises(OSError, match='No space'):
            record.add({'id': 1, 'text': 'x' * 200})
        assert read(tmp_path / PARTIAL_NAME)['images'] == [{'id': 0}]
        monkeypatch.setattr(os, 'pwrite', real)
        record.add({'id': 1})
        assert read(tmp_path / PARTIAL_NAME)['images'] == [{'id': 0}, {'id': 1}]


def test_any_name_of_a_file_comes_back(tmp_path):
    names = ['a\nb', 'ünï', '日本', '\udcff.png', '"quoted"']
    with PredictionFile(tmp_path, HEADER) as record:
        for name in names:
            record.add({'path': name})
        record.finish()
    assert [entry['path'] for entry in read(tmp_path / FILE_NAME)['images']] == names


def test_the_file_of_another_program_is_not_replaced(tmp_path):
    (tmp_path / FILE_NAME).write_text('{"mine": true}')
    with pytest.raises(ValueError, match='not overwritten'):
        check_replaceable(tmp_path)
    with PredictionFile(tmp_path / 'new', HEADER) as record:
        record.finish()
    check_replaceable(tmp_path / 'new')
