"""What a checkpoint itself, or the file of settings beside it, tells of its model.

timm's training script writes ``arch`` and ``args`` into its checkpoints and ``args.yaml`` beside them; mmengine writes
the text of the whole config. Both are read as plain values: nothing in them is called, imported or followed.
"""

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import timm
import yaml

from backbones.hub.config import check_model_args
from backbones.weights.stand_ins import Inert

ARGS = 'args.yaml'
MOST_BYTES = 4 * 2**20
"""The most that is read of settings."""

RESNETS = {'ResNet': '', 'ResNetV1c': 'c', 'ResNetV1d': 'd', 'SEResNet': ''}
OWN = (
    *('model', 'checkpoint', 'checkpoint_prefix', 'pretrained', 'resample_stem', 'out_indices', 'frozen_stages'),
    *('norm_eval', 'sync_bn', 'with_cp', 'drop_path_rate', 'output_stride', 'dcn_stages', 'strides', 'type'),
)
"""Arguments of this project's students and of `TimmBackbone` that are none of the model's."""


def told_beside(path: Path) -> dict[str, Any]:
    """What timm's ``args.yaml`` in the folder of a checkpoint tells: fields of a `ModelRecord`, or nothing."""
    beside = path.parent / ARGS
    if not beside.is_file() or beside.stat().st_size > MOST_BYTES:
        return {}
    try:
        args = yaml.safe_load(beside.read_text(encoding='utf-8'))
    except (ValueError, yaml.YAMLError, RecursionError):
        return {}
    return _told_by_timm(args, str(beside)) if isinstance(args, dict) else {}


def told_inside(content: Any, source: str) -> dict[str, Any]:
    """What a checkpoint tells of its model: fields of a `ModelRecord`, as far as they are told.

    Args:
        content: What `read_checkpoint` has read.
        source: Names the checkpoint in an error.

    Raises:
        ValueError: It names arguments that are no model's, or a network whose weights mean something else in timm's.
    """
    if not isinstance(content, Mapping):
        return {}
    args = content.get('args')
    args = args.state if isinstance(args, Inert) else args
    if isinstance(args, dict) or isinstance(content.get('arch'), str):
        told = dict(args) if isinstance(args, dict) else {}
        if isinstance(content.get('arch'), str):
            told['model'] = content['arch']
        return _told_by_timm(told, source)
    meta = content.get('meta')
    if isinstance(meta, Mapping):
        return _told_by_mmengine(meta, source)
    return {}


def _told_by_timm(args: Mapping, source: str) -> dict[str, Any]:
    """What the arguments of timm's training script tell."""
    told: dict[str, Any] = {'model': args.get('model')}
    if not isinstance(told['model'], str):
        return {}
    own = args.get('model_kwargs')
    kwargs = {**own} if isinstance(own, Mapping) else {}
    names = {'num_classes': 'num_classes', 'in_chans': 'in_chans', 'gp': 'global_pool', 'bn_eps': 'bn_eps'}
    kwargs |= {ours: args[theirs] for theirs, ours in names.items() if args.get(theirs) is not None}
    told['model_kwargs'] = check_model_args(kwargs, source)
    told |= {
        name: list(args[name]) for name in ('mean', 'std', 'input_size') if isinstance(args.get(name), (list, tuple))
    }
    if 'input_size' not in told and isinstance(args.get('img_size'), int):
        told['input_size'] = [kwargs.get('in_chans', 3), args['img_size'], args['img_size']]
    told |= {name: args[name] for name in ('crop_pct', 'crop_mode', 'interpolation') if args.get(name)}
    config = timm.get_pretrained_cfg(told['model']) if timm.is_model(told['model'].partition('.')[0]) else None
    if config is not None:
        told.setdefault('crop_pct', config.crop_pct)
    return told


def _told_by_mmengine(meta: Mapping, source: str) -> dict[str, Any]:
    """What the config tells whose text stands in a checkpoint of mmengine's or mmcv's."""
    text = meta.get('cfg', meta.get('config'))
    config = literal_config(text) if isinstance(text, str) else {}
    told: dict[str, Any] = {}
    data = meta.get('dataset_meta')
    classes = data.get('classes') if isinstance(data, Mapping) else meta.get('CLASSES')
    if isinstance(classes, (list, tuple)) and all(isinstance(name, str) for name in classes):
        told['classes'] = list(classes)
    model = config.get('model')
    if not isinstance(model, dict):
        return told
    network = model.get('student') or model.get('backbone')
    if isinstance(network, dict):
        name, kwargs = _timm_name(network, source)
        head = model.get('head')
        if name and isinstance(head, dict) and isinstance(head.get('num_classes'), int):
            kwargs['num_classes'] = head['num_classes']
        told |= {'model': name, 'model_kwargs': check_model_args(kwargs, source)} if name else {}
    return told | _normalisation(model.get('data_preprocessor') or config.get('data_preprocessor'))


def _timm_name(network: Mapping, source: str) -> tuple[str | None, dict]:
    """timm's name and arguments of what a config calls its backbone or student, if timm has it."""
    kind, name, depth = network.get('type'), network.get('model'), network.get('depth')
    if kind in (None, 'TimmBackbone') and isinstance(name, str):
        return name, {key: value for key, value in network.items() if key not in OWN}
    if kind in ('TIMMBackbone', 'mmpretrain.TIMMBackbone') and isinstance(network.get('model_name'), str):
        return network['model_name'], {}
    last = str(kind).rpartition('.')[2]
    if last not in (*RESNETS, 'ResNeXt') or not isinstance(depth, int):
        return None, {}
    if network.get('style', 'pytorch') == 'caffe':
        raise ValueError(
            f"{source} is of a ResNet of style 'caffe', whose stride sits in another convolution than in timm's: the "
            "same weights would compute something else; take one of style 'pytorch'"
        )
    if last == 'ResNeXt':
        return f'resnext{depth}_{network.get("groups", 32)}x{network.get("base_width", 4)}d', {}
    return f'{"se" if last == "SEResNet" else ""}resnet{depth}{RESNETS[last]}', {}


def _normalisation(preprocessor: object) -> dict[str, Any]:
    """Mean and standard deviation in RGB's order, of values in [0, 1], as a config's preprocessor has them."""
    if not isinstance(preprocessor, dict):
        return {}
    # mmengine's are of values up to 255, this project's own of values up to 1.
    scale = 1 if preprocessor.get('type') == 'ViewPreprocessor' else 255
    told: dict[str, Any] = {}
    for name in ('mean', 'std'):
        value = preprocessor.get(name)
        if isinstance(value, Sequence) and len(value) == 3 and all(isinstance(one, (int, float)) for one in value):
            told[name] = [round(one / scale, 6) for one in value]
    if len(told) < 2:
        return {}
    is_rgb = scale == 1 or preprocessor.get('bgr_to_rgb') or preprocessor.get('to_rgb')
    return told if is_rgb else {'bgr': True}


def literal_config(text: str) -> dict[str, Any]:
    """The settings in the text of a config, as far as they are plain values; nothing is run.

    Args:
        text: Python assignments of literals, lists and ``dict(…)``, as mmengine dumps a config.

    Returns:
        Values by name, with None in the place of what is no plain value; nothing for a text that is no such config.
    """
    if len(text) > MOST_BYTES:
        return {}
    try:
        statements = ast.parse(text).body
        assigned = [one for one in statements if isinstance(one, ast.Assign) and isinstance(one.targets[0], ast.Name)]
        return {one.targets[0].id: _literal(one.value) for one in assigned if isinstance(one.targets[0], ast.Name)}
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        if not (isinstance(node.func, ast.Name) and node.func.id == 'dict') or node.args:
            return None
        return {one.arg: _literal(one.value) for one in node.keywords if one.arg is not None}
    if isinstance(node, ast.Dict):
        keys = [key.value if isinstance(key, ast.Constant) else None for key in node.keys]
        return {key: _literal(value) for key, value in zip(keys, node.values, strict=True)}
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_literal(one) for one in node.elts]
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None
