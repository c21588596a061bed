"""k-NN scores while a student trains, against the same scores computed from the saved weights."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from processes import run_two

from backbones.checkpoint import build_model
from distill.data.views import Views
from distill.training.experiment import build_runner
from distill.training.hooks.knn_scores import KnnScoresHook

BASES = Path(__file__).parents[2] / 'distill' / 'configs' / '_base_'
STUDENT = dict(model='robust_resnet_dw_small', dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), patch_size=4, kernel_size=3)


def config_of(shapes: Path, work_dir: Path, hook: dict, **settings) -> Config:
    config = Config.fromfile(BASES / 'default_runtime.py')
    views = dict(type='Views', root=str(shapes / 'train'), labels=False, transform=dict(input_size=32))
    config.merge_from_dict(
        dict(
            train_dataloader=dict(
                batch_size=16,
                num_workers=0,
                collate_fn=dict(type='default_collate'),
                sampler=dict(type='ViewSampler'),
                dataset=views,
            ),
            model=dict(
                type='FeatureDistiller',
                student=STUDENT,
                teachers=[dict(name='small', model='resnet10t', pretrained=False, losses=[dict(type='cosine')])],
                data_preprocessor=dict(type='ViewPreprocessor'),
            ),
            optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3)),
            visualizer=dict(vis_backends=[]),
            default_hooks=dict(save_student=dict(metric='last')),
            custom_hooks=[dict(type='KnnScoresHook', data_root=str(shapes), **hook)],
            train_cfg=dict(by_epoch=True, max_epochs=3),
            work_dir=str(work_dir),
            launcher='none',
            **settings,
        )
    )
    return config


def scalars(runner) -> dict[str, list[float]]:
    logs = runner.message_hub.log_scalars
    return {name: list(buffer.data[0]) for name, buffer in logs.items() if name.startswith('knn/')}


def votes_by_hand(features: torch.Tensor, labels: torch.Tensor, query: torch.Tensor, k: int) -> int:
    similar = torch.nn.functional.cosine_similarity(features, query[None], dim=1)
    votes = torch.zeros(10)
    for place in similar.argsort(descending=True)[:k].tolist():
        votes[labels[place]] += (similar[place] / 0.07).exp()
    return int(votes.argmax())


def test_scores_are_those_of_the_saved_weights(shapes, tmp_path):
    runner = build_runner(config_of(shapes, tmp_path, dict(interval=2, neighbours=5)))
    runner.train()
    found = scalars(runner)
    assert {name: len(values) for name, values in found.items()} == {
        # After epoch 2 and after the last; of the teacher once.
        **{'knn/student_top1_pct': 2, 'knn/ema_top1_pct': 2, 'knn/small_top1_pct': 1}
    }
    checkpoint = torch.load(tmp_path / 'epoch_3.pth', weights_only=True)
    for network, part, prefix in (('ema', 'state_dict', 'student.'), ('student', 'ema_state_dict', 'module.student.')):
        model = build_model(**{**runner.model.student_config, 'num_classes': 0}).eval()
        weights = checkpoint[part]
        model.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
        features, labels = {}, {}
        for split in ('train', 'val'):
            views = Views(str(shapes), split, transform=dict(input_size=32))
            images = torch.stack([views[k][0] for k in range(len(views))])
            labels[split] = torch.tensor([views[k][1] for k in range(len(views))])
            with torch.no_grad():
                features[split] = model(runner.model.data_preprocessor([images, labels[split]])['images'])
        hits = [
            votes_by_hand(features['train'], labels['train'], query, 5) == label
            for query, label in zip(features['val'], labels['val'].tolist(), strict=True)
        ]
        assert found[f'knn/{network}_top1_pct'][-1] == pytest.approx(100 * sum(hits) / len(hits))
    assert runner.model.student.training


def test_iterations_are_counted_and_images_of_a_class_limited(shapes, tmp_path):
    config = config_of(shapes, tmp_path, dict(interval=2, images_of_class=3), log_processor=dict(by_epoch=False))
    config.train_cfg = dict(by_epoch=False, max_iters=5)
    config.default_hooks.checkpoint.by_epoch = False
    runner = build_runner(config)
    runner.train()
    assert len(scalars(runner)['knn/student_top1_pct']) == 3  # After 2, 4 and the end.
    hook = next(hook for hook in runner.hooks if isinstance(hook, KnnScoresHook))
    assert [len(chosen) for chosen in hook._chosen] == [30, 40]


@pytest.mark.slow
def test_two_processes_share_the_images_and_find_the_scores_of_one(shapes, tmp_path):
    """Of odd numbers of images; the student stays as it begins, so that nothing but the sharing could differ."""
    root = tmp_path / 'labelled'
    for split in ('train', 'val'):
        images = sorted(path for path in (shapes / split).rglob('*.*') if path.is_file())
        for image in images[1:]:
            link = root / split / image.relative_to(shapes / split)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(image.resolve())
    vit = dict(model='vit_tiny_patch16_224', img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2)
    config = config_of(root, tmp_path / 'one', dict(batch_size=7))
    config.merge_from_dict({'model.student': dict(vit, _delete_=True), 'train_cfg.max_epochs': 1})
    config.optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.0))
    config.dump(tmp_path / 'knn.py')
    runner = build_runner(config)
    runner.train()
    hook = next(hook for hook in runner.hooks if isinstance(hook, KnnScoresHook))
    assert [len(chosen) % 2 for chosen in hook._chosen] == [1, 1]
    run_two('train', [tmp_path / 'knn.py', '--work-dir', tmp_path / 'two'])
    log = next((tmp_path / 'two').glob('*/*.log')).read_text()
    for name, (score,) in scalars(runner).items():
        network = name.removeprefix('knn/').removesuffix('_top1_pct')
        assert re.findall(rf'k-NN top1_pct.* {network}: ([0-9.]+)', log) == [f'{score:.2f}'], network


def test_what_is_not_there_stops_the_run_before_it_starts(shapes, tmp_path):
    for hook, message in (
        (dict(val='none'), "folder '.*none' of KnnScoresHook does not exist; correct data_root"),
        (dict(val='rendition'), 'lacks .* of 10 class folders'),
    ):
        with pytest.raises((FileNotFoundError, ValueError), match=message):
            build_runner(config_of(shapes, tmp_path, hook)).train()
    with pytest.raises(ValueError, match='interval is 0 and images_of_class None; give 1 or more'):
        KnnScoresHook(str(shapes), interval=0)
