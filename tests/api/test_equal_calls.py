"""A call does what the command does, and a command what the call does."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from api_runs import ALONE, SHORT, assert_same

import backbones
import distill
from backbones.record import ModelRecord
from distill.cli.robustness import main as robustness

REPO = Path(__file__).parents[2]


def test_a_call_trains_the_student_of_the_command(trained, trained_by_command):
    assert_same(trained.student_best, trained_by_command / 'student_best.pth')
    assert_same_records(trained.student_best, trained_by_command / 'student_best.pth')


def assert_same_records(a: Path, b: Path) -> None:
    assert ModelRecord.read(a) == ModelRecord.read(b)


def test_the_result_of_a_training_says_where_and_how_far_it_is(trained, shapes):
    assert (trained.epoch, trained.iter) == (2, 8)
    assert trained.student_best == trained.work_dir / 'student_best.pth'
    assert trained.checkpoint == trained.work_dir / 'epoch_2.pth'
    record = ModelRecord.read(trained.student_best)
    assert trained.best['top1_pct'] == pytest.approx(record.scores['top1_pct'])
    assert trained.best['top1_pct'] >= trained.scores['top1_pct']
    rows = trained.history
    assert [row['epoch'] for row in rows] == [1, 2]
    assert rows[-1]['top1_pct'] == pytest.approx(trained.scores['top1_pct'])
    assert max(row['top1_pct'] for row in rows) == pytest.approx(trained.best['top1_pct'])
    assert all(1 < row['loss'] < 4 and row['lr'] > 0 for row in rows)
    page = trained._repr_html_()
    assert page.count('<tr>') == 3
    assert '<th>loss</th>' in page
    loaded = trained.student()
    assert isinstance(loaded, backbones.LoadedModel)
    assert loaded.classes == sorted(path.name for path in (shapes / 'train').iterdir())


def test_a_resumed_run_has_one_history(trained, shapes, tmp_path):
    more = dict(SHORT, **{'default_hooks.checkpoint.max_keep_ckpts': 9})
    whole = distill.train(ALONE, shapes, tmp_path / 'run', **more)
    for name in ('last_checkpoint', 'epoch_2.pth'):
        (tmp_path / 'run' / name).unlink()
    resumed = distill.train(ALONE, shapes, tmp_path / 'run', resume=True, **more)
    assert (resumed.epoch, resumed.iter) == (2, 8)
    assert [row['epoch'] for row in resumed.history] == [1, 2]
    assert_same(resumed.student_best, trained.student_best)
    assert resumed.best == whole.best


def test_a_call_gives_the_scores_of_the_command(trained, shapes, tmp_path):
    best = trained.student_best
    command = [f'a={best}', '--data-root', shapes, '--out', tmp_path / 'command', '--corruption-limit', '5']
    assert robustness([*map(str, command), '--suite', 'clean', 'corruption', 'rendition']) == 0
    expected = json.loads((tmp_path / 'command' / 'results.json').read_text())
    models = {'a': best, 'b': trained.student()}
    results = distill.evaluate(models, shapes, ['clean', 'corruption', 'rendition'], corruption_limit=5, progress=False)
    assert results['a'] == expected['classification']['a']
    assert results['b'] == results['a']
    assert results.content == json.loads(results.path.read_text())
    assert results.suites == ['clean', 'corruption', 'rendition']
    assert results.scores['a']['clean'] == pytest.approx(trained.best['top1_pct'], abs=1e-3)


def test_results_are_a_table_a_frame_and_a_report(trained, shapes, tmp_path):
    results = distill.evaluate(trained.student_best, shapes, 'clean', progress=False)
    (name,) = results.runs
    top1 = f'{results[name]["clean"]["top1_pct"]:.1f}'
    for text in (results.table(), str(results), results._repr_html_()):
        assert name in text
        assert top1 in text
    with pytest.raises(KeyError, match=f"run 'gone' is none of {name}"):
        results['gone']
    with pytest.raises(ValueError, match='give the report one of its own'):
        results.report()
    page = results.report(tmp_path / 'report')
    folder, text = results.folder, page.read_text()
    assert name in text
    del results
    assert not folder.exists()  # The temporary folder has gone with its object, and the page needs none of it.
    assert str(folder) not in text


def test_results_as_a_frame_of_pandas_or_what_to_install(trained, shapes, monkeypatch):
    results = distill.evaluate(trained.student_best, shapes, 'clean', progress=False)
    monkeypatch.setitem(sys.modules, 'pandas', None)
    with pytest.raises(ImportError, match='pip install pandas'):
        results.to_pandas()
    monkeypatch.undo()
    pytest.importorskip('pandas')
    frame = results.to_pandas()
    assert frame.loc[0, 'top1_pct'] == results.scores[results.runs[0]]['clean']


def test_results_of_a_folder_are_read_again(trained, shapes, tmp_path):
    first = distill.evaluate(trained.student_best, shapes, ['clean', 'sketch'], out=tmp_path, progress=False)
    again = distill.Results.read(tmp_path)
    assert (again.runs, again.suites, again.scores) == (first.runs, first.suites, first.scores)


def test_epochs_are_a_config_that_is_written_with_that_number(shapes):
    """The schedules of all shapes configs are written with ``max_epochs``; so is what they become."""
    from mmengine.config import Config

    from distill.base.packaged import packaged
    from distill.training.options import set_options

    for file in packaged():
        if file.path.parent.name in ('shapes', 'cifar10'):
            text = file.path.read_text()
            shared = (REPO / 'distill/configs/_base_/shapes.py').read_text()
            before = next(line for line in (text + '\n' + shared).splitlines() if line.startswith('max_epochs = '))
            found = Config.fromfile(file.path)
            set_options(found, {'epochs': 7})
            expected = Config.fromfile(file.path)
            old = int(before.partition('= ')[2])
            for schedule in expected.param_scheduler:
                schedule.end = 7 if schedule.end == old else schedule.end
            assert found.param_scheduler == expected.param_scheduler
            assert found.train_cfg == dict(expected.train_cfg, max_epochs=7)


def test_milestones_and_lengths_without_an_end_move_too():
    from mmengine.config import Config

    from distill.training.options import set_options

    config = Config.fromfile(REPO / 'downstream_configs/_base_/schedules/schedule_1x.py')
    notes = set_options(config, {'epochs': 36})
    assert config.param_scheduler[1] == dict(
        type='MultiStepLR', by_epoch=True, begin=0, end=36, milestones=[24, 33], gamma=0.1
    )
    assert config.param_scheduler[0].end == 500  # A warm-up in iterations.
    assert notes == ['epochs=36: train_cfg.max_epochs 12 -> 36; MultiStepLR.end 12 -> 36; '
                     'MultiStepLR.milestones [8, 11] -> [24, 33]']  # fmt: skip
    config = Config.fromfile(REPO / 'downstream_configs/_base_/schedules/det_tiny.py')
    set_options(config, {'epochs': 2})
    assert config.param_scheduler[1].T_max == 2
    config = Config.fromfile(REPO / 'downstream_configs/_base_/schedules/seg_tiny.py')
    set_options(config, {'iters': 200})
    assert (config.train_cfg.max_iters, config.param_scheduler[1].end, config.param_scheduler[0].end) == (200, 200, 50)


def test_configs_are_names_paths_configs_and_dicts(trained, shapes, tmp_path, monkeypatch):
    from mmengine.config import Config

    from distill.base.packaged import find

    monkeypatch.chdir(tmp_path)
    config = Config.fromfile(find(ALONE))
    before = config.pretty_text
    for number, given in enumerate((Path(find(ALONE)), config, config.to_dict())):
        result = distill.train(given, shapes, tmp_path / str(number), **SHORT)
        assert_same(result.student_best, trained.student_best)
    assert config.pretty_text == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ['0', '1', '2']


def test_the_process_is_left_as_it_was(shapes, tmp_path):
    import multiprocessing

    from mmengine.logging import MessageHub, MMLogger
    from mmengine.registry import DefaultScope
    from mmengine.runner import CheckpointLoader
    from mmengine.visualization import Visualizer

    def state() -> list:
        kinds = (MMLogger, MessageHub, Visualizer, DefaultScope)
        found = [list(kind._instance_dict) for kind in kinds]
        found += [dict(os.environ), dict(CheckpointLoader._schemes), torch.is_grad_enabled()]
        found += [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]
        found += [torch.backends.cudnn.benchmark, multiprocessing.get_start_method(allow_none=True)]
        return [*found, torch.distributed.is_initialized()]

    before = state()
    distill.train(ALONE, shapes, tmp_path / 'run', **SHORT)
    assert state() == before
    with pytest.raises(ValueError, match=r'not finite|is nan|is inf'):
        distill.train(ALONE, shapes, tmp_path / 'bad', **{**SHORT, 'lr': 1e30})
    assert state() == before


def test_importing_distill_is_instant_and_shows_what_there_is():
    code = (
        'import sys, distill; heavy = {"torch", "numpy", "mmengine", "rich", "PIL"} & set(sys.modules);'
        'assert not heavy, heavy; assert set(distill.__all__) <= set(dir(distill))'
    )
    done = subprocess.run([sys.executable, '-c', code], cwd=REPO, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')
    with pytest.raises(AttributeError, match="module 'distill' has no attribute 'trian'; it has train,"):
        _ = distill.trian


def test_each_lazy_name_is_one_that_type_checkers_see():
    """The names in ``__all__`` are those under ``TYPE_CHECKING``, from the same modules."""
    import ast

    tree = ast.parse((REPO / 'distill' / '__init__.py').read_text())
    seen = {
        alias.name: node.module.removeprefix('distill.')
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module.startswith('distill.') and node.col_offset
        for alias in node.names
        if alias.asname
    }
    assert seen == distill._FOUND_IN
