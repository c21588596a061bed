"""Ways of breaking checkpoints, caches and results."""

import math
import pickle
from collections.abc import Callable
from pathlib import Path

import torch

from campaign.bad_input import EITHER, Allowed, Scene, breaks

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
