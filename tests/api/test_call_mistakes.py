"""Mistakes in a call are a ValueError or a FileNotFoundError of one line, before the work begins."""

import pytest
from api_runs import ALONE, SHORT, TAUGHT

import distill


def test_mistakes_of_a_training(shapes, tmp_path):
    cases = [
        (dict(epoch=3), "sets 'epoch', which nothing reads; did you mean epochs?"),
        (dict(workdir='x'), 'did you mean work_dir?'),
        (dict(teachr='x'), 'did you mean teacher?'),
        (dict(progress=False), 'choose from epochs, iters, batch_size, lr, num_workers, seed, or what'),
        (dict(max_epochs=3), 'max_epochs is a variable.*give epochs in its place'),
        (dict(epochs=0), 'epochs is 0; give a whole number of 1 or more'),
        (dict(epochs=2, train_cfg=dict(max_epochs=3)), 'epochs and train_cfg.max_epochs set the same; drop one'),
        (dict(iters=10), 'does not count iters; give epochs='),
        (dict(lr='fast'), "lr is 'fast'; give a number"),
        (dict(seed=-1), 'seed is -1; give a whole number of 0 or more'),
        (dict(num_workers=1.5), 'num_workers is 1.5; give a whole number'),
        (dict(train_cfg=dict(max_epoch=3)), "EpochBasedTrainLoop takes no 'max_epoch'"),
        (dict(launcher='torchrun'), "launcher 'torchrun' is unknown; choose from none, pytorch, slurm, mpi"),
        (dict(launcher='slurm'), 'finds no SLURM_PROCID in the environment'),
        (dict(shifts=0), 'shifts is 0; give 1 or more'),
        (dict(student='resnet1'), "model 'resnet1' is unknown; did you mean"),
        (
            dict(student='resnet18', model=dict(student=dict(depths=[1]))),
            'student and model.student.depths set the same',
        ),
        (dict(model=dict(losses=[dict(type='kl')])), 'kl'),
    ]
    for given, message in cases:
        with pytest.raises(ValueError, match=message) as caught:
            distill.train(ALONE, shapes, tmp_path / 'run', **{**given, 'num_workers': given.get('num_workers', 0)})
        assert len(str(caught.value).splitlines()) == 1
    for config, message in (
        ('robust', 'is ambiguous, it fits'),
        (3, 'config is a int; give a name'),
        ({}, 'config.py has no data_root to replace'),
    ):
        with pytest.raises(ValueError, match=message):
            distill.train(config, shapes, tmp_path / 'run')
    for given, message in (
        (dict(config='nothing-like-it'), 'does not exist, as a file or as a name'),
        (dict(data_root=tmp_path / 'none'), 'data root .* does not exist'),
        (dict(resume='gone.pth'), "checkpoint 'gone.pth' does not exist"),
        (dict(config=TAUGHT, teacher='gone.pth'), "checkpoint 'gone.pth' does not exist"),
    ):
        with pytest.raises((FileNotFoundError, ValueError), match=message):
            distill.train(**{'config': ALONE, 'data_root': shapes, 'work_dir': tmp_path / 'run', **SHORT, **given})
    assert not list(tmp_path.rglob('*.pth'))


def test_mistakes_of_an_evaluation(trained, shapes, tmp_path):
    best = trained.student_best
    cases = [
        (dict(suite='clean'), "evaluate takes no 'suite'; did you mean suites?"),
        (dict(suites='cleen'), "suite 'cleen' is unknown; choose from clean,"),
        (dict(data_root=None), 'nothing to evaluate on; pass data_root, or images'),
        (dict(batch_size=0), 'batch_size is 0; give 1 or more'),
        (dict(definition='mine'), "definition 'mine' is unknown; choose from"),
        (dict(models=[]), 'no model to evaluate'),
        (dict(models=[best, best]), 'give a dictionary {name: model}'),
        (dict(models={'a/b': best}), "run name 'a/b' cannot be a folder's"),
        (dict(models=[3]), '3 is no model; give a name, a path, a network'),
        (dict(models='resnet1'), "model 'resnet1' is unknown"),
        (dict(baselines=['other']), "baseline 'other' is no run"),
    ]
    for given, message in cases:
        with pytest.raises(ValueError, match=message):
            distill.evaluate(**{'models': best, 'data_root': shapes, 'suites': 'clean', 'progress': False, **given})
    for given, message in (
        (dict(data_root=tmp_path / 'none'), 'data root .* does not exist; .* pass another data_root'),
        (dict(models='gone.pth'), "checkpoint 'gone.pth' does not exist"),
        (dict(images='none'), "image folder 'none' does not exist"),
    ):
        with pytest.raises(FileNotFoundError, match=message):
            distill.evaluate(**{'models': best, 'data_root': shapes, 'progress': False, **given})


def test_mistakes_of_the_other_calls(trained, shapes, tmp_path):
    cases = [
        (distill.cache_teacher, (ALONE, tmp_path / 'cache', shapes), {}, 'has 0 teachers and no number 0'),
        (distill.cache_teacher, (ALONE, tmp_path / 'cache', shapes), dict(dtype='int8'), "dtype 'int8' is unknown"),
        (distill.transfer, ('shapes',), dict(job=2), "transfer takes no 'job'; did you mean jobs?"),
        (distill.write_report, ([],), {}, 'no folder is given'),
        (distill.explain_pair, (['a'], shapes / 'val', tmp_path / 'x'), {}, '1 models are given; give two'),
        (distill.run_test, (ALONE,), dict(out='scores.txt'), "out 'scores.txt' has no known ending"),
    ]
    for call, args, given, message in cases:
        with pytest.raises(ValueError, match=message):
            call(*args, **given)
    with pytest.raises(FileNotFoundError, match=r'holds no results\.json'):
        distill.write_report(tmp_path)
    with pytest.raises(FileNotFoundError, match='has no checkpoint; train first'):
        distill.run_test(ALONE, 'auto', shapes, tmp_path / 'empty', num_workers=0)
    assert not (tmp_path / 'cache').exists()


def test_a_test_gives_the_scores_of_the_last_validation(trained, shapes):
    tested = distill.run_test(ALONE, 'auto', shapes, trained.work_dir, num_workers=0, model=SHORT['model'])
    assert tested.scores['top1_pct'] == pytest.approx(trained.scores['top1_pct'])
    assert tested.path == trained.work_dir / 'results.json'
    assert 'top1_pct' in tested._repr_html_()
