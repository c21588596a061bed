"""The transfer experiment: its plan, its statistics by hand, and a small one from end to end."""

import importlib
import json
from pathlib import Path

import pytest
from mmengine.config import Config

from distill.base.packaged import find
from distill.jobs.steps import Workplace
from distill.matrix.collect import collect, mean_and_interval, to_markdown, to_tables
from distill.matrix.load import load_matrix
from distill.matrix.matrix import Matrix, Run
from distill.matrix.plan import cache_name, evaluations, training, trainings
from distill.matrix.scenes import SceneMatrix
from distill.matrix.timing import epochs_at_equal_time, longer_runs
from distill.results.files import new_results, write_results
from distill.results.schema import FILE_NAME

MATRICES = sorted((Path(__file__).parents[2] / 'distill' / 'matrices').glob('*.py'))
LOSS = dict(kd=[dict(type='soft_target_kl')])
RUN = dict(model='m', model_kwargs={}, teacher=None, params=1, checkpoint=None, weights_sha256='0' * 64)
RUN |= dict(input_size=[3, 32, 32], mean=[0.5] * 3, std=[0.5] * 3)


def matrix(tmp_path, **changes) -> Matrix:
    configs = Path('distill/configs/cifar10')
    settings = dict(
        data_root=str(tmp_path),
        students=dict(cnn=str(configs / 'robust-resnet-tiny_cifar10.py'), vit=str(configs / 'deit-tiny_cifar10.py')),
        teachers=dict(vit=dict(student='vit'), big=dict(model='deit_small_patch16_224', pretrained=True)),
        losses=LOSS,
        seeds=(3, 4),
        work_dir=tmp_path / 'work',
    )
    return Matrix(**settings | changes)


@pytest.mark.parametrize('path', MATRICES, ids=lambda path: path.stem)
@pytest.mark.parametrize('cached', [True, False])
def test_every_command_of_a_plan_is_understood(path, cached, tmp_path):
    plan = load_matrix(str(path), str(tmp_path), str(tmp_path / 'work'))
    if not cached:
        plan.cache = None
    known = set()
    steps = [*trainings(plan), *evaluations(plan, plan.alone())]
    for step in steps:
        assert known.issuperset(step.needs), step.name
        known.add(step.name)
        tool = importlib.import_module(f'distill.cli.{step.command[0]}')
        args = tool.build_parser().parse_args(step.command[1:])
        assert Path(find(getattr(args, 'config', __file__))).is_file()
    runs = {run.name for run in [*plan.alone(), *plan.taught()]}
    others = {step.name.split()[0] for step in steps if step.name not in runs}
    assert runs <= known
    judge = 'test' if isinstance(plan, SceneMatrix) else 'robustness'
    assert others == {judge, *(['cache'] if plan.cache else [])}


def test_each_student_learns_alone_and_from_every_teacher_but_itself(tmp_path):
    plan = matrix(tmp_path)
    assert [run.name for run in plan.alone()] == ['cnn_alone_s3', 'vit_alone_s3', 'cnn_alone_s4', 'vit_alone_s4']
    names = [run.name for run in plan.taught()]
    assert names == [
        f'{group}_s{seed}' for seed in (3, 4) for group in ('cnn_from_vit_kd', 'cnn_from_big_kd', 'vit_from_big_kd')
    ]
    step = training(plan, plan.taught()[0])
    assert step.needs == ['vit_alone_s3']
    config = Config.fromfile(step.command[1])
    assert config.model.teacher.checkpoint == str(tmp_path / 'work/runs/vit_alone_s3/student_best.pth')
    assert config.model.losses == LOSS['kd']
    assert config.randomness.seed == 3
    assert config.model.student.model == 'robust_resnet_dw_small'


def test_students_alone_and_taught_are_trained_on_corrupted_images_too(tmp_path):
    plan = matrix(tmp_path, corruptions=dict(prime=dict(kinds=('prime',))), seeds=(3,), cache=dict(topk=2))
    alone, taught = ([run.group for run in runs] for runs in (plan.alone(), plan.taught()))
    assert alone == ['cnn_alone', 'vit_alone', 'cnn_alone_prime', 'vit_alone_prime']
    assert taught[:2] == ['cnn_from_vit_kd', 'cnn_from_vit_kd_prime']
    steps = {step.name: step for step in trainings(plan)}
    clean, corrupted = (steps[f'{group}_s3'] for group in taught[:2])
    # Both read the one cache of the teacher's answers to clean views.
    assert clean.needs == corrupted.needs
    configs = [Config.fromfile(step.command[1]) for step in (clean, corrupted)]
    assert configs[0].train_dataloader.dataset.get('corrupt') is None
    assert configs[1].train_dataloader.dataset.corrupt == dict(kinds=('prime',))
    assert configs[0].model == configs[1].model
    with pytest.raises(ValueError, match="corruption 'fog' is one of the kinds that students are judged by"):
        matrix(tmp_path, corruptions=dict(fog=dict(kinds=('fog',))))


def test_a_teacher_of_its_own_is_trained_once_and_all_trainings_have_what_is_common(tmp_path):
    broad = dict(config='distill/configs/cifar10/deit-mini_broad_cifar10.py')
    common = dict(train_dataloader=dict(batch_size=128, dataset=dict(type='MemoryViews')))
    teachers = dict(broad=broad, vit=dict(student='vit'))
    corruptions = dict(augmix=dict(kinds=('augmix',)))
    plan = matrix(
        tmp_path, teachers=teachers, cache=dict(topk=2), epochs=dict(broad=3), common=common, corruptions=corruptions
    )
    alone, taught = [run.name for run in plan.alone()], [run.name for run in plan.taught()]
    assert [name for name in alone if 'broad' in name] == ['broad_alone_s3']
    assert not any(name.startswith('broad') for name in taught)
    assert 'vit_from_broad_kd_augmix_s4' in taught
    steps = {step.name: step for step in trainings(plan)}
    step = steps['vit_from_broad_kd_augmix_s4']
    cache = steps[step.needs[0]]
    assert cache.needs == ['broad_alone_s3']
    made = str(tmp_path / 'work/runs/broad_alone_s3/student_best.pth')
    for name in (cache.command[1], step.command[1]):
        config = Config.fromfile(name)
        assert config.model.teacher.checkpoint == made
        assert 'config' not in config.model.teacher
        assert config.train_dataloader.batch_size == 128
        assert config.train_dataloader.dataset.type == 'MemoryViews'
    assert config.train_dataloader.dataset.corrupt == dict(kinds=('augmix',))
    config = Config.fromfile(steps['broad_alone_s3'].command[1])
    assert (config.train_cfg.max_epochs, config.train_dataloader.batch_size) == (3, 128)
    assert config.train_dataloader.dataset.corrupt.kinds == ('augmix', 'prime', 'holdout')
    assert [step.name for step in evaluations(plan, plan.alone())] == [
        f'robustness {x}' for x in ('broad', 'cnn', 'vit')
    ]
    # Other views have another cache.
    other = matrix(tmp_path, teachers=teachers, cache=dict(topk=2), epochs=dict(broad=3))
    assert other.cache_folder('broad', 'vit') != plan.cache_folder('broad', 'vit')
    with pytest.raises(ValueError, match="'vit' is a student and a teacher"):
        matrix(tmp_path, teachers=dict(vit=broad))


def test_a_taught_student_is_compared_with_the_corruption_alone(tmp_path):
    corruptions = dict(prime=dict(kinds=('prime',)))
    plan = matrix(tmp_path, teachers=dict(vit=dict(student='vit')), seeds=(0, 1), corruptions=corruptions)
    clean = {}
    for run in [*plan.alone(), *plan.taught()]:
        gain = (2.0 if run.corruption else 0.0) + (5.0 if run.teacher else 0.0)
        clean[run.name] = 50.0 + run.seed + gain
    for student in plan.students:
        runs = {name: value for name, value in clean.items() if name.startswith(student)}
        scores = {name: {'clean': {'top1_pct': value, 'images': 9}} for name, value in runs.items()}
        results = {**new_results(), 'runs': dict.fromkeys(runs, RUN), 'classification': scores}
        write_results(plan.scores_folder(student) / FILE_NAME, results)
    summary = collect(plan, {})
    entry = summary['transferred']['cnn_from_vit_kd_prime']
    assert (entry['corruption'], entry['equal_epochs']['clean']['mean']) == ('prime', 7.0)
    assert entry['same_corruption']['clean']['mean'] == 5.0
    assert summary['augmented']['cnn_alone_prime']['equal_epochs']['clean']['mean'] == 2.0
    text = to_markdown(to_tables(summary))
    assert '## Transferred, beyond the corruption' in text
    assert '## By the corruption alone' in text


def test_another_length_takes_the_schedule_with_it(tmp_path):
    config = Config.fromfile(training(matrix(tmp_path), Run('cnn', 3, epochs=25)).command[1])
    assert config.train_cfg.max_epochs == 25
    assert config.train_cfg.val_interval == 2
    assert [(s['begin'], s['end']) for s in config.param_scheduler] == [(0, 1), (1, 25)]


def test_students_may_be_trained_for_different_lengths(tmp_path):
    plan = matrix(tmp_path, epochs=dict(vit=3))
    assert (plan.epochs_of('vit'), plan.epochs_of('cnn')) == (3, 10)
    with pytest.raises(ValueError, match=r"epochs are given for 'vat'.* choose from cnn, vit"):
        matrix(tmp_path, epochs=dict(vat=3))


def write_log(folder: Path, step_s: float, steps: int) -> None:
    path = folder / '20260101_000000' / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    lines = [dict(iter=steps // 2, time=9 * step_s, loss=1.0), dict(top1_pct=50.0, step=1)]
    lines += [dict(iter=steps - i, time=step_s, loss=1.0) for i in (1, 0)]
    path.write_text('\n'.join(map(json.dumps, lines)))


def test_equal_time_is_the_time_that_the_steps_took(tmp_path):
    plan = matrix(tmp_path, teachers=dict(vit=dict(student='vit')), seeds=(0,))
    write_log(plan.folder(Run('cnn', 0)), 0.1, 100)
    write_log(plan.folder(Run('cnn', 0, 'vit', 'kd')), 0.15, 100)
    write_log(plan.folder(Run('vit', 0)), 0.3, 100)
    epochs = epochs_at_equal_time(plan, Workplace(tmp_path / 'logs'))
    assert epochs == {'cnn_from_vit_kd': 15}
    assert [run.name for run in longer_runs(plan, epochs)] == ['cnn_alone_15e_s0']


def test_the_time_to_write_a_cache_is_shared_by_the_runs_that_read_it(tmp_path):
    plan = matrix(tmp_path, teachers=dict(vit=dict(student='vit')), seeds=(0, 1), cache=dict(topk=2))
    for run in [*plan.alone(), *plan.taught()]:
        write_log(plan.folder(run), 0.1, 100)
    place = Workplace(tmp_path)
    # 10 s each alone and taught, and 8 s for the cache that two runs read: 14 s, for which 10 epochs become 14.
    place.mark(cache_name(plan, 'vit', 'cnn')).write_text(json.dumps({'seconds': 8.0}))
    assert epochs_at_equal_time(plan, place) == {'cnn_from_vit_kd': 14}


def test_interval_by_hand():
    # Mean 2, standard deviation 1, standard error 1/√3; Student's t with 2 degrees of freedom is 4.3027 at 97.5 %.
    found = mean_and_interval([1.0, 2.0, 3.0])
    assert found['mean'] == 2
    assert found['half_width95'] == pytest.approx(4.3027 / 3**0.5, abs=1e-3)
    assert mean_and_interval([1.0]) == {'mean': 1.0, 'half_width95': None}


def test_transfer_is_the_difference_seed_by_seed(tmp_path):
    plan = matrix(tmp_path, teachers=dict(vit=dict(student='vit')), seeds=(0, 1))
    clean = {
        'cnn': {'cnn_alone_s0': 50.0, 'cnn_alone_s1': 60.0, 'cnn_alone_15e_s0': 51.0, 'cnn_alone_15e_s1': 63.0},
        'vit': {'vit_alone_s0': 40.0, 'vit_alone_s1': 41.0},
    }
    clean['cnn'] |= {'cnn_from_vit_kd_s0': 53.0, 'cnn_from_vit_kd_s1': 64.0}
    for student, runs in clean.items():
        scores = {
            name: {
                'clean': {'top1_pct': value, 'images': 9},
                'corrupted': {'top1_pct': 0.0, 'mean_error_pct': 90.0, 'images': 9},
                'cue_conflict': {'top1_pct': 1.0, 'shape_bias_pct': value / 2, 'images': 9},
            }
            for name, value in runs.items()
        }
        results = {**new_results(), 'runs': dict.fromkeys(runs, RUN), 'classification': scores}
        write_results(plan.scores_folder(student) / FILE_NAME, results)
    summary = collect(plan, {'cnn_from_vit_kd': 15})
    assert summary['suites'] == ['clean', 'corrupted', 'cue_conflict', 'shape bias']
    assert summary['groups']['cnn_alone']['scores']['clean'] == {'mean': 55.0, 'std': pytest.approx(50**0.5)}
    assert summary['groups']['cnn_alone']['scores']['corrupted'] == {'mean': 10.0, 'std': 0.0}
    entry = summary['transferred']['cnn_from_vit_kd']
    assert entry['equal_epochs']['clean']['mean'] == 3.5
    assert entry['equal_epochs']['clean']['half_width95'] == pytest.approx(12.706 * 0.5, abs=1e-2)
    assert entry['equal_time']['clean']['mean'] == 1.5
    assert entry['equal_time']['shape bias']['mean'] == 0.75
    text = to_markdown(to_tables(summary))
    assert '| cnn_alone | 55.0 ± 7.1 | 10.0 ± 0.0 | 1.0 ± 0.0 | 27.5 ± 3.5 |' in text
    assert '| cnn_from_vit_kd | +3.5 ± 6.4 | +0.0 ± 0.0 | +0.0 ± 0.0 | +1.8 ± 3.2 |' in text
    assert '| cnn_from_vit_kd | +1.5 ± 6.4 |' in text
    assert text.count('## Transferred') == 2


def test_steps_of_some_seeds_are_steps_of_all(tmp_path):
    path = next(str(path) for path in MATRICES if path.stem == 'cifar10_gpu')
    first, whole = (load_matrix(path, str(tmp_path), str(tmp_path / 'work'), seeds) for seeds in ([0], None))
    some, every = trainings(first), trainings(whole)
    assert 0 < len(some) < len(every)
    assert [step for step in every if step in some] == some
    assert {run.seed for run in first.taught()} == {0}
    for seeds, message in (
        ([0, 5], 'seed 5 is none of the experiment; choose from 0, 1, 2'),
        ([1], 'seed 0 is missing'),
    ):
        with pytest.raises(ValueError, match=message):
            load_matrix(path, str(tmp_path), str(tmp_path / 'work'), seeds)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('data_root = "."\nstudents = dict(a="x.py")', r'missing: losses, teachers'),
        ('data_root = "."\nstudents = {}\nteachers = {}\nlosses = {}\nsseeds = 1', r'unknown: sseeds'),
        ('data_root = "."\nstudents = {}\nteachers = {}\nlosses = {}', r'one of them is empty'),
        (
            'data_root = "."\nstudents = {}\nteachers = dict(a=dict(student="b"))\nlosses = {}',
            r"teacher 'a' is student 'b'",
        ),
    ],
)
def test_a_wrong_matrix_is_named(text, message, tmp_path):
    path = tmp_path / 'm.py'
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_matrix(str(path))
