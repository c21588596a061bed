"""What each engine makes of small detectors and segmenters: the table of docs/deploy_dense.md.

``python tests/downstream/scene_engine_table.py`` prints the table; with names of its models only their rows.
"""

import sys
import tempfile
from pathlib import Path

import torch
from PIL import Image
from random_scenes import config, picture, scene_of

from distill.downstream.graphs.deployed import resize_of, scene_graph, takes_any_size
from distill.engines import by_name
from distill.export.dense import ENGINES, REFUSED
from distill.export.dense_job import Job, ShownImage, largest_of
from distill.export.files import Wish

MODELS = {
    'Cascade R-CNN': 'det',
    'Cascade Mask R-CNN': 'mask',
    'DeepLabV3': 'seg',
    'UPerNet on Swin-T': 'deeplabv3/upernet_swin_tiny_shapes-ade20k.py',
}
"""Of random weights, by what `random_scenes.config` takes."""
QUICK = ('DeepLabV3',)
HEAD = ('model', *ENGINES, *REFUSED)
DIFFERS = 'it finds something else than the model'
SIZES = ((64, 64), (50, 90))


def row(name: str) -> list[str]:
    """What each engine takes of a model, verified on two pictures, or why it cannot."""
    scene = scene_of(config(MODELS[name]))
    cells = {engine: f'no: {reason}' for engine, reason in REFUSED.items()}
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f'{index}.png') for index in range(len(SIZES))]
        for path, size in zip(paths, SIZES, strict=True):
            Image.fromarray(picture(size)).save(path)
        torch.save({'state_dict': {}}, Path(folder, 'none.pth'))
        shown = [ShownImage.of(scene, path) for path in paths]
        graph = scene_graph(scene, True, None if takes_any_size(scene.network) else largest_of(shown))
        about = {'checkpoint': str(Path(folder, 'none.pth')), 'resize': resize_of(scene.config, scene.steps)}
        job = Job(scene, graph, shown, Wish(ENGINES, threads=1), {**about, 'images': folder})
        for engine in map(by_name, ENGINES):
            try:
                made = job.make(engine, Path(folder, f'model{engine.suffix}'), Path(folder))
            except ValueError as error:
                # How much differs is another number on another processor.
                cells[engine.name] = f'no: {DIFFERS if DIFFERS in str(error) else error}'
                continue
            images = 'any batch' if made.manifest.batch is None else 'one image'
            cells[engine.name] = f'{images}, {"any size" if graph.largest is None else "up to one size"}'
    return [name, *(cells[one] for one in HEAD[1:])]


def line(cells: list[str] | tuple[str, ...]) -> str:
    """A row of a table in Markdown."""
    return f'| {" | ".join(cells)} |'


if __name__ == '__main__':
    torch.set_num_threads(1)
    print(line(HEAD), line(['---'] * len(HEAD)), sep='\n')
    for one in sys.argv[1:] or MODELS:
        print(line(row(one)), flush=True)
