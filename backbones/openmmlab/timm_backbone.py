"""Any timm model as a backbone for mmdet and mmseg."""

import functools
import inspect
import math
import re
from collections.abc import Sequence
from typing import Any

import timm
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn

import backbones  # noqa: F401 - registers this project's models
from backbones.checkpoint import read_weights_for, without_weights
from backbones.layers.depthwise import speed_up_depthwise
from backbones.meta import without_storage
from backbones.openmmlab.arguments import check_arguments, unknown_argument
from backbones.openmmlab.deformable import can_deform, deform_convolutions
from backbones.openmmlab.input_sizes import Native, NeedsValues, find_way
from backbones.openmmlab.layer_groups import layer_groups
from backbones.openmmlab.map_sized import follow_map_sizes
from backbones.sources.found import find_model
from backbones.weights.fit import fit_weights, load_all

__all__ = ['TimmBackbone']

SIZE_OPTIONS = ({'dynamic_img_size': True}, {'strict_img_size': False})
"""Options by which timm's fixed-size transformers (ViT-like, Swin-like) take any input size."""


@MODELS.register_module()
class TimmBackbone(BaseModule):
    """A timm model that returns the feature maps of some of its stages.

    Parameters keep timm's names: ``backbone.net.<timm's name>`` in the state dict of a detector. Inputs are padded
    right and below to a multiple of the largest stride, since a patchify stem would drop rows and columns that do not
    fill a patch; each map is then cut to the ceil(size / stride) pixels that a padded convolution returns.

    Args:
        model: timm's name of the model, or another source that `backbones.sources` lists. May be left out for a
            ``checkpoint`` that names its model, as this project's students do.
        out_indices: Entries of the model's ``feature_info`` to return, in the order of the network. The default fits
            models with stages; plain transformers have one entry per block, and (2, 5, 8, 11) is usual.
        checkpoint: The weights, a file, ``NAME@FILE`` or a folder: timm's, torchvision's, this project's, the official
            RobustCNN's, or a checkpoint of mmengine with the model in it. The classifier's weights are ignored, all
            others must fit.
        checkpoint_prefix: Beginning of the names of the model's tensors in the checkpoint. By default ``student.``,
            ``backbone.net.`` and ``backbone.`` are found.
        resample_stem: Interpolate the patchify stem of a Robust-ResNet's checkpoint to the ``patch_size`` given here;
            otherwise a stem of another patch size is an error.
        pretrained: Take timm's pretrained weights.
        frozen_stages: Keep the stem (0) and this many of the groups after it unchanged and in eval mode; -1 freezes
            nothing. Groups are those of ``group_matcher(coarse=True)``: stages, or blocks of a plain transformer.
        norm_eval: Keep the statistics of all batch norms unchanged.
        sync_bn: Let all processes of a run share the statistics of their batch norms. mmengine's own ``sync_bn``
            would lose the activations that timm's norms carry.
        with_cp: Recompute activations in the backward pass instead of storing them.
        drop_path_rate: Drop path of the last block; ``None`` leaves it to the model.
        output_stride: Largest stride, for models that can trade strides for dilation; ``None`` leaves it to
            the model.
        dcn_stages: Stages, counted from 0 after the stem, whose 3×3 convolutions become modulated deformable ones.
        strides: Strides that the maps must have; None accepts any.
        model_kwargs: Further arguments of ``timm.create_model``.

    Attributes:
        channels: Channels of each map.
        strides: Stride of each map, in pixels of the input.

    Raises:
        ValueError: The model is unknown, or has no such stage, option or output stride, no 3×3 convolution in a stage
            of ``dcn_stages``, or other strides than ``strides``; or the checkpoint does not fit the model.
        FileNotFoundError: There is no checkpoint at this path.
    """

    def __init__(
        self,
        model: str | None = None,
        out_indices: Sequence[int] = (-4, -3, -2, -1),
        checkpoint: str | None = None,
        checkpoint_prefix: str | None = None,
        pretrained: bool = False,
        resample_stem: bool = False,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        sync_bn: bool = False,
        with_cp: bool = False,
        drop_path_rate: float | None = None,
        output_stride: int | None = None,
        dcn_stages: Sequence[int] = (),
        strides: Sequence[int] | None = None,
        **model_kwargs,
    ):
        super().__init__()
        check_arguments(model, checkpoint, pretrained, model_kwargs)
        model_kwargs.pop('init_cfg', None)
        if checkpoint is not None and pretrained:
            raise ValueError(f'checkpoint {str(checkpoint)!r} and pretrained=True exclude each other; choose one')
        found = find_model(model, checkpoint, pretrained, **model_kwargs)
        model, model_kwargs = found.record.model, dict(found.record.model_kwargs)
        if found.file is None and found.source.path is not None and (checkpoint is not None or pretrained):
            raise ValueError(without_weights(found))
        if drop_path_rate is not None:
            if not 0 <= drop_path_rate <= 1:
                raise ValueError(f'drop_path_rate {drop_path_rate} is no probability; choose from 0 to 1')
            model_kwargs['drop_path_rate'] = drop_path_rate
        if output_stride is not None:
            model_kwargs['output_stride'] = output_stride

        plan, model_kwargs = _plan(model, model_kwargs)
        out_indices = _chosen(model, plan.feature_info, out_indices)
        self._out_indices = out_indices
        # Any: no class holds timm's contract for all of its models.
        self.net: Any = speed_up_depthwise(_create(model, found.pretrained, model_kwargs))
        self._way = _find_way(model, plan, model_kwargs, out_indices, self.net)
        self.seen_kinds: list[str] | None = None
        if found.file is not None:
            self.seen_kinds = found.record.seen_kinds
            weights, source, _ = read_weights_for(self.net, found, checkpoint_prefix)
            fitted = fit_weights(self.net, _without_classifier(weights, self.net), source, resample_stem)
            load_all(self.net, fitted, source, model)
        self._deform(dcn_stages)
        if sync_bn:
            self.net = convert_sync_batchnorm(self.net)
        if with_cp:
            self._checkpoint_gradients(model)
        self.norm_eval = norm_eval
        self._freeze(frozen_stages)
        info = self.net.feature_info
        self.channels = tuple(info[i]['num_chs'] for i in out_indices)
        self.strides = self._way.strides
        # Layers after the last chosen map would have no gradient, which stops a distributed run.
        self.net.prune_intermediate_layers(out_indices, prune_norm=True, prune_head=True)
        self._way.attach(self.net)
        if strides is not None and tuple(strides) != self.strides:
            raise ValueError(f'strides={tuple(strides)} are given but the maps of {model} have strides {self.strides}')

    def _checkpoint_gradients(self, model: str) -> None:
        try:
            self.net.set_grad_checkpointing(True)
        except AssertionError:  # timm's error for models that cannot
            raise ValueError(f'with_cp is not available with {model}; leave it out') from None

    def _deform(self, stages: Sequence[int]) -> None:
        _check_indices('dcn_stages', stages)
        if any(stage < 0 for stage in stages):
            raise ValueError(f'dcn_stages {list(stages)} count from 0 after the stem; choose 0, 1, 2, …')
        convolutions = [name for name, module in self.net.named_modules() if stages and can_deform(module)]
        groups = self._groups(coarse=True)
        by_stage = {stage: [name for name in convolutions if groups[f'{name}.weight'] == stage + 1] for stage in stages}
        for stage, names in by_stage.items():
            if not names:
                there = sorted({groups[f'{name}.weight'] - 1 for name in convolutions} - {-1})
                raise ValueError(
                    f'dcn_stages: stage {stage} has no 3×3 convolution; '
                    + (f'those with some are {there}' if there else 'no stage of this model has; drop dcn_stages')
                )
            deform_convolutions(self.net, names)

    def _groups(self, coarse: bool) -> dict[str, int]:
        return layer_groups(self.net, coarse)

    @functools.cached_property
    def _layers(self) -> dict[str, int]:
        return self._groups(coarse=False)

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """The layer of a parameter, for a learning rate that decays by layers.

        Args:
            param_name: Name of a parameter, such as ``backbone.net.stages.0.blocks.1.conv1.weight``.
            prefix: Beginning of the name of each parameter of this backbone, such as ``backbone.``.

        Returns:
            The layer by the `group_matcher`, counted from 0 for the stem, and the number of layers, of which the last
            one holds neck and heads.

        Raises:
            ValueError: This backbone has no such parameter.
        """
        groups = self._layers
        name = param_name.removeprefix(prefix).removeprefix('net.')
        if name not in groups or not param_name.startswith(prefix):
            raise ValueError(f"'{param_name}' is no parameter of this backbone under the prefix '{prefix}'")
        return groups[name], max(groups.values()) + 2

    def _freeze(self, frozen_stages: int) -> None:
        groups = self._groups(coarse=True)
        last = max(groups.values())
        if type(frozen_stages) is not int or not -1 <= frozen_stages <= last:
            raise ValueError(f'frozen_stages {frozen_stages!r} is not available; choose from -1 (none) to {last}')
        for name, parameter in self.net.named_parameters():
            if groups[name] <= frozen_stages:
                parameter.requires_grad_(False)

    def train(self, mode: bool = True) -> 'TimmBackbone':
        """Set training mode, except for frozen layers and, with ``norm_eval``, batch norms."""
        super().train(mode)
        # mmengine's loop of iterations calls this before each one, and mostly all are trained.
        if not mode or (not self.norm_eval and all(x.requires_grad for x in self.net.parameters())):
            return self
        for module in self.net.modules():
            parameters = list(module.parameters())
            frozen = parameters and not any(parameter.requires_grad for parameter in parameters)
            if frozen or (self.norm_eval and isinstance(module, nn.modules.batchnorm._BatchNorm)):
                module.eval()
        return self

    def init_weights(self) -> None:
        """Keep the weights that timm made or loaded; mmengine calls this method when training starts."""
        self.is_init = True

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the feature maps.

        Args:
            x: Normalised images [B, 3, H, W], of any size.

        Returns:
            A map [B, channels[i], ceil(H / strides[i]), ceil(W / strides[i])] for each of ``out_indices``.
        """
        return self._way.maps(self.net, x, functools.partial(_forward, self._out_indices))


def _forward(out_indices: list[int], network: Any, x: Tensor) -> list[Tensor]:
    return network.forward_intermediates(
        x, indices=out_indices, output_fmt='NCHW', intermediates_only=True, stop_early=True
    )


def _plan(model: str, model_kwargs: dict) -> tuple[Any, dict]:
    """The model without storage and without classifier, and its arguments with those that let it take any size."""
    model_kwargs = {**model_kwargs, 'num_classes': 0}
    try:
        plan = _without_storage(model, model_kwargs)
    except TypeError as error:
        own = re.search(r"multiple values for keyword argument '(\w+)'", str(error))
        if own is not None:
            raise ValueError(f"{model} sets '{own[1]}' itself; leave it out or choose another model") from None
        unexpected = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if unexpected is None:
            raise
        raise unknown_argument(model, unexpected[1], inspect.signature(TimmBackbone).parameters) from None
    except AssertionError:
        if 'output_stride' not in model_kwargs:
            raise
        stride = model_kwargs['output_stride']
        raise ValueError(f'output_stride {stride} is not available with {model}; choose from 8, 16, 32') from None
    accepted = _accepted(plan)
    for option in SIZE_OPTIONS:
        if option.keys() <= accepted:
            model_kwargs = {**option, **model_kwargs}
    return plan, model_kwargs


def _accepted(network: nn.Module) -> set[str]:
    """The arguments of the network's class and of the classes that it inherits from."""
    return {name for cls in type(network).__mro__[:-1] for name in inspect.signature(cls).parameters}


def _create(model: str, pretrained: bool, model_kwargs: dict) -> nn.Module:
    network = timm.create_model(model, pretrained=pretrained, **model_kwargs)
    follow_map_sizes(network)
    return network


def _without_storage(model: str, model_kwargs: dict, img_size: tuple[int, int] | None = None) -> Any:
    with without_storage():
        return _create(
            model, False, model_kwargs if img_size is None else {**model_kwargs, 'img_size': img_size}
        ).eval()


def _find_way(model: str, plan: Any, model_kwargs: dict, out_indices: list[int], network: nn.Module) -> Native:
    info = plan.feature_info
    own = model_kwargs.get('img_size') or plan.pretrained_cfg['input_size'][-2:]
    build = functools.partial(_without_storage, model, model_kwargs)
    find = functools.partial(
        find_way,
        model,
        strides=[info[i]['reduction'] for i in out_indices],
        divisor=math.lcm(*(entry['reduction'] for entry in info)),
        own=(own, own) if isinstance(own, int) else tuple(own),
        channels=model_kwargs.get('in_chans', 3),
        forward=functools.partial(_forward, out_indices),
    )
    try:
        return find(build=build, build_sized=build if 'img_size' in _accepted(plan) else None)
    except NeedsValues:
        if next(network.parameters()).is_meta:  # nothing will be run
            return Native(find.keywords['strides'], find.keywords['divisor'])
        way = find(build=network.eval, build_sized=None)
        network.train()
        return way


def _chosen(model: str, info: Sequence[dict], out_indices: Sequence[int]) -> list[int]:
    _check_indices('out_indices', out_indices)
    wrong = [i for i in out_indices if not -len(info) <= i < len(info)]
    if wrong:
        raise ValueError(f'out_indices {wrong} are not in {model}, which has feature maps 0 to {len(info) - 1}')
    indices = [i % len(info) for i in out_indices]
    if not indices or indices != sorted(set(indices)):
        raise ValueError(
            f'out_indices are entries {indices} of {model}, but maps come once and in the order of the '
            f'network: give at least one, rising from 0 to {len(info) - 1}'
        )
    return indices


def _check_indices(what: str, indices: Sequence[int]) -> None:
    # A list of flags, as in mmdet's `stage_with_dcn`, would pass as stages 0 and 1.
    if not isinstance(indices, Sequence) or any(type(i) is not int for i in indices):
        raise ValueError(f'{what} {indices!r} is no list of stages; write their numbers, such as (1, 2, 3)')


def _without_classifier(weights: dict[str, Tensor], net: Any) -> dict[str, Tensor]:
    classifiers = net.pretrained_cfg.get('classifier') or ()
    classifiers = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers)
    prefixes = tuple(f'{name}.' for name in classifiers)
    return {key: value for key, value in weights.items() if not key.startswith(prefixes)}
