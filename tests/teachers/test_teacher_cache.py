"""A teacher's cache: its files, and that it says when it does not fit a run."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from small_teacher import CONFIG, options, save_teacher

from distill.cli.train import main as train
from distill.data.preprocessor import ViewPreprocessor
from distill.teachers.cache.manifest import Manifest
from distill.teachers.cache.store import Store
from distill.teachers.cached import CachedTeacher


def predict(cache, keys: torch.Tensor) -> torch.Tensor:
    """Logits of views by their keys."""
    return CachedTeacher(cache)(ViewPreprocessor().view_batch(torch.empty(0), keys)).logits


def test_row_by_hand(tmp_path):
    store = Store(tmp_path, 2, num_classes=4, topk=2, dtype='float32')
    rows = store.pack(torch.tensor([[0.5, 0.15, 0.3, 0.05], [0.0, 1.0, 0.0, 0.0]]).log())
    assert rows['class'].tolist()[0] == [0, 2]
    expected = torch.tensor([[0.5, 0.1, 0.3, 0.1], [0.0, 1.0, 0.0, 0.0]])
    torch.testing.assert_close(store.unpack(rows).exp(), expected, atol=1e-7, rtol=1e-6)
    assert store.unpack(rows).isfinite()[0].all()
    half = Store(tmp_path, 1, num_classes=4, topk=4, dtype='float16')
    logits = torch.tensor([[30.0, 0.0, -5.0, 12.0]])
    torch.testing.assert_close(half.unpack(half.pack(logits)), logits.log_softmax(1), rtol=1e-3, atol=0)


@pytest.mark.parametrize(('classes', 'topk'), [(10, 10), (1000, 1), (1000, 10), (1000, 1000), (65536, 10)])
def test_a_view_takes_no_more_than_four_bytes_a_class_and_four(tmp_path, classes, topk):
    store = Store(tmp_path, 1000, classes, topk, 'float16')
    assert store.row_type.itemsize <= 4 + 4 * topk
    np.zeros(1000, store.row_type).tofile(store.path(0))
    assert store.path(0).stat().st_size <= 1000 * (4 + 4 * topk)


def test_files_hold_nothing_but_rows(caches):
    # Two epochs of 80 images; three log-probabilities and classes of two bytes each.
    assert sum(path.stat().st_size for path in caches['top3'].glob('*.rows')) == 160 * 3 * 4


def test_few_classes_keep_the_largest_and_spread_the_rest(caches):
    keys = torch.tensor([[index, view] for view in (0, 1) for index in range(80)])
    everything, few = predict(caches['fp32'], keys).softmax(1), predict(caches['top3'], keys).exp()
    largest, classes = everything.topk(3, dim=1)
    torch.testing.assert_close(few.gather(1, classes), largest, atol=0, rtol=2e-3)
    torch.testing.assert_close(few.sum(1), torch.ones(160), atol=2e-3, rtol=0)
    rest = few.scatter(1, classes, 0).sort(dim=1).values[:, 3:]
    torch.testing.assert_close(rest, ((1 - few.gather(1, classes).sum(1)) / 7).view(-1, 1).expand(-1, 7))


def test_a_manifest_is_written_as_it_was_read(caches, tmp_path):
    manifest = Manifest.read(caches['top3'])
    manifest.write(tmp_path)
    assert (tmp_path / 'manifest.json').read_bytes() == (caches['top3'] / 'manifest.json').read_bytes()
    assert (manifest.cache.topk, manifest.run.data.images, manifest.run.views.seed) == (3, 80, 11)
    assert list(json.loads((tmp_path / 'manifest.json').read_text())) == ['format', 'cache', 'teacher', 'run']


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('{', r'is not valid JSON \(.*\); write the cache again'),
        ('[]', 'has format None, and 1 is read; write it again'),
        ('{"format": 2}', 'has format 2, and 1 is read; write it again'),
        ('{"format": 1, "cache": {}}', 'is no manifest of a cache .*; write the cache again'),
    ],
)
def test_a_damaged_manifest_is_refused(tmp_path, text, message):
    (tmp_path / 'manifest.json').write_text(text)
    with pytest.raises(ValueError, match=message):
        Manifest.read(tmp_path)


@pytest.fixture(scope='module')
def folders(shapes, checkpoint, caches, tmp_path_factory) -> dict[str, Path]:
    """The data and a cache, other data, another teacher, and caches that are not what they were."""
    root = tmp_path_factory.mktemp('folders')
    smaller = shutil.copytree(shapes, root / 'smaller')
    sorted((smaller / 'train' / 'circle').iterdir())[0].unlink()
    older, incomplete, damaged = (shutil.copytree(caches['fp16'], root / name) for name in ('older', 'less', 'damaged'))
    manifest = json.loads((older / 'manifest.json').read_text())
    manifest['run']['versions']['timm'] = '0.1'
    (older / 'manifest.json').write_text(json.dumps(manifest))
    (incomplete / '000003.rows').unlink()
    os.truncate(damaged / '000000.rows', 10)
    flipped = shutil.copytree(caches['fp16'], root / 'flipped')
    rows = bytearray((flipped / '000002.rows').read_bytes())
    rows[7] ^= 1
    (flipped / '000002.rows').write_bytes(rows)
    other = save_teacher(root / 'other' / 'student_best.pth', bias=1.0)
    return dict(
        shapes=shapes,
        smaller=smaller,
        teacher=checkpoint,
        other=other,
        cache=caches['fp16'],
        older=older,
        incomplete=incomplete,
        damaged=damaged,
        flipped=flipped,
        empty=root,
    )


MISMATCHES = [
    # The cache, the data, settings of the run, what the message says.
    ('cache', 'shapes', {'train_dataloader.dataset.transform.color_jitter': 0.3}, 'color_jitter was 0.2 and is 0.3'),
    ('cache', 'shapes', {'train_dataloader.dataset.seed': 12}, 'views.seed was 11 and is 12'),
    ('cache', 'shapes', {'train_dataloader.sampler.repeats': 2}, 'views.repeats was 1 and is 2'),
    ('cache', 'shapes', {'model.data_preprocessor.mixup.mixup_alpha': 0.1}, 'batch.mixup.mixup_alpha was 0.8 and is'),
    ('cache', 'shapes', {'model.data_preprocessor.random_erasing': 0}, 'batch.random_erasing was 0.5 and is 0'),
    ('cache', 'shapes', {'model.data_preprocessor.mixup.mode': 'batch'}, "mode 'batch' depends on the batch"),
    ('cache', 'shapes', {'model.teacher.checkpoint': '{other}'}, 'weights_sha256 was'),
    ('cache', 'shapes', {'model.teacher.depth': 3}, 'depth was 2 and is 3'),
    ('cache', 'smaller', {}, 'data.images was 80 and is 79'),
    ('older', 'shapes', {}, 'versions.timm was 0.1 and is'),
    ('incomplete', 'shapes', {}, "cache '{incomplete}' lacks 1 of 16 files"),
    ('damaged', 'shapes', {}, "000000.rows' is damaged: it has not 10 rows"),
    ('flipped', 'shapes', {}, "000002.rows' is damaged: its checksum is not that of '000002.crc32'; delete it and"),
    ('empty', 'shapes', {}, "'{empty}' has no manifest.json; write the cache by tools/cache_teacher.py"),
]


@pytest.mark.parametrize(('cache', 'data', 'overrides', 'message'), MISMATCHES, ids=[case[3] for case in MISMATCHES])
def test_each_mismatch_is_one_line_that_says_what_differs(folders, tmp_path, capsys, cache, data, overrides, message):
    overrides = {key: str(value).format(**folders) for key, value in overrides.items()}
    settings = options(folders['teacher'], **{'model.teacher.cache': folders[cache], **overrides})
    command = [str(CONFIG), '--data-root', str(folders[data]), '--work-dir', str(tmp_path)]
    assert train([*command, '--cfg-options', *settings]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert message.format(**folders) in lines[0]
    assert not list(tmp_path.glob('*.pth'))


def test_writing_goes_on_where_it_stopped_and_verifying_finds_what_is_false(write, caches, tmp_path, capsys):
    cache = tmp_path / 'cache'
    shutil.copytree(caches['fp16'], cache)
    for name in ('000002.rows', '000015.rows'):
        (cache / name).unlink()
    (cache / '.000002.rows.1.tmp').write_bytes(b'half')
    kept = (cache / '000003.rows').stat().st_mtime_ns
    assert write(cache) == 0
    for path in sorted(caches['fp16'].glob('*.rows')):
        assert (cache / path.name).read_bytes() == path.read_bytes(), path
    assert (cache / '000003.rows').stat().st_mtime_ns == kept

    capsys.readouterr()
    assert write(cache, '--topk', '3') == 1
    assert 'cache.topk was 10 and is 3' in capsys.readouterr().err
    rows = (cache / '000003.rows').read_bytes()
    (cache / '000003.rows').write_bytes(rows[20:] + rows[:20])
    (cache / '000003.crc32').unlink()
    assert write(cache, '--verify', '80') == 1
    assert 'differs from the teacher by' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('arguments', 'overrides', 'message'),
    [
        (['--topk', '11'], {}, '--topk is 11 and the teacher has 10 classes; give 1 to 10'),
        (['--views', '0'], {}, '--views is 0; give 1 or more'),
        (['--views', '3'], dict(train_dataloader__sampler__repeats=2), '3 views cannot be had with 2 an epoch'),
        ([], {'model.data_preprocessor.mixup.mode': 'elem'}, "mixup mode 'elem' depends on the batch"),
        ([], {'model.teacher': 'None', 'model.losses': '[{"type":"cross_entropy"}]'}, 'has 0 teachers and no number 0'),
        ([], {'model.teacher.cache': 'elsewhere'}, 'comes from a cache itself; drop model.teacher.cache'),
    ],
)
def test_impossible_caches_are_refused(write, tmp_path, capsys, arguments, overrides, message):
    assert write(tmp_path / 'cache', *arguments, **overrides) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / 'cache').exists()


def test_with_fewer_views_than_epochs_the_views_start_again(run_parts, write, tmp_path):
    assert write(tmp_path / 'cache', '--views', '1') == 0
    dataset, sampler, preprocessor = run_parts
    CachedTeacher(tmp_path / 'cache').check_run(dataset, sampler, preprocessor)
    sampler.set_epoch(1)
    keys = torch.tensor(list(sampler))
    assert keys[:, 1].unique().tolist() == [0]
    assert predict(tmp_path / 'cache', keys).shape == (80, 10)


def test_repeated_augmentation_is_cached(write, tmp_path):
    assert write(tmp_path / 'cache', '--verify', '120', train_dataloader__sampler__repeats=3) == 0
    teacher = CachedTeacher(tmp_path / 'cache')
    # Two epochs of 14 pairs three times each, of which the last is cut when an epoch has 80 views.
    assert (teacher.store.rows, teacher.epochs) == (2 * 14 * 2 * 3, 2)
