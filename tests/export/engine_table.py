"""What each engine makes of a small member of each family: the table of docs/deploy.md.

``python tests/export/engine_table.py`` prints the table; with names of models only their rows.
"""

import os
import sys
import tempfile

import timm
import torch
from torch import nn

import backbones  # noqa: F401 - registers this project's models
from backbones.checkpoint import fixed_size
from backbones.loading import load
from distill.export.export import export_classifier
from distill.export.files import Exported, ExportError, Wish

ROBUST = dict(dims=(8, 16, 24, 32), depths=(1, 1, 2, 1), kernel_size=3)
RESNET = dict(layers=(1, 1, 1, 1), channels=(8, 16, 32, 64))
VIT = dict(embed_dim=48, depth=2, num_heads=3, img_size=32)
STAGED = dict(dims=(8, 16, 32, 64), depths=(1, 1, 2, 1))
FAMILIES: dict[str, dict] = {
    'robust_resnet_dw_small': dict(patch_size=8, **ROBUST),
    'robust_resnet_inverted_dw_small': ROBUST,
    'robust_resnet_up_inverted_dw_small_rep': STAGED,
    'robust_resnet_down_inverted_dw_small': ROBUST,
    'resnet50': RESNET,
    'resnext50_32x4d': dict(cardinality=4, base_width=32, **RESNET),
    'wide_resnet50_2': RESNET,
    'seresnet50': RESNET,
    'legacy_seresnet18': {},
    'skresnet18': dict(layers=(1, 1, 1, 1)),
    'cbam_resnet50': dict(stem_width=8, **RESNET),
    'resnest50_fast_2s1x64d': dict(stem_width=8, **RESNET),
    'densenet121': dict(growth_rate=4, block_config=(1, 2, 2, 1)),
    'convnext_tiny': STAGED,
    'convnext_roadmap_moved_up': STAGED,
    'convmixer_1024_20_ks9_p14': {},
    'coatnet_0': dict(stem_width=16, dims=(32, 32, 64, 64), depths=(1, 1, 2, 1), img_size=64),
    'swin_tiny_patch4_window7_224': dict(
        embed_dim=16, depths=(1, 2, 1, 1), num_heads=(1, 1, 2, 2), img_size=64, window_size=2
    ),
    'deit_small_patch16_224': VIT,
    'deit_small_distilled_patch16_224': VIT,
    'deit_small_conv_stem_224': VIT,
    'wide_resnet28_10': dict(widen_factor=1, depth=10),
    'shake_shake26_2x32d': dict(width=8, depth=8),
    'condensenet74_g8': dict(depths=(2, 2, 2), growths=(8, 8, 16)),
    'shufflenet_v1_g3_x1_0': dict(width=0.2, depths=(1, 2, 1)),
}
"""A small member of each family: its timm name, and the arguments that make it small."""
EXECUTORCH = ('robust_resnet', 'resnet50', 'convnext_tiny', 'deit_small_patch16_224')
"""Members that are tried in ExecuTorch, which takes long to write a file."""
QUICK = ('robust_resnet_dw_small', 'deit_small_patch16_224')
ENGINES = ('onnx', 'openvino', 'mnn', 'torch', 'executorch')
HEAD = ('model', *ENGINES)
DIFFERS = 'differs from the model by'


def make(name: str) -> nn.Module:
    """A small model whose norms and layer scales do something."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=7, **FAMILIES[name]).eval()
    for module in model.modules():
        if getattr(module, 'running_mean', None) is not None:
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
        if isinstance(getattr(module, 'gamma', None), nn.Parameter):
            nn.init.uniform_(module.gamma, 0.5, 1.5)
    return model


def export(name: str, folder: str | os.PathLike, wish: Wish) -> list[Exported]:
    """Export a model, verified to 1e-4 in each engine."""
    network = make(name)
    size = FAMILIES[name].get('img_size') or (fixed_size(network) or (64, 64))[0]
    return export_classifier(load(network, input_size=size), folder, name, wish)


def row(name: str) -> list[str]:
    """What each engine takes of a model, verified to 1e-4 there, or why it cannot."""
    engines = ENGINES if name.startswith(EXECUTORCH) else ENGINES[:-1]
    with tempfile.TemporaryDirectory() as folder:
        try:
            exported, failures = export(name, folder, Wish(engines)), {}
        except ExportError as error:
            exported, failures = error.exported, error.failures
    cells = {}
    for one in exported:
        axes = one.manifest.dynamic
        sizes = 'any size' if 'height' in axes else 'one size'
        cells[one.manifest.engine] = f'{"any batch" if "batch" in axes else "one batch"}, {sizes}'
    for engine, reason in failures.items():
        # By how much is another number on another processor.
        cells[engine] = f'no: {"it differs by more than 1e-4" if DIFFERS in reason else reason}'
    return [f'`{name}`', *(cells.get(engine, 'not tried') for engine in ENGINES)]


def line(cells: list[str] | tuple[str, ...]) -> str:
    """A row of a table in Markdown."""
    return f'| {" | ".join(cells)} |'


if __name__ == '__main__':
    torch.set_num_threads(1)
    print(line(HEAD), line(['---'] * len(HEAD)), sep='\n')
    for one in sys.argv[1:] or FAMILIES:
        print(line(row(one)), flush=True)
