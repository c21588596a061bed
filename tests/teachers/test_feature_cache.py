"""A cache of features: what it holds, and that it stands in for the teacher."""

import copy
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from small_teacher import NAME, TEACHER, save_teacher

import distill
from distill.cli.cache import main as cache_command
from distill.data.preprocessor import ViewPreprocessor
from distill.teachers.build import build_feature_teacher
from distill.teachers.cache.bounds import BOUNDED, loss_bound
from distill.teachers.cache.feature_writer import FeatureWriter, Stored
from distill.teachers.cache.grid_codec import ERRORS, GridCodec
from distill.teachers.cache.manifest import Manifest
from distill.teachers.cached_features import CachedFeatures
from distill.training.feature_distiller import FeatureDistiller

STUDENT = dict(model='robust_resnet_dw_small', dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), kernel_size=3)
TRANSFORM = dict(input_size=32, is_training=True)
ON_GRID = [dict(type=kind, on='grid', student_layer=-2) for kind in BOUNDED]
LOSSES = [dict(type='cosine', head='mlp'), dict(type='mse'), *ON_GRID]


def config_of(shapes: Path, checkpoint: Path, **teacher) -> Config:
    """A feature distillation by the small teacher, with its classifier and without."""
    model = {key: value for key, value in TEACHER.items() if key != 'num_classes'}
    vit = dict(name='vit', model=NAME, checkpoint=str(checkpoint), pooling='cls', losses=LOSSES, **model)
    dataset = dict(type='Views', root=str(shapes), split='train', transform=TRANSFORM, seed=11)
    with_logits = dict(vit, name='classifier', num_classes=10, losses=[dict(type='soft_target_kl', on='logits')])
    return Config(
        dict(
            model=dict(
                type='FeatureDistiller',
                student=STUDENT,
                teachers=[{**vit, **teacher}, with_logits],
                data_preprocessor=dict(type='ViewPreprocessor', random_erasing=0.5),
            ),
            train_dataloader=dict(
                batch_size=8, num_workers=0, sampler=dict(type='ViewSampler', shuffle=True), dataset=dataset
            ),
            train_cfg=dict(max_epochs=2),
        ),
    )


@pytest.fixture(scope='module')
def config(shapes, checkpoint) -> Config:
    return config_of(shapes, checkpoint)


@pytest.fixture(scope='module')
def cache(config, tmp_path_factory) -> Path:
    """Pooled embeddings in single precision, and grids of 24 of 32 components; two views of 80 images."""
    folder = tmp_path_factory.mktemp('features') / 'vit'
    found = distill.cache_teacher(config, folder, dtype='float32', grid_dims=24, fit_views=64, verify=8, progress=False)
    assert (found.rows, found.size) == (160, 160 * (32 * 4 + 16 * 24 + 8))
    assert found.largest_difference == 0
    assert found.grid_error == Manifest.read(folder).cache.grid.worst
    return folder


def test_codec_by_hand():
    axes = torch.eye(3)[[2, 0, 1]]
    tokens = torch.tensor([[9.0, 0, 0], [-9, 0, 0], [0, 4, 0], [0, -4, 0], [0, 0, 1], [0, 0, -1]]) @ axes + 5
    codec = GridCodec.fit(tokens, 3, 'float16')
    assert torch.allclose(codec.mean, torch.tensor([5.0, 5, 5]))
    assert torch.allclose(codec.std.sort().values, torch.tensor([2 / 5, 32 / 5, 162 / 5]).sqrt())
    grid = tokens.view(1, 6, 1, 3).permute(0, 3, 1, 2)
    assert torch.allclose(codec.decode(codec.encode(grid), 6, 1), grid, atol=0.02)
    # Of embeddings that are longer by a tenth: the direction is the same, and the difference is a tenth of them.
    errors = dict(zip(ERRORS, codec.errors(grid, 1.1 * grid)[0].tolist(), strict=True))
    assert errors['chord_none'] == pytest.approx(0, abs=1e-6)
    assert errors['rms_none'] == pytest.approx(0.1 * grid.square().mean().sqrt().item(), rel=1e-5)
    standard = 0.1 * (grid.flatten(2)[0].T / codec.std).square().mean().sqrt().item()
    assert errors['rms_mean_std'] == pytest.approx(standard, rel=1e-5)
    assert errors['rms_phi_s'] == pytest.approx(errors['rms_none'] / codec.std.square().mean().sqrt().item(), rel=1e-5)
    eighth = GridCodec.fit(tokens, 3, 'int8')
    assert eighth.encode(3 * grid).abs().max() == 127


def both(config: Config, cache: Path) -> tuple[FeatureDistiller, FeatureDistiller]:
    """The same student beside the live teacher and beside its cache, with the statistics of the cache's sample."""
    settings = {key: value for key, value in config.model.items() if key != 'type'}
    live = dict(settings['teachers'][0], warmup=1)
    models = []
    for teacher in (live, dict(live, cache=str(cache))):
        torch.manual_seed(0)
        models.append(FeatureDistiller(**{**settings, 'teachers': [teacher]}))
    online, cached = models
    grid = Manifest.read(cache).cache.grid
    codec, statistics = GridCodec.read(cache, grid.dtype, grid.sha256), online.terms[0].statistics['grid']
    statistics.mean.copy_(codec.mean)
    statistics.transform.copy_(1 / codec.std)
    cached.load_state_dict(online.state_dict())
    return online.eval(), cached.eval()


def batches(config: Config, cache: Path):
    """Views that the cache holds, as a run shows them."""
    writer = FeatureWriter(config, cache, stored=Stored('float32', grid_dims=24, fit_views=64))
    for rows in (np.arange(16), np.arange(100, 116)):
        keys = list(map(tuple, writer.plan.keys(rows).tolist()))
        data = [torch.as_tensor(np.stack(part)) for part in zip(*(writer.dataset[key] for key in keys), strict=True)]
        yield writer.preprocessor(data, True)


def test_cached_training_is_online_training_up_to_the_error_that_the_manifest_states(config, cache):
    online, cached = both(config, cache)
    worst = Manifest.read(cache).cache.grid.worst
    for batch in batches(config, cache):
        expected, found = (model(**batch, mode='loss') for model in (online, cached))
        assert expected.keys() == found.keys()
        for name, loss in expected.items():
            difference = abs(loss - found[name]).item()
            kind = name.removeprefix('loss_vit_grid_')
            if kind == name:
                assert difference <= 1e-5 * loss.item(), name
                continue
            statistics = 'mean_std' if kind in ('mse', 'smooth_l1', 'radio') else 'none'
            bound = loss_bound(kind, worst, loss.item(), statistics)
            assert 0 < difference <= bound, name
            assert bound < 2, name


@pytest.mark.parametrize('kind', BOUNDED)
def test_the_bound_of_a_loss_is_reached_and_not_passed(kind):
    """One cell whose student makes the most of the difference of the teacher's two embeddings."""
    from distill.losses.embeddings import EMBEDDING_LOSSES

    a, b = torch.tensor([3.0, 0.0]).double(), torch.tensor([3.0, 0.2]).double()
    true, found = ([z, -z] if kind == 'gram' else [z] for z in (a, b))
    errors = {'rms_none': (0.2**2 / 2) ** 0.5, 'chord_none': (b / b.norm() - a / a.norm()).norm().item()}
    largest = 0.0
    for student in torch.randn(500, len(true), 2, generator=torch.Generator().manual_seed(0)).double() * 10:
        losses = [EMBEDDING_LOSSES[kind](student[None], torch.stack(z)[None]).item() for z in (true, found)]
        bound = loss_bound(kind, errors, losses[0])
        assert abs(losses[1] - losses[0]) <= bound + 1e-12
        largest = max(largest, abs(losses[1] - losses[0]) / bound)
    # `gram` sees relations alone, which turning both cells alike leaves as they are; slopes of `smooth_l1` in both
    # channels are 1 at once, but only one of them differs.
    least = {'gram': 0.0, 'smooth_l1': 0.65, 'radio': 0.3}.get(kind, 0.9)
    assert largest >= least
    with pytest.raises(ValueError, match=r"no bound is stated for loss 'cwd' on a compressed grid; choose from cosine"):
        loss_bound('cwd', errors)


def test_logits_are_stored_as_they_are_without_features(config, tmp_path):
    folder = tmp_path / 'classifier'
    distill.cache_teacher(config, folder, number='classifier', dtype='float32', progress=False)
    manifest = Manifest.read(folder)
    assert (manifest.cache.pooled, manifest.cache.grid) == (None, None)
    settings = {key: value for key, value in config.model.teachers[1].items() if key != 'losses'}
    live, cached = build_feature_teacher(settings), build_feature_teacher({**settings, 'cache': str(folder)})
    assert (cached.num_classes, cached.pooled_chs, cached.grid_chs) == (10, None, None)
    writer = FeatureWriter(config, folder, stored=Stored('float32'), teacher='classifier')
    keys = torch.tensor(writer.plan.keys(np.arange(8)))
    items = [writer.dataset[key] for key in map(tuple, keys.tolist())]
    data = [torch.as_tensor(np.stack(part)) for part in zip(*items, strict=True)]
    views = writer.preprocessor.view_batch(writer.preprocessor(data, True)['images'], keys)
    torch.testing.assert_close(cached(views, ('logits',)).logits, live(views, ('logits',)).logits)
    with pytest.raises(ValueError, match=r"of teacher 'classifier' holds logits and no pooled; write another with the"):
        cached(views, ('pooled',))


def test_writing_goes_on_where_it_stopped_bit_for_bit(config, cache, tmp_path):
    folder = tmp_path / 'cache'
    shutil.copytree(cache, folder)
    for name in ('000002.rows', '000015.rows'):
        (folder / name).unlink()
    manifest = json.loads((folder / 'manifest.json').read_text())
    manifest['cache']['grid'].update(worst={}, mean={})
    (folder / 'manifest.json').write_text(json.dumps(manifest))
    settings = {key: value for key, value in config.model.teachers[0].items() if key != 'losses'}
    with pytest.raises(ValueError, match=r'lacks 2 of 16 files; run the tools/cache_teacher.py that writes it again'):
        build_feature_teacher({**settings, 'cache': str(folder)})
    lines = []
    writer = FeatureWriter(config, folder, stored=Stored('float32', grid_dims=24, fit_views=64), tell=lines.append)
    writer.write()
    for path in cache.iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes(), path.name
    of_which = 'all 160 views 81.2 KiB, of which 10.2 KiB are missing'
    assert lines[0] == f'a view takes 520 bytes (pooled 128 bytes, grid 384 bytes, key 8 bytes), {of_which}'
    assert 'error of the grids: ' in lines[1]


def test_two_processes_write_what_one_does(config, cache, tmp_path):
    stored = Stored('float32', grid_dims=24, fit_views=64)
    writers = [FeatureWriter(config, tmp_path, stored=stored) for _ in range(2)]
    for rank in (1, 0):
        writers[rank].rank, writers[rank].world_size = rank, 2
        writers[rank].write()
        written = sorted(int(path.stem) for path in tmp_path.glob('*.rows'))
        assert written == (list(range(1, 16, 2)) if rank else list(range(16)))
    for path in cache.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_each_mismatch_is_one_line(config, shapes, checkpoint, cache, tmp_path):
    settings = {key: value for key, value in config.model.teachers[0].items() if key != 'losses'}
    settings['cache'] = str(cache)
    other = save_teacher(tmp_path / 'other.pth', bias=1.0)
    for changed, message in [
        (dict(pooling='avg'), 'asked.pooling was cls and is avg'),
        (dict(layer=0), 'asked.layer was None and is 0'),
        (dict(size=64), r'asked.size was None and is \[64, 64\]'),
        (dict(depth=3), 'depth was 2 and is 3'),
        (dict(checkpoint=str(other)), 'weights_sha256 was'),
    ]:
        with pytest.raises(ValueError, match=f"cache '.*' does not fit: .*{message}.*; restore that, or write another"):
            build_feature_teacher({**settings, **changed})
    # Without the checkpoint at hand nothing is compared, and nothing is needed.
    teacher = build_feature_teacher({**settings, 'checkpoint': str(tmp_path / 'gone.pth')})
    assert (teacher.pooled_chs, teacher.grid_chs, teacher.num_classes) == (32, 32, 0)
    writer = FeatureWriter(config_of(shapes, checkpoint), tmp_path / 'x', stored=Stored())
    writer.dataset.seed = 12
    with pytest.raises(ValueError, match=r'views.seed was 11 and is 12'):
        teacher.check_run(writer.dataset, writer.sampler, writer.preprocessor)
    writer.dataset.seed = 11
    with pytest.raises(ValueError, match=r'batch.random_erasing was 0.5 and is 0'):
        teacher.check_run(writer.dataset, writer.sampler, ViewPreprocessor())
    broken = shutil.copytree(cache, tmp_path / 'broken')
    (broken / 'grid.npz').write_bytes((broken / 'grid.npz').read_bytes()[:-1] + b'!')
    with pytest.raises(ValueError, match=r"grid.npz' is not the one that the cache was written with; write the cache"):
        build_feature_teacher({**settings, 'cache': str(broken)})


def test_the_reader_of_the_documentation_needs_numpy_only_and_reads_what_a_run_reads(cache, caches):
    page = (Path(__file__).parents[2] / 'docs' / 'teacher_cache.md').read_text()
    code = re.search(r'^```python\n(import json.*?)^```$', page, re.M | re.S)[1]
    assert len(code.strip().splitlines()) <= 30
    assert set(re.findall(r'^(?:import|from) (\w+)', code, re.M)) == {'json', 'pathlib', 'numpy'}
    names: dict = {}
    exec(code, names)
    for folder in (cache, *caches.values()):
        manifest, read = Manifest.read(folder), names['read_cache'](folder)
        keys = manifest.plan.keys(np.arange(manifest.rows))[::7]
        if folder == cache:
            found = CachedFeatures('vit', cache)(ViewPreprocessor().view_batch(torch.empty(0), torch.tensor(keys)))
            for (image, view), pooled, grid in zip(keys.tolist(), found.pooled, found.grid, strict=True):
                row = read(image, view)
                assert (row['pooled'] == pooled.numpy()).all()
                np.testing.assert_allclose(row['grid'], grid.permute(1, 2, 0).numpy(), atol=1e-5)
            continue
        store = manifest.cache.store(folder, manifest.rows)
        for (image, view), row in zip(keys.tolist(), store.read(manifest.plan.rows(keys)), strict=True):
            assert all((read(image, view)[name] == row[name]).all() for name in row.dtype.names)


def test_a_cache_of_the_other_kind_is_refused(config, cache, caches):
    from distill.teachers.cached import CachedTeacher

    with pytest.raises(ValueError, match=r'holds predictions, and teacher .vit. is asked for features; write another'):
        CachedFeatures('vit', caches['fp16'])
    with pytest.raises(ValueError, match='holds features, and this teacher is asked for predictions'):
        CachedTeacher(cache)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(number=2), r"has no teacher '2'; choose from vit, classifier"),
        (dict(number='dino'), r"has no teacher 'dino'; choose from vit, classifier"),
        (
            dict(views=10**12),
            r'the cache takes .* TiB more and the disk of .* has .* left; store fewer --views or less',
        ),
        (dict(number=1, topk=11), '--topk is 11 and the teacher has 10 classes; give 1 to 10'),
        (dict(grid_dims=0), 'grid_dims is 0; give 1 or more'),
        (dict(grid_dtype='int4'), "grid_dtype 'int4' is unknown; choose from int8, float16"),
        (
            dict(teacher='resnet18'),
            'has the teachers vit, classifier; give as many, in this order, or set model.teachers',
        ),
    ],
)
def test_impossible_caches_are_refused_before_anything_is_written(config, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        distill.cache_teacher(config, tmp_path / 'cache', progress=False, **options)
    assert not (tmp_path / 'cache').exists()


def test_a_run_of_unknown_epochs_must_say_how_many_views(config, tmp_path):
    counted = copy.deepcopy(config)
    counted.train_cfg = dict(type='IterBasedTrainLoop', max_iters=10)
    with pytest.raises(ValueError, match='trains by iterations; say by --views how many of each image'):
        distill.cache_teacher(counted, tmp_path / 'cache', progress=False)
    assert distill.cache_teacher(counted, tmp_path / 'cache', views=1, progress=False).rows == 80


def test_the_command_writes_what_the_call_does(config, cache, tmp_path, capsys):
    config.dump(tmp_path / 'own.py')
    text = 'custom_imports = dict(imports=["distill.training.register"], allow_failed_imports=False)\n'
    (tmp_path / 'own.py').write_text(text + (tmp_path / 'own.py').read_text())
    options = '--teacher vit --dtype float32 --grid-dims 24 --fit-views 64 --verify 2'.split()  # noqa: SIM905
    assert cache_command([str(tmp_path / 'own.py'), '--out', str(tmp_path / 'vit'), *options]) == 0
    for path in cache.iterdir():
        assert (tmp_path / 'vit' / path.name).read_bytes() == path.read_bytes(), path.name
    shown = capsys.readouterr().out
    assert 'a view takes 520 bytes' in shown
    assert 'verified: the largest difference is 0' in shown


def test_shares_of_the_files_are_the_cache_of_one_process(config, cache, tmp_path):
    given = dict(dtype='float32', grid_dims=24, fit_views=64, progress=False)
    with pytest.raises(ValueError, match=r'has no manifest yet, .* begin with share 0/2'):
        distill.cache_teacher(config, tmp_path / 'shares', share=(1, 2), **given)
    for number in (0, 1):
        distill.cache_teacher(config, tmp_path / 'shares', share=(number, 2), **given)
    assert not Manifest.read(tmp_path / 'shares').cache.grid.worst  # Known when all is written.
    distill.cache_teacher(config, tmp_path / 'shares', **given)
    distill.cache_teacher(config, tmp_path / 'engine', engine='local', jobs=2, **given)
    for path in sorted(cache.glob('[0-9m]*')):
        for other in ('shares', 'engine'):
            assert (tmp_path / other / path.name).read_bytes() == path.read_bytes(), path
    with pytest.raises(ValueError, match=r'share 2/2 does not exist'):
        distill.cache_teacher(config, tmp_path / 'shares', share=(2, 2), **given)
