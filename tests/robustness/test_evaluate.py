"""An evaluation goes on after a stop, shares its images among processes, and counts what a reader should know."""

import json
import multiprocessing
import os
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from imagenet_tree import evaluate_on, plain, reader_run

from distill.api.evaluate import problem_lines
from distill.cli.robustness import build_parser, main, run
from distill.results.schema import validate
from distill.robustness import imagenet
from distill.robustness.evaluate import Settings, evaluate


def test_logits_that_are_not_finite_are_wrong_and_counted(tree, tmp_path):
    wnids, listed = imagenet.synsets(), imagenet.synsets('a')
    one_pct = 100 / len(wnids)
    outside = next(index for index, name in enumerate(wnids) if name not in listed)
    runs = [reader_run(nan_at=outside), reader_run('other')]
    results = evaluate_on(tree, tmp_path, runs, ['clean', 'adversarial'])
    entry = results['classification']['reader']['clean']
    assert entry['problems'] == {'nan_logits': 1}
    expected = 'reader, clean: 1 predictions from logits that are not finite, counted as wrong'
    assert problem_lines(results, ['reader', 'other']) == [expected]
    assert entry['top1_pct'] == pytest.approx(100 - one_pct)
    stored = np.load(tmp_path / 'predictions' / 'reader' / 'clean.npz')
    assert ((stored['predicted'][0] == -1).all(axis=1) == (stored['labels'] == outside)).all()
    assert 'problems' not in results['classification']['reader']['adversarial']
    comparison = results['comparisons'][0]
    assert comparison['difference_pct'] == pytest.approx(-one_pct)
    assert comparison['agreement_pct'] == pytest.approx(100 - one_pct)
    picked = [sample for sample in results['samples'] if sample.get('disagreement')]
    assert [sample['predictions']['reader']['label'] for sample in picked] == ['none: logits were not finite']


def test_stored_modes(tree, tmp_path):
    root = tmp_path / 'imagenet'
    shutil.copytree(tree / 'imagenet-a', root / 'imagenet-a')
    first, second, *_ = imagenet.synsets('a')
    plain(0).convert('L').save(root / 'imagenet-a' / first / f'{first}_1.png')
    (root / 'imagenet-a' / second / f'{second}_1.png').unlink()
    plain(0).convert('CMYK').save(root / 'imagenet-a' / second / 'cmyk.jpg')
    results = evaluate_on(root, tmp_path / 'out', [reader_run()], ['adversarial'])
    problems = results['classification']['reader']['adversarial']['problems']
    assert problems == {'grayscale_images': 1, 'cmyk_images': 1}


def test_baselines_and_effective_robustness(tree, tmp_path):
    runs = [reader_run('a', nan_at=1), reader_run('b', shadow=2), reader_run('c')]
    results = evaluate_on(tree, tmp_path, runs, ['clean', 'sketch'], baselines=['a', 'b'])
    fit = results['baseline_fit']['sketch']
    assert fit == {
        'slope': pytest.approx(1),
        'intercept': pytest.approx(0, abs=1e-9),
        'space': 'logit',
        'runs': ['a', 'b'],
    }
    entries = results['classification']
    assert entries['c']['sketch']['effective_robustness_pct'] == pytest.approx(0, abs=0.02)
    with pytest.raises(ValueError, match="baseline 'z' is no run; choose from a, b, c"):
        evaluate_on(tree, tmp_path, runs, ['clean'], baselines=['z'])


class Stop(Exception):
    """In place of a power cut."""


def stop_at(batch: int, seen: list[int]):
    """Note the counts of predictions, and stop the evaluation at the n-th."""

    def advance(count: int) -> None:
        seen.append(count)
        if len(seen) == batch:
            raise Stop

    return advance


def test_a_stopped_suite_goes_on_with_what_is_left(tree, tmp_path):
    options = dict(corruption_limit=10, save_every_s=-1)
    whole = evaluate_on(tree, tmp_path / 'whole', [reader_run()], ['corruption'], **options)
    seen = []
    with pytest.raises(Stop):
        evaluate_on(tree, tmp_path / 'out', [reader_run()], ['corruption'], advance=stop_at(3, seen), **options)
    assert seen == [0, 4 * 75, 4 * 75]
    assert not (tmp_path / 'out' / 'results.json').exists()
    seen = []
    results = evaluate_on(tree, tmp_path / 'out', [reader_run()], ['corruption'], advance=seen.append, **options)
    # Eight images had been predicted, of which four were lost, since the stop came before they were saved.
    assert seen == [4 * 75, 4 * 75, 2 * 75]
    assert results['classification'] == whole['classification']
    files = [np.load(tmp_path / name / 'predictions' / 'reader' / 'corruption.npz') for name in ('whole', 'out')]
    for name in files[0].files:
        np.testing.assert_array_equal(files[0][name], files[1][name])
    assert not list((tmp_path / 'out').rglob('*.part*'))


def test_predictions_with_another_seed_are_not_taken_over(tree, tmp_path):
    options = dict(corruption_limit=5, save_every_s=-1)
    with pytest.raises(Stop):
        evaluate_on(tree, tmp_path, [reader_run()], ['corruption'], advance=stop_at(3, []), **options)
    seen = []
    evaluate_on(tree, tmp_path, [reader_run()], ['corruption'], advance=seen.append, seed=1, **options)
    assert seen == [0, 4 * 75, 75]
    with pytest.raises(ValueError, match="holds results of other definition for 'reader' on 'corruption'"):
        evaluate_on(tree, tmp_path, [reader_run()], ['corruption'], seed=1, definition='imagecorruptions', **options)


def test_runs_of_other_classes_are_not_mixed(tree):
    run = reader_run('other')
    run.classes = run.classes[:-1]
    count = len(imagenet.synsets())
    with pytest.raises(ValueError, match=rf'runs of different classes \(reader {count}, other {count - 1}\) are not'):
        evaluate([reader_run(), run], [], Settings(str(tree), Path('unused')))


def test_a_record_that_breaks_the_schema_is_refused_before_anything_is_predicted(tree, tmp_path):
    run, counts = reader_run(), []
    run.record['params'] = 0
    with pytest.raises(ValueError, match=r'results\.json: runs\.reader\.params: expected a whole number of at least 1'):
        evaluate_on(tree, tmp_path / 'out', [run], ['clean'], begin=counts.append)
    assert counts == []
    assert not (tmp_path / 'out').exists()


def _evaluate_as(rank: int, port: int, arguments: list[str]) -> None:
    """The command in one of two processes that torchrun would have started."""
    torch.set_num_threads(1)  # A forked process has none of its parent's threads.
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2')
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    os._exit(main([*arguments, '--launcher', 'pytorch']))


def test_several_processes_find_what_one_does(checkpoints, shapes, tmp_path):
    common = [str(checkpoints[0]), '--data-root', str(shapes), '--corruption-limit', '5', '--workers', '0']
    common += ['--suite', 'clean', 'corruption', '--device', 'cpu']
    assert main([*common, '--out', str(tmp_path / 'one')]) == 0
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    # Forked, for the processes have imported everything then.
    context = multiprocessing.get_context('fork')
    arguments = [*common, '--out', str(tmp_path / 'two')]
    processes = [context.Process(target=_evaluate_as, args=(rank, port, arguments)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
        assert process.exitcode == 0
    one, two = (json.loads((tmp_path / name / 'results.json').read_text()) for name in ('one', 'two'))
    validate(two)
    assert one['classification'] == two['classification']
    assert one['samples'] == two['samples']
    assert not list((tmp_path / 'two').rglob('*.part*'))


def test_shares_of_the_images_meet_in_one_folder(checkpoints, shapes, tmp_path):
    given = ['--data-root', str(shapes), '--suite', 'clean', 'corruption', '--corruption-limit', '4', '--workers', '0']
    models = list(map(str, checkpoints))

    def judge(out: str, *more: str) -> dict:
        run(build_parser().parse_args([*models, *given, '--out', str(tmp_path / out), *more]))
        path = tmp_path / out / 'results.json'
        return json.loads(path.read_text())['classification'] if path.is_file() else {}

    def decisions(content: dict) -> dict:
        return {
            name: {suite: (entry['top1_pct'], entry.get('cells')) for suite, entry in scores.items()}
            for name, scores in content.items()
        }

    whole = decisions(judge('whole'))
    # By hand, as a script of a cluster would; the second share first.
    assert judge('shares', '--share', '1/2') == {}
    assert judge('shares', '--share', '0/2') == {}
    assert decisions(judge('shares')) == whole
    assert decisions(judge('engine', '--engine', 'local', '--jobs', '2')) == whole
    assert not list(tmp_path.glob('*/predictions/*/*.part*'))
    with pytest.raises(SystemExit):
        build_parser().parse_args([*models, *given, '--out', 'x', '--share', '2/2'])
