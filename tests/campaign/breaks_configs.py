"""Ways of breaking configs and arguments."""

from pathlib import Path

from campaign.bad_input import EITHER, Scene, breaks

TRAINED = ('classifier training', 'distillation', 'detector training', 'segmenter training')
ALL = (*TRAINED, 'training from a cache', 'cache writing', 'robustness run', 'explain', 'resumed detector',
       'detector test', 'segmenter test', 'report')  # fmt: skip
CONFIGURED = tuple(name for name in ALL if name not in ('robustness run', 'explain', 'report'))

configured = breaks('configs', CONFIGURED)


def own_config(scene: Scene, text: str, inherits: bool = True, name: str = 'own.py') -> Path:
    """Put a config of a user's own, which inherits from the command's, in its place."""
    path = scene.inputs / name
    scene.inputs.mkdir(exist_ok=True)
    base = f'_base_ = {scene.arguments[0]!r}\n' if inherits else ''
    path.write_text(base + text)
    scene.arguments[0] = str(path)
    return path


@configured
def config_with_wrong_syntax(scene: Scene) -> None:
    own_config(scene, scene.rng.choice(('model = dict(\n', 'x = = 3\n', '\tx = 1\n', 'model: dict\n  x: 1\n')))


@configured
def config_that_raises(scene: Scene) -> None:
    faults = ('x = undefined_name', 'x = 1 / 0', "x = {}['a']", 'x = [].y', 'import nowhere', "x = int('a')")
    own_config(scene, scene.rng.choice(faults) + '\n')


@configured
def config_without_its_base(scene: Scene) -> None:
    own_config(scene, "_base_ = './not_there.py'\n", inherits=False)


@configured
def config_that_inherits_from_itself(scene: Scene) -> None:
    own_config(scene, "_base_ = './own.py'\n", inherits=False)


@configured
def config_that_is_empty(scene: Scene) -> None:
    own_config(scene, scene.rng.choice(('', '\n', 'x = 1\n')), inherits=False)


@configured
def config_that_is_binary(scene: Scene) -> None:
    own_config(scene, '', inherits=False).write_bytes(scene.rng.randbytes(200))


@configured
def config_in_json_that_is_broken(scene: Scene) -> None:
    text = scene.rng.choice(('{"model": ', '[]', '{"model": {}', '3'))
    own_config(scene, text, inherits=False, name='own.json')


SETTINGS = {
    'model.type': 'Nothing',
    'optim_wrapper.optimizer.type': 'Addam',
    'train_dataloader.dataset.type': 'CoconutDataset',
    'train_dataloader.sampler.type': 'Sampler9',
    'param_scheduler.0.type': 'CosineLR',
    'default_hooks.checkpoint.type': 'CheckpointHok',
    'train_cfg.type': 'Loop',
}


def set_one(scene: Scene, settings: dict) -> None:
    """Set one of some settings."""
    name = scene.rng.choice(sorted(settings))
    scene.set_options(f'{name}={settings[name]}')


@breaks('configs', TRAINED)
def type_that_is_unknown(scene: Scene) -> None:
    set_one(scene, SETTINGS)


@breaks('configs', TRAINED)
def argument_that_is_unknown(scene: Scene) -> None:
    places = ('model', 'optim_wrapper', 'optim_wrapper.optimizer', 'train_dataloader', 'train_dataloader.dataset',
              'train_dataloader.sampler', 'param_scheduler.0', 'default_hooks.checkpoint', 'train_cfg')  # fmt: skip
    scene.set_options(f'{scene.rng.choice(places)}.nonsense=3')


@breaks('configs', TRAINED)
def key_that_nothing_reads(scene: Scene) -> None:
    set_one(scene, {'modle.student.depths': '[1,1,1,1]', 'trian_cfg.max_epochs': 3, 'learning_rate': 0.1})


@breaks('configs', TRAINED)
def value_of_a_wrong_type(scene: Scene) -> None:
    settings = {
        'optim_wrapper.optimizer.lr': 'fast',
        'train_dataloader.batch_size': 'many',
        'train_dataloader.num_workers': 'two',
        'randomness.seed': 'x',
        'train_cfg.val_interval': 'often',
        'default_hooks.logger.interval': 'often',
    }
    set_one(scene, settings)


@breaks('configs', TRAINED)
def number_out_of_range(scene: Scene) -> None:
    settings = {
        'optim_wrapper.optimizer.lr': -1,
        'train_dataloader.batch_size': scene.rng.choice((0, -2)),
        'train_dataloader.num_workers': -1,
        'optim_wrapper.optimizer.weight_decay': -0.1,
        'train_cfg.val_interval': 0,
    }
    set_one(scene, settings)


@breaks('configs', TRAINED, EITHER)
def section_missing(scene: Scene) -> None:
    """The settings of the command line may be all that a section needs."""
    section = scene.rng.choice(('optim_wrapper', 'train_dataloader', 'train_cfg', 'model', 'val_evaluator'))
    own_config(scene, f'{section} = {scene.rng.choice(("None", "dict(_delete_=True)"))}\n')


@breaks('configs', ('classifier training', 'distillation'))
def classes_too_many_or_few(scene: Scene) -> None:
    scene.set_options(f'model.student.num_classes={scene.rng.choice((1, 9, 11, 1000))}')


@breaks('configs', ('distillation', 'classifier training'))
def setting_of_a_distillation_that_is_wrong(scene: Scene) -> None:
    settings = {
        'model.student.model': 'robust_resnet_dw_smal',
        'model.student.patch_size': 0,
        'model.losses.0.type': 'cross_entropi',
        'model.losses.0.weight': 'heavy',
        'model.losses.0.temperature': 0,
        'train_dataloader.dataset.name': 'tfds/x',
        'train_dataloader.dataset.split': 'trian',
        'train_dataloader.dataset.transform.input_size': 0,
        'model.data_preprocessor.mixup.mode': 'some',
    }
    set_one(scene, settings)


argued = breaks('arguments', ALL)


@argued
def option_that_is_unknown(scene: Scene) -> None:
    scene.arguments.insert(1, scene.rng.choice(('--nonsense', '--data_rot=x', '-z')))


@argued
def option_without_its_value(scene: Scene) -> None:
    name = '--out' if '--out' in scene.arguments else '--work-dir'
    scene.arguments = [argument for argument in scene.arguments if argument != str(scene.out)]
    place = scene.arguments.index(name)
    if place + 1 < len(scene.arguments) and not scene.arguments[place + 1].startswith('--'):
        scene.arguments.append(scene.arguments.pop(place))


@argued
def path_that_is_not_there(scene: Scene) -> None:
    places = [k for k, value in enumerate(scene.arguments) if value.startswith('/') and value != str(scene.out)]
    scene.arguments[scene.rng.choice(places)] += '_gone'


@argued
def output_that_cannot_be_a_folder(scene: Scene) -> None:
    place = scene.inputs / 'a_file'
    scene.inputs.mkdir(exist_ok=True)
    place.write_text('mine')
    scene.arguments = [str(place) if value == str(scene.out) else value for value in scene.arguments]


@breaks('arguments', ('robustness run', 'explain'))
def number_that_is_none(scene: Scene) -> None:
    names = ('--batch-size', '--workers', '--seed')
    scene.arguments += [scene.rng.choice(names), scene.rng.choice(('-1', 'x', '', '1.5'))]


@breaks('arguments', ('robustness run',))
def suite_that_is_unknown(scene: Scene) -> None:
    scene.arguments += ['--suite', scene.rng.choice(('cleam', 'imagenet', '', 'v2'))]


@breaks('arguments', CONFIGURED)
def setting_without_a_value(scene: Scene) -> None:
    scene.set_options(scene.rng.choice(('train_cfg', 'train_cfg.', '=3', 'a b', 'train_cfg.max_epochs', '.=1')))


@breaks('arguments', TRAINED)
def checkpoint_to_resume_that_is_none(scene: Scene) -> None:
    place = scene.inputs / 'x.pth'
    scene.inputs.mkdir(exist_ok=True)
    place.write_bytes(scene.rng.choice((b'', b'hello')))
    scene.arguments[1:1] = ['--resume', scene.rng.choice((str(place), str(scene.inputs / 'gone.pth')))]
