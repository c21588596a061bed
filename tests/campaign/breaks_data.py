"""Ways of breaking images, annotations and label maps."""

import json
import math
import os
from pathlib import Path

import numpy as np
from PIL import Image

from campaign.bad_input import ACCEPT, EITHER, FILL_IN, LEAVE_OUT, REFUSE, Allowed, Scene, breaks

CLASSIFIERS = ('classifier training', 'cache writing', 'robustness run', 'explain')
DETECTORS = ('detector training', 'detector test')
SEGMENTERS = ('segmenter training', 'segmenter test')
IMAGES = {
    'classifier training': 'data/imagenet/*/*/*.jpg',
    'cache writing': 'data/imagenet/train/*/*.jpg',
    'robustness run': 'data/imagenet/*/*/*.jpg',
    'explain': 'data/imagenet/val/*/*.jpg',
    'detector training': 'data/coco/*2017/*.jpg',
    'detector test': 'data/coco/val2017/*.jpg',
    'segmenter training': 'data/ade20k/images/*/*.jpg',
    'segmenter test': 'data/ade20k/images/validation/*.jpg',
}
READ_SPLITS = {
    'classifier training': ('train', 'val'),
    'robustness run': ('val', 'rendition'),
}


def image_of(scene: Scene) -> Path:
    """One of the images that the command reads."""
    while True:
        path = scene.pick(IMAGES[scene.reader])
        splits = READ_SPLITS.get(scene.reader)
        if splits is None or path.parent.parent.name in splits:
            return path


every_image = breaks('images', tuple(IMAGES))


@every_image
def truncated_image(scene: Scene) -> None:
    path = image_of(scene)
    content = path.read_bytes()
    path.write_bytes(content[: scene.rng.randrange(1, len(content) - 40)])


@every_image
def empty_image(scene: Scene) -> None:
    image_of(scene).write_bytes(b'')


@every_image
def random_bytes_for_an_image(scene: Scene) -> None:
    image_of(scene).write_bytes(scene.rng.randbytes(scene.rng.choice((3, 300, 30000))))


@every_image
def text_for_an_image(scene: Scene) -> None:
    image_of(scene).write_text(scene.rng.choice(('<html>404</html>', 'version https://git-lfs.github.com/spec/v1\n')))


@every_image
def damaged_head_of_an_image(scene: Scene) -> None:
    path = image_of(scene)
    content = bytearray(path.read_bytes())
    content[: scene.rng.randrange(2, 12)] = scene.rng.randbytes(1)
    path.write_bytes(content)


@every_image
def folder_for_an_image(scene: Scene) -> Allowed:
    path = image_of(scene)
    path.unlink()
    path.mkdir()
    # Among class folders it is a folder without an image, in which there is nothing to read.
    return LEAVE_OUT if scene.reader in CLASSIFIERS else REFUSE


@breaks('images', ('detector training', 'detector test', 'segmenter training', 'segmenter test', 'robustness run'))
def dangling_link_for_an_image(scene: Scene) -> Allowed:
    path = image_of(scene)
    path.unlink()
    os.symlink(scene.folder / 'nowhere.jpg', path)
    return LEAVE_OUT if scene.reader in CLASSIFIERS else REFUSE


@every_image
def floats_for_an_image(scene: Scene) -> None:
    path = image_of(scene)
    with Image.open(path) as image:
        levels = np.asarray(image.convert('L'), np.float32)
    Image.fromarray(levels / scene.rng.choice((1, 255))).save(path, format='TIFF')


@breaks('images', ('robustness run', 'detector test', 'segmenter test'), ACCEPT)
def sixteen_bits_for_an_image(scene: Scene) -> None:
    """The same levels with 16 bits: the scores of the 8 bits, for which all images become grey first."""
    path = image_of(scene)
    with Image.open(path) as image:
        pixels = np.asarray(image)
    # 16 bits and three channels: Pillow reads its high bytes.
    import cv2

    good, content = cv2.imencode('.png', pixels[..., ::-1].astype(np.uint16) * 257)
    assert good
    path.write_bytes(content.tobytes())


@breaks('images', ('detector test', 'detector training', 'segmenter test', 'segmenter training'))
def image_of_another_size(scene: Scene) -> None:
    path = image_of(scene)
    with Image.open(path) as image:
        image.resize((image.width // 2, image.height + 8)).save(path)


@breaks('images', DETECTORS + SEGMENTERS)
def image_missing(scene: Scene) -> None:
    image_of(scene).unlink()


@breaks('images', ('classifier training', 'robustness run', 'cache writing'))
def class_folder_emptied(scene: Scene) -> None:
    for path in image_of(scene).parent.iterdir():
        path.unlink()


@breaks('images', ('classifier training', 'robustness run'))
def class_folder_renamed_in_one_split(scene: Scene) -> None:
    folder = scene.pick('data/imagenet/val/*/*.jpg').parent
    folder.rename(folder.with_name(scene.rng.choice(('aaa', 'zzz', folder.name.upper()))))


@breaks('images', ('classifier training', 'robustness run', 'cache writing'), Allowed(refuse=False, accept=True))
def system_files_among_images(scene: Scene) -> None:
    folder = scene.rng.choice([scene.inputs / 'data/imagenet/val', image_of(scene).parent])
    (folder / scene.rng.choice(('.DS_Store', 'Thumbs.db', 'desktop.ini', '._x.jpg', 'notes.txt'))).write_bytes(b'\0x')


@breaks('images', ('classifier training', 'robustness run', 'cache writing'), EITHER)
def suspicious_folder_among_classes(scene: Scene) -> None:
    for split in ('train', 'val', 'rendition'):
        (scene.inputs / 'data/imagenet' / split / scene.rng.choice(('.ipynb_checkpoints', '__MACOSX'))).mkdir()


annotated = breaks('annotations', DETECTORS)


def annotations_of(scene: Scene) -> Path:
    """One of the annotation files that the command reads."""
    part = 'val' if scene.reader == 'detector test' else scene.rng.choice(('train', 'val'))
    return scene.inputs / f'data/coco/annotations/instances_{part}2017.json'


def entry_of(scene: Scene, content: dict, kind: str) -> dict:
    """One of the entries of a kind."""
    return scene.rng.choice(content[kind])


@breaks('annotations', DETECTORS, EITHER)
def key_missing_in_an_annotation(scene: Scene) -> None:
    key = scene.rng.choice(('area', 'iscrowd', 'bbox', 'category_id', 'image_id', 'id'))
    scene.edit_json(annotations_of(scene), lambda content: entry_of(scene, content, 'annotations').pop(key))


@breaks('annotations', DETECTORS, EITHER)
def key_missing_in_an_image(scene: Scene) -> None:
    key = scene.rng.choice(('height', 'width', 'file_name', 'id'))
    scene.edit_json(annotations_of(scene), lambda content: entry_of(scene, content, 'images').pop(key))


@breaks('annotations', DETECTORS, EITHER)
def key_missing_in_a_category(scene: Scene) -> None:
    key = scene.rng.choice(('id', 'name', 'supercategory'))
    scene.edit_json(annotations_of(scene), lambda content: entry_of(scene, content, 'categories').pop(key))


@annotated
def list_missing(scene: Scene) -> None:
    scene.edit_json(annotations_of(scene), lambda c: c.pop(scene.rng.choice(('images', 'annotations', 'categories'))))


@annotated
def list_empty(scene: Scene) -> None:
    scene.edit_json(
        annotations_of(scene), lambda c: c.update({scene.rng.choice(('images', 'annotations', 'categories')): []})
    )


@breaks('annotations', DETECTORS, FILL_IN)
def box_that_is_none(scene: Scene) -> None:
    wrong = scene.rng.choice((None, 'box', [], [1, 2, 3], [1, 2, 3, 4, 5], [1, 2, 'x', 4], [1, 2, None, 4]))
    scene.edit_json(annotations_of(scene), lambda c: entry_of(scene, c, 'annotations').update(bbox=wrong))


@annotated
def box_with_nan(scene: Scene) -> None:
    def change(content: dict) -> None:
        box = entry_of(scene, content, 'annotations')['bbox']
        box[scene.rng.randrange(4)] = scene.rng.choice((math.nan, math.inf, -math.inf))

    scene.edit_json(annotations_of(scene), change)


@annotated
def image_of_an_annotation_unknown(scene: Scene) -> None:
    wrong = scene.rng.choice((10**6, -1, 'x', None))
    scene.edit_json(annotations_of(scene), lambda c: entry_of(scene, c, 'annotations').update(image_id=wrong))


@annotated
def category_of_an_annotation_unknown(scene: Scene) -> None:
    wrong = scene.rng.choice((10**6, -1, 'x', None))
    scene.edit_json(annotations_of(scene), lambda c: entry_of(scene, c, 'annotations').update(category_id=wrong))


@breaks('annotations', DETECTORS, ACCEPT)
def ids_of_annotations_from_zero(scene: Scene) -> None:
    def change(content: dict) -> None:
        for number, entry in enumerate(content['annotations']):
            entry['id'] = number

    scene.edit_json(annotations_of(scene), change)


@breaks('annotations', DETECTORS, EITHER)
def ids_of_annotations_twice(scene: Scene) -> None:
    def change(content: dict) -> None:
        first, second = scene.rng.sample(content['annotations'], 2)
        first['id'] = second['id']

    scene.edit_json(annotations_of(scene), change)


@breaks('annotations', DETECTORS, EITHER)
def ids_that_are_text(scene: Scene) -> None:
    kind, key = scene.rng.choice((('images', 'image_id'), ('categories', 'category_id'), ('annotations', '')))

    def change(content: dict) -> None:
        for entry in content[kind]:
            entry['id'] = str(entry['id'])
        for entry in content['annotations'] if key else ():
            entry[key] = str(entry[key])

    scene.edit_json(annotations_of(scene), change)


@breaks('annotations', DETECTORS, ACCEPT)
def categories_in_another_order(scene: Scene) -> None:
    scene.edit_json(annotations_of(scene), lambda content: scene.rng.shuffle(content['categories']))


@annotated
def category_renamed(scene: Scene) -> None:
    def change(content: dict) -> None:
        entry = entry_of(scene, content, 'categories')
        entry['name'] = scene.rng.choice(
            ('other', entry['name'].upper(), entry['name'] + ' ', content['categories'][0]['name'] * 2)
        )

    scene.edit_json(annotations_of(scene), change)


@annotated
def annotations_that_are_no_json(scene: Scene) -> None:
    path = annotations_of(scene)
    content = path.read_bytes()
    path.write_bytes(scene.rng.choice((b'', content[: len(content) // 2], b'[]', b'null', b'\x1f\x8b' + content, b'3')))


labelled = breaks('label maps', SEGMENTERS)


def label_map_of(scene: Scene) -> Path:
    """One of the label maps that the command reads."""
    part = 'validation' if scene.reader == 'segmenter test' else scene.rng.choice(('training', 'validation'))
    return scene.pick(f'data/ade20k/annotations/{part}/*.png')


@labelled
def label_map_truncated(scene: Scene) -> None:
    path = label_map_of(scene)
    path.write_bytes(path.read_bytes()[: scene.rng.randrange(60, 120)])


@labelled
def label_map_missing(scene: Scene) -> None:
    label_map_of(scene).unlink()


@labelled
def label_map_of_another_size(scene: Scene) -> None:
    path = label_map_of(scene)
    with Image.open(path) as labels:
        labels.resize((32, 48), Image.Resampling.NEAREST).save(path)


@labelled
def label_map_in_colours(scene: Scene) -> None:
    path = label_map_of(scene)
    with Image.open(path) as labels:
        levels = np.asarray(labels)
    Image.fromarray(np.stack([levels * 20, 255 - levels, levels], -1).astype(np.uint8)).save(path)


@labelled
def label_too_large(scene: Scene) -> None:
    path = label_map_of(scene)
    with Image.open(path) as image:
        labels = np.array(image)
    labels[scene.rng.randrange(labels.shape[0])] = scene.rng.randrange(200, 254)
    Image.fromarray(labels).save(path)


@labelled
def label_map_of_16_bits_with_large_values(scene: Scene) -> None:
    path = label_map_of(scene)
    with Image.open(path) as image:
        labels = np.asarray(image).astype(np.uint16)
    Image.fromarray(labels * 256 + scene.rng.randrange(1, 9)).save(path)


@breaks('label maps', SEGMENTERS, ACCEPT)
def label_map_of_16_bits_with_small_values(scene: Scene) -> None:
    path = label_map_of(scene)
    with Image.open(path) as image:
        labels = np.asarray(image).astype(np.uint16)
    Image.fromarray(labels).save(path)


@labelled
def foreground_of_255(scene: Scene) -> None:
    """All label maps hold background and 255 only, which every part of mmseg ignores."""
    for path in scene.inputs.glob('data/ade20k/annotations/*/*.png'):
        with Image.open(path) as image:
            labels = np.asarray(image)
        Image.fromarray(np.where(labels > 1, 255, labels.clip(max=1)).astype(np.uint8)).save(path)


@breaks('label maps', SEGMENTERS)
def suffix_of_one_file_changed(scene: Scene) -> None:
    path = scene.rng.choice([label_map_of(scene), image_of(scene)])
    path.rename(path.with_suffix(path.suffix.upper()))


@labelled
def suffix_of_all_files_changed(scene: Scene) -> None:
    for path in list(scene.inputs.glob(f'data/ade20k/{scene.rng.choice(("images", "annotations"))}/*/*.*')):
        path.rename(path.with_suffix('.tif'))


@breaks('annotations', DETECTORS)
def annotations_of_another_set(scene: Scene) -> None:
    path = annotations_of(scene)
    content = json.loads(path.read_text())
    for entry in content['images']:
        entry['file_name'] = 'other_' + entry['file_name']
    path.write_text(json.dumps(content))
