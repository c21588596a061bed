"""Ways of breaking configs, checkpoints, caches, results and arguments."""

import math
import pickle
from collections.abc import Callable
from pathlib import Path

import torch

from campaign.bad_input import EITHER, Allowed, Scene, breaks

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


WEIGHED = ('detector test', 'segmenter test', 'robustness run', 'explain', 'distillation', 'resumed detector')
CHECKPOINTS = {
    'detector test': 'detector/epoch_2.pth',
    'segmenter test': 'segmenter/iter_2.pth',
    'resumed detector': 'detector/epoch_1.pth',
}
weighed = breaks('checkpoints', WEIGHED)


@weighed
def checkpoint_truncated(scene: Scene) -> None:
    path = checkpoint_of(scene)
    content = path.read_bytes()
    path.write_bytes(content[: scene.rng.randrange(1, len(content))])


def checkpoint_of(scene: Scene) -> Path:
    """The checkpoint that the command reads."""
    return scene.inputs / CHECKPOINTS.get(scene.reader, 'student/student_best.pth')


def edit_weights(scene: Scene, change: Callable[[dict], object]) -> None:
    """Change the tensors of the checkpoint."""
    content = torch.load(checkpoint_of(scene), weights_only=True)
    change(content.get('state_dict', content))
    torch.save(content, checkpoint_of(scene))


@breaks('checkpoints', WEIGHED, EITHER)
def byte_of_a_checkpoint_flipped(scene: Scene) -> None:
    """A byte may lie between the tensors, where it says nothing."""
    path = checkpoint_of(scene)
    content = bytearray(path.read_bytes())
    place = scene.rng.randrange(len(content) // 5, len(content) * 4 // 5)
    content[place] ^= 0xFF
    path.write_bytes(content)


@weighed
def tensor_missing(scene: Scene) -> None:
    edit_weights(scene, lambda weights: weights.pop(scene.rng.choice(sorted(weights))))


@weighed
def tensor_of_another_shape(scene: Scene) -> None:
    def change(weights: dict) -> None:
        name = scene.rng.choice([name for name in sorted(weights) if weights[name].dim()])
        weights[name] = weights[name].repeat(2, *[1] * (weights[name].dim() - 1))

    edit_weights(scene, change)


@weighed
def weights_that_are_nan(scene: Scene) -> None:
    def change(weights: dict) -> None:
        weights[scene.rng.choice([n for n in sorted(weights) if weights[n].is_floating_point()])].fill_(math.nan)

    edit_weights(scene, change)


@weighed
def something_else_for_a_checkpoint(scene: Scene) -> None:
    path = checkpoint_of(scene)
    kind = scene.rng.choice(('empty', 'text', 'folder', 'list', 'pickle'))
    if kind == 'folder':
        path.unlink()
        path.mkdir()
    elif kind == 'list':
        torch.save([torch.ones(3)], path)
    else:
        path.write_bytes({'empty': b'', 'text': b'<!doctype html>', 'pickle': pickle.dumps({'a': Path('x')})}[kind])


@breaks('checkpoints', ('robustness run', 'explain', 'distillation'))
def record_that_is_broken(scene: Scene) -> None:
    path = scene.inputs / 'student/student_best.json'
    path.write_text(scene.rng.choice(('', '{', '[]', '{}', 'null', '{"model": 3}', path.read_text()[:-40])))


@breaks('checkpoints', ('robustness run', 'explain', 'distillation'))
def record_of_another_model(scene: Scene) -> None:
    wrong = scene.rng.choice((
        {'model': 'resnet18'}, {'model': 'nothing'}, {'model_kwargs': {}}, {'model_kwargs': {'nonsense': 1}},
        {'classes': ['a', 'b']}, {'classes': 3}, {'mean': [0.5]}, {'std': [0, 0, 0]}, {'input_size': [3, -1, 0]},
        {'classes': list('abcdefghij')},
    ))  # fmt: skip
    scene.edit_json(scene.inputs / 'student/student_best.json', lambda record: record.update(wrong))


cached = breaks('caches', ('training from a cache',))


@cached
def rows_of_a_cache_truncated(scene: Scene) -> None:
    path = scene.pick('cache/*.rows')
    path.write_bytes(path.read_bytes()[: scene.rng.randrange(path.stat().st_size)])


@cached
def rows_of_a_cache_missing(scene: Scene) -> None:
    scene.pick('cache/*.rows').unlink()


@cached
def byte_of_a_cache_flipped(scene: Scene) -> None:
    path = scene.pick('cache/*.rows')
    content = bytearray(path.read_bytes())
    content[scene.rng.randrange(len(content))] ^= 0xFF
    path.write_bytes(content)


@cached
def manifest_that_is_broken(scene: Scene) -> None:
    path = scene.inputs / 'cache/manifest.json'
    path.write_text(scene.rng.choice(('', '{', '[]', 'null', '{}', '{"format": 99}', path.read_text()[:-30])))


@cached
def manifest_missing(scene: Scene) -> None:
    (scene.inputs / 'cache/manifest.json').unlink()


@cached
def value_of_a_manifest_changed(scene: Scene) -> None:
    def change(manifest: dict) -> None:
        node, key = manifest, 'run'
        while isinstance(node.get(key), dict) and node[key]:
            node = node[key]
            key = scene.rng.choice(sorted(node))
        node[key] = {'other': 1}

    scene.edit_json(scene.inputs / 'cache/manifest.json', change)


@cached
def key_of_a_manifest_missing(scene: Scene) -> None:
    def change(manifest: dict) -> None:
        part = scene.rng.choice((manifest, manifest['run'], manifest['cache'], manifest['run']['data']))
        part.pop(scene.rng.choice(sorted(part)))

    scene.edit_json(scene.inputs / 'cache/manifest.json', change)


@cached
def images_of_a_cache_changed(scene: Scene) -> None:
    path = scene.pick('data/imagenet/train/*/*.jpg')
    if scene.rng.random() < 0.5:
        path.unlink()
    else:
        (path.parent / 'another.jpg').write_bytes(path.read_bytes())


reported = breaks('results', ('report',))


def results_path(scene: Scene) -> Path:
    """The results that the report reads."""
    return scene.inputs / 'judged/results.json'


def walk(scene: Scene, results: dict) -> tuple[dict, str]:
    """A key somewhere in the results that the report shows, and the object that holds it."""
    node, key = results, scene.rng.choice(('runs', 'classification'))
    while isinstance(node[key], dict) and node[key] and (key in ('runs', 'classification') or scene.rng.random() < 0.7):
        node = node[key]
        key = scene.rng.choice(sorted(node))
    return node, key


@reported
def results_that_are_no_json(scene: Scene) -> None:
    path = results_path(scene)
    text = path.read_text()
    path.write_text(scene.rng.choice(('', '[]', 'null', text[: len(text) // 2], text.replace(':', ';', 1))))


@breaks('results', ('report',), EITHER)
def key_of_results_missing(scene: Scene) -> None:
    def change(results: dict) -> None:
        node, key = walk(scene, results)
        node.pop(key)

    scene.edit_json(results_path(scene), change)


@breaks('results', ('report',))
def value_of_results_that_is_no_score(scene: Scene) -> Allowed:
    scores = []

    def find(node: object, key: str) -> None:
        if isinstance(node, dict):
            for name, value in node.items():
                if isinstance(value, float) and name in ('top1_pct', 'top5_pct', 'ece_pct'):
                    scores.append((node, name))
                find(value, name)

    def change(results: dict) -> None:
        find(results['classification'], '')
        node, name = scene.rng.choice(scores)
        node[name] = scene.rng.choice(('high', -3.0, 1e9, math.nan, math.inf, True, [1]))

    scene.edit_json(results_path(scene), change)
    return Allowed()


@reported
def version_of_results_unknown(scene: Scene) -> None:
    scene.edit_json(
        results_path(scene), lambda results: results.update(schema_version=scene.rng.choice((0, 99, 'x', None)))
    )


@breaks('results', ('report',), Allowed(accept=True))
def picture_of_results_damaged(scene: Scene) -> None:
    path = scene.pick('judged/samples/*.png')
    kind = scene.rng.choice(('gone', 'text', 'half'))
    if kind == 'gone':
        path.unlink()
    else:
        path.write_bytes({'text': b'hello', 'half': path.read_bytes()[:100]}[kind])


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
