"""The transfer experiment over detectors and segmenters: its plan, and its scores by hand."""

from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config

from distill.base.records import Cell
from distill.matrix.collect import collect, to_markdown, to_tables
from distill.matrix.load import load_matrix
from distill.matrix.plan import evaluations, trainings
from distill.matrix.scenes import SceneMatrix
from distill.results.files import new_results, write_results
from distill.results.per_image import Regions, per_image_file, write_per_image
from distill.results.schema import FILE_NAME

STUDENT = 'deeplabv3_robust-resnet-dw_tiny_shapes-ade20k'
TEACHER = 'deeplabv3_resnest_tiny_shapes-ade20k'
DETECTOR = 'cascade-rcnn_robust-resnet-dw_fpn_tiny_shapes-coco'
LOSSES = dict(cwd=[dict(type='cwd', on='logits')])
NOISE = ('--corruptions', 'gaussian_noise', 'fog', '--severities', '3')


def matrix(tmp_path, **changes) -> SceneMatrix:
    settings = dict(
        data_root=str(tmp_path),
        students=dict(cnn=STUDENT),
        teachers=dict(big=dict(config=TEACHER)),
        losses=LOSSES,
        seeds=(3, 4),
        iters=dict(big=60, cnn=40),
        robustness=NOISE,
        work_dir=tmp_path / 'work',
    )
    return SceneMatrix(**settings | changes)


def test_the_teacher_is_trained_first_and_students_distil_by_the_plain_config(tmp_path):
    plan = matrix(tmp_path, corruptions=dict(augmix=dict(kinds=('augmix',))))
    steps = {step.name: step for step in trainings(plan)}
    assert next(iter(steps)) == 'big_alone_s3'
    assert 'big_alone_s4' not in steps
    taught = steps['cnn_from_big_cwd_augmix_s4']
    assert taught.needs == ['big_alone_s3']
    config = Config.fromfile(taught.command[1], import_custom_modules=False)
    alone = Config.fromfile(steps['cnn_alone_s4'].command[1], import_custom_modules=False)
    assert config.model.type == 'DenseDistiller'
    assert config.model.student == alone.model
    assert config.model.teacher == dict(
        config=TEACHER, checkpoint=str(tmp_path / 'work/runs/big_alone_s3/student_last.pth')
    )
    assert config.model.losses == LOSSES['cwd']
    for one in (config, alone):
        # One length, schedules with it, nothing judged on the way.
        assert one.train_cfg.max_iters == 40 < one.train_cfg.val_interval
        assert one.param_scheduler[1].end == 40
        assert one.randomness.seed == 4
    *clean, last = config.train_dataloader.dataset.pipeline
    assert clean == alone.train_dataloader.dataset.pipeline
    assert last == dict(type='mmengine.CorruptForStudent', kinds=('augmix',))
    assert config.default_hooks.save_student.type == alone.default_hooks.save_student.type == 'SaveDenseStudentHook'


def test_a_student_starts_from_its_backbone_alone_and_taught(tmp_path):
    plan = matrix(tmp_path, backbones=dict(cnn='cnn.pth'), seeds=(0,))
    big, alone, taught = (Config.fromfile(step.command[1], import_custom_modules=False) for step in trainings(plan))
    assert 'checkpoint' not in big.model.backbone
    assert alone.model.backbone.checkpoint == 'cnn.pth'
    assert taught.model.student == alone.model


def test_students_learn_on_corrupted_images_by_the_losses_that_are_named(tmp_path):
    losses = dict(one=LOSSES['cwd'], two=LOSSES['cwd'])
    given = dict(losses=losses, corruptions=dict(prime=dict(kinds=('prime',))), seeds=(0,))
    groups = [run.group for run in matrix(tmp_path, **given, corrupted_losses=('two',)).taught()]
    assert groups == ['cnn_from_big_one', 'cnn_from_big_two', 'cnn_from_big_two_prime']
    with pytest.raises(ValueError, match="corrupted_losses has 'three', which is no loss; choose from one, two"):
        matrix(tmp_path, **given, corrupted_losses=('three',))


def write_scores(plan: SceneMatrix, run: str, clean: float, corrupted: float) -> None:
    """Write what a test would: shares of the pixels of one class, the same on each of 10 images of different size."""
    folder = plan.scores_folder(run)
    union = np.arange(100, 200, 10)[:, None]
    cells = [Cell('gaussian_noise', 3), Cell('fog', 3)]
    for cell, share in ((None, clean), (cells[0], corrupted - 0.1), (cells[1], corrupted + 0.1)):
        write_per_image(per_image_file(folder, cell), Regions(np.arange(10).astype(str), union * share, union))
    summary = dict(P=clean, mPC=corrupted, rPC_pct=100 * corrupted / clean, cells={})
    corruption = dict(kinds=['gaussian_noise', 'fog'], severities=[3], images=10, mIoU=summary)
    results = {**new_results(), 'segmentation': dict(mIoU=clean, images=10, corruption=corruption)}
    write_results(folder / FILE_NAME, results)
    log = plan.work_dir / 'runs' / run / '1' / 'vis_data' / 'scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text('{"iter": 20, "time": 0.5, "loss": 1.0}\n')


def test_scores_differences_and_both_intervals_by_hand(tmp_path):
    plan = matrix(tmp_path)
    write_scores(plan, 'big_alone_s3', 0.7, 0.6)
    for seed, gain in ((3, 0.10), (4, 0.14)):
        write_scores(plan, f'cnn_alone_s{seed}', 0.5, 0.25)
        write_scores(plan, f'cnn_from_big_cwd_s{seed}', 0.5 + gain, 0.30)
    summary = collect(plan, {})
    assert summary['suites'] == ['mIoU', 'mIoU mPC', 'mIoU rPC']
    assert summary['groups']['big_alone']['scores']['mIoU'] == {'mean': pytest.approx(70), 'std': None}
    assert summary['groups']['cnn_from_big_cwd']['step_s'] == 0.5
    found = summary['transferred']['cnn_from_big_cwd']['equal_epochs']
    # 10 and 14 points: mean 12, standard error 2, Student's t with one degree of freedom 12.706.
    assert found['mIoU']['mean'] == pytest.approx(12)
    assert found['mIoU']['half_width95'] == pytest.approx(12.706 * 2, abs=1e-2)
    # All images are alike, so that which are drawn changes nothing.
    assert found['mIoU']['images95'] == pytest.approx([12, 12])
    assert found['mIoU mPC']['images95'] == pytest.approx([5, 5])
    rpc = 100 * (0.3 / 0.6 + 0.3 / 0.64) / 2 - 50
    assert found['mIoU rPC']['mean'] == pytest.approx(rpc)
    assert found['mIoU rPC']['images95'] == pytest.approx([rpc, rpc])
    text = to_markdown(to_tables(summary))
    assert '## Transferred, at equal iters: points above the student alone' in text
    assert '| cnn_from_big_cwd | +12.0 ± 25.4 [+12.0, +12.0] | +5.0 ± 0.0 * [+5.0, +5.0] |' in text
    assert '| cnn_from_big_cwd | 0.500 |' in text


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(epochs=3), 'epochs are given, and the configs count iters; give iters'),
        (dict(iters=dict(vat=3)), r"iters are given for 'vat'.* choose from big, cnn"),
        (dict(backbones=dict(vat='vat.pth')), r"backbones has 'vat'.* choose from big, cnn"),
        (dict(equal_time=True), 'equal_time is for students that classify'),
        (dict(cache=dict(topk=2)), 'cache is for students that classify'),
        (dict(teachers=dict(big={})), r"teacher 'big' has no config; give dict\(config=NAME\)"),
        (dict(teachers=dict(cnn=dict(config=TEACHER))), "'cnn' is a student and a teacher"),
        (dict(teachers=dict(big=dict(config=DETECTOR)), iters=None), "'cnn' counts iters and|'big' counts epochs and"),
        (dict(corruptions=dict(fog=dict(kinds=('fog',)))), "corruption 'fog' is one of the kinds"),
        (dict(corruptions=dict(a=dict(kinds=('augmix',), copies=2))), "corruptions.a has no setting 'copies'"),
    ],
)
def test_a_wrong_scene_matrix_is_named(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        matrix(tmp_path, **changes)


def test_classifiers_and_detectors_are_not_mixed(tmp_path):
    path = tmp_path / 'mixed.py'
    students = dict(a=DETECTOR, b='distill/configs/cifar10/robust-resnet-tiny_cifar10.py')
    path.write_text(f'data_root = {str(tmp_path)!r}\nstudents = {students}\nteachers = {{}}\nlosses = {{}}\n')
    with pytest.raises(ValueError, match=r'is a detector or segmenter and .* is not; give each an experiment'):
        load_matrix(str(path))


def test_a_test_names_the_plain_config_and_the_student_alone(tmp_path):
    plan = matrix(tmp_path)
    (step,) = evaluations(plan, plan.taught()[:1])
    scores, student = (tmp_path / 'work' / folder / 'cnn_from_big_cwd_s3' for folder in ('scores', 'runs'))
    assert step.command[:3] == ['test', STUDENT, str(student / 'student_last.pth')]
    assert step.command[3:] == ['--work-dir', str(scores), '--data-root', str(tmp_path), '--per-image', *NOISE]
    assert Path(plan.bases['cnn']).is_file()
