"""What runs is what a config says: nothing is added to this project's, and to others in one place, with a line each."""

import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path

import mmdet
import pytest
import torch
from distilled_runs import write_config
from downstream_runs import CONFIGS, FOLDER, arguments, options
from mmengine.config import Config, ConfigDict
from mmengine.dataset import BaseDataset

from distill.cli.print_config import main as print_config
from distill.cli.test import main as run_test
from distill.cli.train import main as train
from distill.downstream.complete import HOOKS, complete
from distill.downstream.seeding import SeededSamples
from distill.downstream.student_config import student_alone
from distill.training.experiment import Experiment, load_config, move_data_root
from distill.training.runner import Runner

PACKAGED = Path(mmdet.__file__).parent / '.mim' / 'configs'
USER = f"""
_base_ = '{PACKAGED}/faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['backbones.openmmlab'], allow_failed_imports=False)
classes = ('arrow', 'bolt', 'circle', 'crescent', 'cross', 'heart', 'hourglass', 'square', 'star', 'triangle')
dataset = dict(metainfo=dict(classes=classes))
scale = dict(scale=(64, 64))
model = dict(
    backbone=dict(
        _delete_=True, type='TimmBackbone', model='convnext_atto', depths=(1, 1, 1, 1), dims=(8, 16, 16, 32)
    ),
    neck=dict(in_channels=[8, 16, 16, 32], out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=16), bbox_head=dict(in_channels=16, fc_out_channels=16, num_classes=10)
    ),
)
train_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False, dataset=dataset)
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dataset)
test_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dataset)
train_cfg = dict(max_epochs=1, val_interval=9)
randomness = dict(seed=0)
"""
SMALL = [f'{name}_dataloader.dataset.pipeline.{place}.scale=(64,64)' for name, place in (('train', 2), ('val', 1))]
SMALL += ['test_dataloader.dataset.pipeline.1.scale=(64,64)']
ADDED = [
    'added distill.downstream.register, distill.downstream.annotations.register to custom_imports',
    "added default_hooks.plain_checkpoint=dict(type='PlainCheckpointHook')",
    "added default_hooks.seed_iteration=dict(type='SeedIterationHook')",
    "added default_hooks.seed_samples=dict(type='SeedSamplesHook')",
    "added default_hooks.stop_on_bad_loss=dict(type='StopOnBadLossHook')",
    "added default_hooks.check_data=dict(type='CheckDataHook')",
    "added default_hooks.checkpoint.backend_args=dict(backend='atomic')",
    'added CheckSample to the pipeline of train_dataloader, after LoadAnnotations',
    'added CheckSample to the pipeline of val_dataloader, after LoadAnnotations',
    'added CheckSample to the pipeline of test_dataloader, after LoadAnnotations',
]


@pytest.fixture
def user_config(tmp_path) -> Path:
    """One of mmdet's packaged configs, in which a user has replaced the backbone and its widths."""
    path = tmp_path / 'user.py'
    path.write_text(USER)
    return path


def test_nothing_is_added_to_the_configs_of_this_project(leaves):
    for name, config in leaves.items():
        completed = copy.deepcopy(config)
        assert complete(completed) == [], name
        assert completed.to_dict() == config.to_dict(), name


def test_a_user_config_is_completed_once_and_each_addition_is_a_line(user_config):
    config = Config.fromfile(user_config)
    assert complete(config) == ADDED
    assert list(HOOKS) == [name for name in config.default_hooks if name in HOOKS]
    completed = config.to_dict()
    assert complete(config) == []
    assert config.to_dict() == completed


@pytest.mark.parametrize(
    ('setting', 'missing'),
    [
        *[(f'default_hooks.{name}', [f"added default_hooks.{name}=dict(type='{HOOKS[name]}')"]) for name in HOOKS],
        ('default_hooks.checkpoint.backend_args', [ADDED[6]]),
        ('default_hooks.checkpoint', [ADDED[6]]),
    ],
)
def test_an_addition_is_switched_off_by_none(setting, missing, user_config):
    config = Config.fromfile(user_config)
    config.merge_from_dict({setting: None})
    missing = [*missing, *(line for line in ADDED if 'CheckSample' in line)] if 'check_data' in setting else missing
    assert complete(config) == [line for line in ADDED if line not in missing]
    # Also when the completed config is read again.
    assert complete(config) == []


def test_a_hook_that_a_config_names_elsewhere_is_not_added_twice(user_config):
    config = Config.fromfile(user_config)
    config.custom_hooks = [dict(type='mmengine.SeedSamplesHook')]
    assert complete(config) == [line for line in ADDED if 'seed_samples' not in line]


def test_pipelines_that_a_user_puts_into_a_leaf_are_checked_too(leaves):
    config = copy.deepcopy(leaves[Path(CONFIGS['seg']).stem])
    steps = [dict(type='LoadWholeImage'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
    config.merge_from_dict(dict(train_dataloader=dict(dataset=dict(pipeline=steps))))
    assert complete(config) == [
        "wrote LoadWholeImage as LoadImageFromFile with imdecode_backend='pillow', which is the same",
        'added CheckSample to the pipeline of train_dataloader, after LoadAnnotations',
    ]
    step = config.train_dataloader.dataset.pipeline[0]
    assert step == dict(type='LoadImageFromFile', imdecode_backend='pillow')
    assert complete(config) == []


def test_notebooks_take_the_pipeline_that_the_test_set_has(leaves):
    """mmseg's `inference_model` takes ``test_pipeline``, which an override of the test set's pipeline leaves alone."""
    config = copy.deepcopy(leaves[Path(CONFIGS['seg']).stem])
    config.test_dataloader.dataset.pipeline[1].scale = (48, 48)
    (line,) = complete(config)
    assert line.startswith("set test_pipeline, which mmseg's inference_model takes, to")
    assert config.test_pipeline[1].scale == (48, 48)
    assert complete(config) == []
    config.test_dataloader.dataset.pipeline = config.tta_pipeline
    assert complete(config) == []


def test_wrappers_of_earlier_versions_are_taken_off(leaves):
    """Earlier versions wrote them into the config of a work directory."""
    config = copy.deepcopy(leaves[Path(CONFIGS['det']).stem])
    expected = config.to_dict()
    loader = config.train_dataloader
    loader.dataset = dict(type='SeededSamples', dataset=loader.dataset, seed=0)
    loader.batch_sampler = dict(type='NumberedBatches', batches=loader.batch_sampler, drop_last=False)
    assert len(complete(config)) == 2
    expected['train_dataloader']['drop_last'] = False
    assert config.to_dict() == expected


def test_printed_config_is_the_one_that_runs(user_config, tmp_path, capsys):
    out = tmp_path / 'whole.py'
    assert print_config([str(user_config), '--out', str(out), '--work-dir', 'here']) == 0
    printed = capsys.readouterr().out
    assert [line for line in printed.splitlines() if line.startswith('#')] == [f'# {line}' for line in ADDED]
    expected = Config.fromfile(user_config)
    complete(expected)
    assert Config.fromfile(out).to_dict() == {**expected.to_dict(), 'work_dir': 'here', 'launcher': 'none'}
    assert complete(Config.fromfile(out)) == []


@pytest.mark.slow
def test_a_user_config_trains_and_its_checkpoint_is_tested_and_resumed(user_config, data, tmp_path, capsys):
    """mmdet's own command writes checkpoints here that torch refuses to load with weights only."""
    work_dir = tmp_path / 'work'
    command = [str(user_config), '--data-root', str(data / 'coco'), '--work-dir', str(work_dir)]
    settings = ['--cfg-options', *SMALL, 'default_hooks.seed_iteration=None', 'train_cfg.max_epochs={}']
    assert train([*command, *(part.format(1) for part in settings)]) == 0
    log = capsys.readouterr().out
    assert [line for line in ADDED if line not in log] == [ADDED[2]]
    used = Config.fromfile(work_dir / 'user.py')
    assert complete(used) == []
    torch.load(work_dir / 'epoch_1.pth', weights_only=True)
    assert run_test([command[0], 'auto', *command[1:], '--cfg-options', *SMALL]) == 0
    assert json.loads((work_dir / 'results.json').read_text())['detection']['images'] == 4
    assert train([*command, '--resume', *(part.format(2) for part in settings)]) == 0
    assert 'resumed epoch: 1' in capsys.readouterr().out
    assert torch.load(work_dir / 'epoch_2.pth', weights_only=True)['meta']['epoch'] == 2


def test_data_root_that_no_loader_reads_is_not_required_and_not_replaced(data, tmp_path):
    config = tmp_path / 'own.py'
    loader = dict(dataset=dict(type='mmseg.BaseSegDataset', data_root=str(data / 'ade20k'), pipeline=[]))
    config.write_text(f"data_root = 'data/none'\nmodel = dict()\ntrain_dataloader = {loader}\n")
    assert load_config(Experiment(config))[0].data_root == 'data/none'
    with pytest.raises(ValueError, match=r"no loader of .*own\.py has a path in its data_root 'data/none'"):
        load_config(Experiment(config, data_root=str(data)))
    loader['dataset']['data_root'] = 'data/none/'
    config.write_text(f"data_root = 'data/none'\nmodel = dict()\ntrain_dataloader = {loader}\n")
    moved, _ = load_config(Experiment(config, data_root=str(data)))
    assert moved.train_dataloader.dataset.data_root == f'{data}/'
    with pytest.raises(FileNotFoundError, match="data root 'data/none' does not exist"):
        load_config(Experiment(config))


def test_module_or_base_that_is_not_there_is_one_line(tmp_path, capsys):
    config = tmp_path / 'old.py'
    config.write_text("_base_ = './gone.py'\n")
    assert print_config([str(config)]) == 1
    message = f"error: config '{config}' needs '{tmp_path}/./gone.py', which does not exist; correct its _base_\n"
    assert capsys.readouterr().err.endswith(message)
    for scope, name, advice in (
        ('mmdet', 'distill.gone', "earlier versions had it; name 'distill.downstream.register' in its place"),
        ('mmengine', 'distill.gone.too', "earlier versions had it; name 'distill.training.register' in its place"),
        ('mmdet', 'my_models', 'install it, or put the folder that has it on PYTHONPATH'),
    ):
        config.write_text(f'default_scope = {scope!r}\ncustom_imports = dict(imports=[{name!r}])\n')
        assert print_config([str(config)]) == 1
        missing = 'distill.gone' if name.startswith('distill') else name
        message = f"custom_imports of '{config}' cannot import '{name}' (No module named '{missing}'); {advice}"
        assert capsys.readouterr().err == f'{Path(sys.argv[0]).name}: error: {message}\n'


class Numbers(BaseDataset):
    """Ten samples."""

    def load_data_list(self) -> list[dict]:
        return [{'number': index} for index in range(10)]


def test_seeded_samples_answer_as_the_data_set_inside():
    inside = Numbers(pipeline=[])
    seeded = SeededSamples(inside, seed=3)
    assert (len(seeded), seeded.get_data_info(4)['number'], seeded[4, 0]['number']) == (10, 4, 4)
    # A hook of a framework that switches the pipeline reaches the data set that uses it.
    seeded.pipeline = lambda info: torch.rand(()).item()
    assert inside.pipeline is seeded.pipeline
    assert seeded[4, 0] == seeded[4, 0] != seeded[4, 1]
    inside.pipeline = None
    assert pickle.loads(pickle.dumps(seeded)).get_data_info(4)['number'] == 4
    assert copy.deepcopy({'dataset': seeded})['dataset'] is seeded


def test_empty_data_set_is_named(tmp_path):
    settings = dict(type='mmseg.BaseSegDataset', data_root=str(tmp_path), data_prefix=dict(img_path='x'), pipeline=[])
    (tmp_path / 'x').mkdir()
    loader = dict(batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False), dataset=settings)
    for lazy in (False, True):
        settings['serialize_data'] = not lazy
        with pytest.raises(ValueError, match=f"data set '{tmp_path}/x' has no image; set data_root"):
            Runner.build_dataloader(ConfigDict(loader), seed=0)


OTHER_PROCESS = """
import sys

import torch
from mmengine.config import Config
from mmengine.registry import DATA_SAMPLERS, DATASETS, HOOKS, LOOPS, METRICS, MODELS, OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import OPTIM_WRAPPERS, PARAM_SCHEDULERS, TRANSFORMS, VISBACKENDS, VISUALIZERS, DefaultScope
from mmengine.runner import Runner

trained, built = (list(filter(None, part.split(','))) for part in sys.argv[1:])
assert not [name for name in sys.modules if name.split('.')[0] in ('backbones', 'distill')]
for path in trained:
    Runner.from_cfg(Config.fromfile(path)).train()


def known(registry, settings):
    with registry.switch_scope_and_registry(None) as registry:
        for one in settings if isinstance(settings, list) else [settings]:
            assert registry.get(one['type']), one['type']


for path in built:
    config = Config.fromfile(path)
    config.model.backbone.pop('pretrained', None)
    with DefaultScope.overwrite_default_scope(config.default_scope), torch.device('meta'):
        MODELS.build(config.model)
        for hook in config.default_hooks.values():
            HOOKS.build(hook)
        for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
            known(DATASETS, loader.dataset)
            known(DATA_SAMPLERS, loader.sampler)
            for step in loader.dataset.pipeline:
                TRANSFORMS.build(step)
        known(DATA_SAMPLERS, config.train_dataloader.get('batch_sampler') or [])
        for step in config.get('tta_pipeline') or []:
            TRANSFORMS.build(step)
        known(MODELS, config.get('tta_model') or [])
        known(METRICS, config.val_evaluator)
        known(OPTIM_WRAPPERS, config.optim_wrapper)
        known(PARAM_SCHEDULERS, config.param_scheduler)
        known(LOOPS, [config.train_cfg, config.val_cfg, config.test_cfg])
        known(VISUALIZERS, config.visualizer)
        known(VISBACKENDS, config.vis_backends)
        if 'constructor' in config.optim_wrapper:
            known(OPTIM_WRAPPER_CONSTRUCTORS, dict(type=config.optim_wrapper.constructor))
"""


def types(settings) -> set[str]:
    """All names that a config gives as a ``type`` or ``constructor``."""
    if isinstance(settings, dict):
        own = {settings[key] for key in ('type', 'constructor') if isinstance(settings.get(key), str)}
        return own.union(*map(types, settings.values()))
    return set().union(*map(types, settings)) if isinstance(settings, (list, tuple)) else set()


@pytest.mark.slow
def test_dumped_leaf_trains_in_the_frameworks_own_runner(leaves, data, tmp_path):
    """In a process that imports of this project only what ``custom_imports`` names."""
    trained, built = [], []
    for task in ('det', 'seg'):
        config = copy.deepcopy(leaves[Path(CONFIGS[task]).stem])
        move_data_root(config, str(data / ('coco' if task == 'det' else 'ade20k')))
        config.merge_from_dict(dict(work_dir=str(tmp_path / task), visualizer=dict(vis_backends=[])))
        config.train_dataloader.batch_size = 8
        config.train_cfg['max_epochs' if task == 'det' else 'max_iters'] = 1
        config.default_hooks.checkpoint.interval = 1
        trained.append(tmp_path / f'{task}.py')
        config.dump(trained[-1])
    # As few leaves as name together all that any leaf names.
    names = {name: types(config.to_dict()) for name, config in leaves.items()}
    missing = set().union(*names.values())
    while missing:
        name = max(names, key=lambda name: len(names[name] & missing))
        missing -= names[name]
        built.append(tmp_path / f'{name}.py')
        leaves[name].dump(built[-1])
    command = [sys.executable, '-c', OTHER_PROCESS, *(','.join(map(str, paths)) for paths in (trained, built))]
    done = subprocess.run(command, cwd=FOLDER.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    checkpoints = [tmp_path / 'det' / 'epoch_1.pth', tmp_path / 'seg' / 'iter_1.pth']
    assert all('state_dict' in torch.load(path, weights_only=True) for path in checkpoints)


def test_switched_off_hook_is_not_registered_and_stays_off_in_the_work_directory(data, tmp_path):
    work_dir = tmp_path / 'work'
    # Checked, the auxiliary head would stop the run.
    more = ['default_hooks.check_data=None', 'default_hooks.timer=None', 'model.auxiliary_head.num_classes=11']
    assert train([*arguments('seg', data, work_dir), *options('seg', 1, *more)]) == 0
    used = Config.fromfile(work_dir / Path(CONFIGS['seg']).name)
    assert complete(used) == []
    assert {name for name, hook in used.default_hooks.items() if hook is None} == {'check_data', 'timer'}


def test_all_data_sets_of_a_detector_get_one_order_of_classes(user_config, tmp_path):
    """That of the training set, or of the checkpoint; a list of other names stays as it is, to be refused later."""
    config = Config.fromfile(user_config)
    complete(config)
    order = tuple(config.train_dataloader.dataset.metainfo.classes)
    palette = [(k, k, k) for k in range(10)]
    config.val_dataloader.dataset.metainfo = dict(classes=order[::-1], palette=palette[::-1])
    config.test_dataloader.dataset.metainfo = dict(classes=('other', *order[1:]))
    named = 'arrow, bolt, circle, crescent, cross, …'
    assert complete(config) == [f'ordered metainfo.classes of val_dataloader as in train_dataloader: {named}']
    assert config.val_dataloader.dataset.metainfo == dict(classes=order, palette=palette)
    assert config.test_dataloader.dataset.metainfo.classes[0] == 'other'
    assert complete(config) == []

    config.load_from = str(tmp_path / 'epoch_1.pth')
    torch.save({'meta': {'dataset_meta': {'classes': order[::-1]}}, 'state_dict': {}}, config.load_from)
    assert len(complete(config)) == 2
    assert config.train_dataloader.dataset.metainfo.classes == config.val_dataloader.dataset.metainfo.classes
    assert config.train_dataloader.dataset.metainfo.classes == order[::-1]


@pytest.mark.parametrize(('task', 'score'), [('det', 'auto'), ('seg', 'mIoU')])
def test_a_config_that_distils_gets_its_hooks_and_keeps_the_best_student(task, score, tmp_path):
    config = Config.fromfile(write_config(task, tmp_path, tmp_path / 'teacher.pth'))
    assert complete(config) == [
        "added default_hooks.check_teacher=dict(type='CheckTeacherHook')",
        "added default_hooks.save_student=dict(type='SaveDenseStudentHook')",
        f"added default_hooks.checkpoint.save_best='{score}'",
    ]
    assert complete(config) == []
    student_alone(config)
    assert config.model == Config.fromfile(FOLDER / CONFIGS[task]).model
