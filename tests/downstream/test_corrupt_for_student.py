"""Detectors and segmenters on corrupted images: geometry, seeds, the teacher's clean batch, and what results tell."""

import copy
import json

import numpy as np
import pytest
import torch
from downstream_runs import CONFIGS, FOLDER, arguments, options
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, DefaultScope

from distill.base.seeding import seed_everything
from distill.cli.test import main as run_test
from distill.cli.train import main as train
from distill.corruptions.training import TrainingCorruption
from distill.downstream.corruption import Cells, summarise
from distill.downstream.dense_inputs import ForTeacher
from distill.downstream.transforms import CorruptForStudent

KINDS = ('prime', 'augmix', 'holdout')


def samples(leaves, data, task: str, *steps: dict, count: int = 3) -> tuple[Config, list[dict]]:
    """The config of a task and some samples of its training set, with further steps at the end of the pipeline."""
    config = copy.deepcopy(leaves[CONFIGS[task].rpartition('/')[2].removesuffix('.py')])
    dataset = config.train_dataloader.dataset
    dataset.data_root = str(data / ('ade20k' if task == 'seg' else 'coco'))
    dataset.pipeline = [*dataset.pipeline, *steps]
    with DefaultScope.overwrite_default_scope(config.default_scope):
        built = DATASETS.build(dataset)
        found = []
        for index in range(count):
            seed_everything(0, 5, index, 1)
            found.append(built[index])
    return config, found


def step(**settings) -> dict:
    return dict(type='mmengine.CorruptForStudent', **settings)


@pytest.mark.parametrize('task', ['mask', 'seg'])
def test_the_clean_image_goes_along_and_what_is_annotated_holds(leaves, data, task):
    _, plain = samples(leaves, data, task)
    _, found = samples(leaves, data, task, step(kinds=KINDS))
    _, again = samples(leaves, data, task, step(kinds=KINDS))
    _, alone = samples(leaves, data, task, step(kinds=KINDS, keep_clean=False))
    for one, expected, same, other in zip(found, plain, again, alone, strict=True):
        assert torch.equal(one['data_samples'].clean, expected['inputs'])
        assert not torch.equal(one['inputs'], expected['inputs'])
        assert (one['inputs'].shape, one['inputs'].dtype) == (expected['inputs'].shape, torch.uint8)
        assert torch.equal(one['inputs'], same['inputs'])
        assert torch.equal(one['inputs'], other['inputs'])
        assert 'clean' not in other['data_samples']
        if task == 'seg':
            assert torch.equal(one['data_samples'].gt_sem_seg.data, expected['data_samples'].gt_sem_seg.data)
        else:
            boxes, known = (each['data_samples'].gt_instances.bboxes.tensor for each in (one, expected))
            assert torch.equal(boxes, known)


def test_colours_are_corrupted_as_red_green_blue(leaves, data):
    _, plain = samples(leaves, data, 'seg', count=1)
    settings = dict(kinds=('saturate',), severities=(5,))
    _, found = samples(leaves, data, 'seg', step(**settings), count=1)
    rgb = np.ascontiguousarray(plain[0]['inputs'].numpy()[::-1].transpose(1, 2, 0))
    expected = TrainingCorruption(**settings)(rgb, (0,))  # saturate draws nothing
    assert np.array_equal(found[0]['inputs'].numpy()[::-1].transpose(1, 2, 0), expected)


@pytest.mark.parametrize('task', ['det', 'seg'])
def test_the_teacher_is_shown_the_clean_batch_padded_and_normalised_as_without_corruption(leaves, data, task):
    import mmdet.models  # noqa: F401
    import mmseg.models  # noqa: F401
    from mmengine.registry import MODELS

    config, plain = samples(leaves, data, task)
    _, found = samples(leaves, data, task, step(kinds=KINDS))
    # One is smaller than the others, and padded.
    found[1]['data_samples'].clean = found[1]['data_samples'].clean[:, :40, :52]
    for smaller in (plain[1], found[1]):
        smaller['inputs'] = smaller['inputs'][:, :40, :52]
        if task == 'seg':
            truth = smaller['data_samples'].gt_sem_seg
            labels = truth.pop('data')[:, :40, :52]
            truth.data = labels
    with DefaultScope.overwrite_default_scope(config.default_scope):
        settings = copy.deepcopy(config.model.get('data_preprocessor') or config.data_preprocessor)
        preprocessor = MODELS.build(settings)
    with_teacher = preprocessor(pseudo_collate(found), True)
    expected = preprocessor(pseudo_collate(plain), True)
    shown, _ = ForTeacher(preprocessor, preprocessor)(with_teacher['inputs'], with_teacher['data_samples'])
    assert torch.equal(shown, expected['inputs'])
    assert not torch.equal(with_teacher['inputs'], expected['inputs'])


def test_a_distilled_segmenter_sees_corrupted_images_and_its_teacher_clean_ones(leaves, data, whole_run):
    from mmengine.registry import MODELS

    config, found = samples(leaves, data, 'seg', step(kinds=KINDS))
    teacher = dict(checkpoint=str(whole_run('seg')[0] / 'iter_1.pth'), config=str(FOLDER / CONFIGS['seg']))
    losses = [dict(type='pkd', on='backbone')]
    with DefaultScope.overwrite_default_scope('mmseg'):
        settings = dict(type='DenseDistiller', student=config.model, teacher=teacher, losses=losses)
        model = MODELS.build(settings)
    shown = {}
    for name, network in (('student', model), ('teacher', model.distillation.teacher.network)):
        network.backbone.register_forward_pre_hook(lambda _, given, name=name: shown.update({name: given[0]}))
    batch = model.data_preprocessor(pseudo_collate(found), True)
    losses = model.loss(batch['inputs'], batch['data_samples'])
    assert losses['distill.loss_pkd'] > 0
    assert torch.equal(shown['student'], batch['inputs'])
    _, plain = samples(leaves, data, 'seg')
    clean = model.data_preprocessor(pseudo_collate(plain), True)['inputs']
    assert torch.equal(shown['teacher'], clean)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(kinds=('fog',)), "corruption 'fog' is one of the kinds that students are judged by"),
        (dict(kinds=('prime',), copies=2), "CorruptForStudent has no setting 'copies'; choose from kinds"),
        (dict(geometry=True), "CorruptForStudent has no setting 'geometry'"),
    ],
)
def test_what_cannot_be_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        CorruptForStudent(**settings)


def test_the_step_says_where_it_belongs():
    with pytest.raises(ValueError, match='put it after the step Pack… of the pipeline'):
        CorruptForStudent()({'img': np.zeros((64, 64, 3), np.uint8)})


def test_training_on_a_kind_of_the_benchmark_is_told_by_checkpoint_and_results(data, tmp_path):
    leaf = FOLDER / CONFIGS['seg']
    settings = dict(type='mmengine.CorruptForStudent', kinds=('fog', 'augmix'), allow_benchmark=True)
    config = tmp_path / 'augmented.py'
    pipeline = f'[*_base_.train_dataloader.dataset.pipeline, {settings!r}]'
    config.write_text(
        f"_base_ = '{leaf}'\ntrain_dataloader = dict(dataset=dict(pipeline={pipeline}))\n", encoding='utf-8'
    )
    command = [str(config), *arguments('seg', data, tmp_path / 'run')[1:]]
    assert train([*command, *options('seg', 1)]) == 0
    checkpoint = tmp_path / 'run' / 'iter_1.pth'
    assert torch.load(checkpoint, weights_only=True)['meta']['seen_kinds'] == ['fog', 'augmix']
    # A run that goes on from these weights says so too.
    more = [*options('seg', 1), f'load_from={checkpoint}']
    assert train([str(leaf), *arguments('seg', data, tmp_path / 'on')[1:], *more]) == 0
    assert torch.load(tmp_path / 'on' / 'iter_1.pth', weights_only=True)['meta']['seen_kinds'] == ['fog', 'augmix']
    limits = ['--corruptions', 'fog', 'contrast', '--severities', '3']
    tested = [str(leaf), str(checkpoint), *arguments('seg', data, tmp_path / 'test')[1:]]
    assert run_test([*tested, *limits]) == 0
    (file,) = (tmp_path / 'test').rglob('results.json')
    entry = json.loads(file.read_text())['segmentation']['corruption']
    assert entry['seen_kinds'] == ['fog']
    assert entry['mIoU']['mPC_unseen'] == pytest.approx(entry['mIoU']['cells']['contrast'][0])
    page = next((tmp_path / 'test').rglob('corruptions.md')).read_text()
    assert '| fog * |' in page.replace('  ', ' ')
    assert 'Kinds with a star were seen in training' in page


def test_the_mean_without_seen_kinds_by_hand(leaves):
    config = next(config for name, config in leaves.items() if name.startswith('deeplabv3_'))
    cells = Cells(('fog', 'contrast', 'frost'), (1, 2))
    scores = {
        cell: dict.fromkeys(('mIoU', 'mAcc', 'aAcc'), 10.0 * number) for number, cell in enumerate([None, *cells])
    }
    entry = summarise(scores, cells, config, ['fog', 'saturate'])
    assert entry['seen_kinds'] == ['fog']
    assert entry['mIoU']['mPC'] == pytest.approx(0.35)
    assert entry['mIoU']['mPC_unseen'] == pytest.approx((0.3 + 0.4 + 0.5 + 0.6) / 4)
    assert 'seen_kinds' not in summarise(scores, cells, config, ['saturate'])
    assert 'mPC_unseen' not in summarise(scores, cells, config, ['fog', 'contrast', 'frost'])['mIoU']
