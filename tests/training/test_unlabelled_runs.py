"""Trainings without labels: on a folder of photos by epochs, on a stream by iterations, killed and resumed."""

import shutil
import tarfile
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from distill.data.stream_views import StreamViews
from distill.data.views import Views
from distill.downstream.browse import draw_views
from distill.training.experiment import build_runner

BASES = Path(__file__).parents[2] / 'distill' / 'configs' / '_base_'
STUDENT = dict(model='robust_resnet_dw_small', dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), patch_size=4, kernel_size=3)
TEACHER = dict(name='small', model='resnet10t', pretrained=False, losses=[dict(type='cosine', on='pooled')])


@pytest.fixture(scope='module')
def shards(shapes, tmp_path_factory) -> Path:
    """Forty-five images without labels in two shards."""
    root = tmp_path_factory.mktemp('shards')
    images = sorted((shapes / 'train').rglob('*.png')) or sorted((shapes / 'train').rglob('*.jpg'))
    for number, part in enumerate((images[:20], images[20:45])):
        with tarfile.open(root / f'x-{number}.tar', 'w') as tar:
            for index, image in enumerate(part):
                tar.add(image, f'{number}{index:02d}{image.suffix}')
    return root


def config_of(dataset: dict, work_dir: Path, **settings) -> Config:
    """A feature distillation of small networks."""
    config = Config.fromfile(BASES / 'default_runtime.py')
    config.merge_from_dict(
        dict(
            train_dataloader=dict(
                batch_size=8,
                num_workers=0,
                drop_last=True,
                collate_fn=dict(type='default_collate'),
                sampler=dict(type='ViewSampler'),
                dataset=dict(transform=dict(input_size=32, is_training=True), labels=False, **dataset),
            ),
            model=dict(
                type='FeatureDistiller',
                student=STUDENT,
                teachers=[TEACHER],
                data_preprocessor=dict(type='ViewPreprocessor', random_erasing=0.5),
            ),
            optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3)),
            param_scheduler=[dict(type='LinearLR', start_factor=0.5, by_epoch=False, end=9)],
            visualizer=dict(vis_backends=[]),
            default_hooks=dict(save_student=dict(metric='last')),
            work_dir=str(work_dir),
            launcher='none',
            **settings,
        )
    )
    return config


def train(config: Config):
    runner = build_runner(config)
    runner.train()
    return runner


def assert_same(one: Path, other: Path) -> None:
    expected, found = (torch.load(path, weights_only=True) for path in (one, other))
    for part in ('state_dict', 'ema_state_dict'):
        for key, value in expected[part].items():
            assert torch.equal(found[part][key], value), key


BY_ITERATIONS = dict(
    train_cfg=dict(by_epoch=False, max_iters=9),
    default_hooks=dict(checkpoint=dict(by_epoch=False, interval=3, max_keep_ckpts=-1)),
    log_processor=dict(by_epoch=False),
)


def stream_config(shards: Path, work_dir: Path, **options) -> Config:
    config = config_of(dict(type='StreamViews', root=str(shards), block=12), work_dir)
    config.merge_from_dict(BY_ITERATIONS | options)
    config.train_dataloader.sampler = dict(type='StreamSampler')
    return config


class Counted(StreamViews):
    """A stream that notes the places which are asked for."""

    read: list[int]

    def __getitem__(self, place):
        self.read.append(place)
        return super().__getitem__(place)


def test_a_stream_is_trained_by_iterations_and_resumed_at_its_place(shards, tmp_path):
    """Nine steps of 8 images go into the second pass through 44; the resumed run begins in the middle of a block."""
    runner = train(stream_config(shards, tmp_path / 'whole'))
    assert runner.iter == 9
    for start in (3, 6):
        work_dir = tmp_path / f'from_{start}'
        config = stream_config(shards, work_dir)
        config.resume, config.load_from = True, str(tmp_path / 'whole' / f'iter_{start}.pth')
        resumed = build_runner(config)
        dataset = resumed.train_loop.dataloader.dataset
        dataset.__class__ = Counted
        dataset.read = []
        resumed.train()
        assert {*dataset.read} == {*range(8 * start, 72)}
        assert_same(tmp_path / 'whole' / 'iter_9.pth', work_dir / 'iter_9.pth')
    # Steps of another size go on at the same sample, where whole pairs are done.
    config = stream_config(shards, tmp_path / 'other', train_dataloader=dict(batch_size=4))
    config.resume, config.load_from = True, str(tmp_path / 'whole' / 'iter_6.pth')
    resumed = build_runner(config)
    resumed.train()
    meta = torch.load(tmp_path / 'other' / 'iter_9.pth', weights_only=True)['meta']
    assert meta['samples_done'] == 6 * 8 + 3 * 4


def test_a_stream_has_no_epochs(shards, tmp_path):
    config = stream_config(shards, tmp_path)
    config.train_cfg = dict(by_epoch=True, max_epochs=1)
    with pytest.raises(ValueError, match=r'\*\.tar. has no length, and so no epochs; train by iterations'):
        train(config)


def test_several_sets_with_weights_are_resumed_bit_for_bit(shapes, shards, tmp_path):
    """A run that is stopped inside an epoch goes on as if it had not been."""
    (tmp_path / 'photos').mkdir()
    for image in sorted((shapes / 'sketch').rglob('*.*'))[:10]:
        shutil.copy(image, tmp_path / 'photos')
    sources = [dict(root=str(tmp_path / 'photos'), weight=1), dict(root=str(shards), name='wds/', weight=2)]
    settings = dict(train_cfg=dict(by_epoch=True, max_epochs=2))

    def run(name: str, **options):
        config = config_of(dict(type='Views', sources=sources), tmp_path / name, **settings)
        config.merge_from_dict(dict(default_hooks=dict(checkpoint=dict(by_epoch=False, interval=1, max_keep_ckpts=-1))))
        config.merge_from_dict(options)
        return train(config)

    whole = run('whole')
    assert whole.iter == 12
    run('again', resume=True, load_from=str(tmp_path / 'whole' / 'iter_8.pth'))
    assert_same(tmp_path / 'whole' / 'iter_12.pth', tmp_path / 'again' / 'iter_12.pth')


def test_views_without_labels_are_drawn(shapes, shards):
    views = Views(str(shapes / 'sketch'), labels=False, transform=dict(input_size=32, is_training=True))
    stream = StreamViews(str(shards), transform=dict(input_size=32, is_training=True))
    for dataset, count in ((views, 4), (stream, 1)):
        name, picture = draw_views(dataset, 7)
        assert name == '000007'
        assert picture.shape[2] > 320 * count - 1
