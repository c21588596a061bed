"""Arguments that `TimmBackbone` does not take, since timm's functions or other backbones do, and what is meant."""

import difflib
import os
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ['check_arguments', 'unknown_argument']

INHERITED = 'it comes from the backbone of the config below; write _delete_=True into the backbone to drop all of that'
MEANT = {
    'features_only': 'leave it out, a TimmBackbone always returns the maps of out_indices',
    'checkpoint_path': 'write checkpoint={value!r}',
    'ckpt_path': 'write checkpoint={value!r}',
    'weights': 'write checkpoint={value!r}',
    'load_from': 'write checkpoint={value!r}',
    'model_name': 'write model={value!r}',
    'arch': 'write model={value!r}',
    'architecture': 'write model={value!r}',
    'name': 'write model={value!r}',
    'variant': 'write model={value!r}',
    'in_channels': 'write in_chans={value!r}, as timm does',
    'drop_path': 'write drop_path_rate={value!r}',
    'use_checkpoint': 'write with_cp={value!r}',
    'grad_checkpointing': 'write with_cp={value!r}',
    'with_checkpoint': 'write with_cp={value!r}',
    'input_size': 'any size is taken; write img_size for the size that a model is built for',
    'pretrain_img_size': 'any size is taken; write img_size for the size that a model is built for',
    'out_features': 'write out_indices',
    'frozen_exclude': 'write frozen_stages',
    'dcn': 'write dcn_stages=(1, 2, 3) for the stages with deformable convolutions',
    'stage_with_dcn': 'write dcn_stages=(1, 2, 3) for the stages with deformable convolutions',
}
"""What each argument that no timm model takes should be, where it is not inherited."""
OF_OTHERS = (
    *('num_stages', 'norm_cfg', 'style', 'base_channels', 'stem_channels', 'act_cfg', 'deep_stem', 'plugins', 'extra'),
    *('zero_init_residual', 'contract_dilation', 'multi_grid', 'dilations', 'pad_norm', 'convert_weights'),
    *('transformer_norm_cfg', 'with_cls_token', 'gap_before_final_norm'),
)
"""Arguments of mmdet's and mmseg's backbones: where one is left, the rest of them is, such as ``depth``, which a
transformer of timm's takes."""


def check_arguments(model: Any, checkpoint: Any, pretrained: Any, arguments: Mapping[str, Any]) -> None:
    """Stop at arguments that no timm model takes.

    Args:
        model: Must be timm's name, or None.
        checkpoint: Must be a path, or None.
        pretrained: Must be True or False.
        arguments: Arguments beside those of `TimmBackbone`.

    Raises:
        ValueError: An argument is another library's; the message has the one that is meant.
    """
    who = f'TimmBackbone of {model}' if model else 'TimmBackbone'
    if model is not None and not isinstance(model, str):
        raise ValueError(f"model {model!r} is no name; write timm's, such as model='resnet50'")
    if checkpoint is not None and not isinstance(checkpoint, str | os.PathLike):
        raise ValueError(f"{who}: checkpoint {checkpoint!r} is no path; write pretrained=True for timm's weights")
    if isinstance(pretrained, str | os.PathLike):
        way_out = "pretrained=True for timm's weights" if '://' in str(pretrained) else f'checkpoint={pretrained!r}'
        raise ValueError(f'{who}: pretrained is {pretrained!r}; write {way_out}')
    inherited = [name for name in OF_OTHERS if name in arguments]
    if inherited:
        raise ValueError(f"{who} takes no '{inherited[0]}': {INHERITED}")
    init_cfg = arguments.get('init_cfg')
    if init_cfg is not None:
        source = init_cfg.get('checkpoint') if isinstance(init_cfg, Mapping) else None
        if source is None:
            raise ValueError(f"{who} takes no 'init_cfg'; leave it out, timm initialises its models")
        if '://' in str(source):
            raise ValueError(f"{who} takes no 'init_cfg'; write pretrained=True for timm's weights, not {source!r}")
        prefix = init_cfg.get('prefix')
        more = f', checkpoint_prefix={prefix!r}' if prefix else ''
        raise ValueError(f"{who} takes no 'init_cfg'; write checkpoint={source!r}{more}")
    for name, value in arguments.items():
        if name in MEANT:
            raise ValueError(f"{who} takes no '{name}'; {MEANT[name].format(value=value)}")


def unknown_argument(model: str, name: str, accepted: Iterable[str]) -> ValueError:
    """The error for an argument that the class of a model does not take."""
    close = difflib.get_close_matches(name, [other for other in accepted if other != name], n=1, cutoff=0.8)
    hint = f'did you mean {close[0]}? ' if close else ''
    return ValueError(
        f"{model} takes no '{name}'; {hint}leave it out or choose another model, and where it comes from the config "
        'below, write _delete_=True into the backbone'
    )
