"""torchvision's own weights files, for the models that timm has too.

Where the two libraries name the tensors alike, the file loads as it is. Otherwise the tensors are paired in order, by
their part in a layer and their shape, and the pairing counts only if the two networks give equal logits: a mapping that
is wrong is refused and never loaded.
"""

import hashlib
import re
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn

EPS = {'bn_eps': 1e-3}
"""torchvision's batch norms of these models divide by a larger number than timm's."""

TWINS: dict[str, tuple[str, dict[str, Any]]] = {
    **{
        name: (name, {})
        for name in (
            *('resnet18', 'resnet34', 'resnet50', 'resnet101', 'resnet152', 'resnext50_32x4d', 'resnext101_32x8d'),
            *('resnext101_64x4d', 'wide_resnet50_2', 'wide_resnet101_2', 'inception_v3'),
            *(f'densenet{depth}' for depth in (121, 161, 169, 201)),
            *(f'vgg{depth}{norm}' for depth in (11, 13, 16, 19) for norm in ('', '_bn')),
            *(f'convnext_{size}' for size in ('tiny', 'small', 'base', 'large')),
            *(f'efficientnet_b{size}' for size in range(5)),
        )
    },
    **{f'efficientnet_b{size}': (f'efficientnet_b{size}', EPS) for size in (5, 6, 7)},
    **{f'efficientnet_v2_{size}': (f'efficientnetv2_{size}', EPS) for size in 'sml'},
    'mobilenet_v2': ('mobilenetv2_100', {}),
    **{f'mobilenet_v3_{size}': (f'mobilenetv3_{size}_100', EPS) for size in ('large', 'small')},
    **{f'mnasnet{ours}': (f'mnasnet_{timms}', {}) for ours, timms in (('0_5', '050'), ('0_75', '075'), ('1_0', '100'))},
    **{
        f'regnet_{kind}_{flops}': (f'regnet{kind}_{size}', {})
        for kind, flops, size in (
            *(('x', '400mf', '004_tv'), ('x', '800mf', '008'), ('y', '400mf', '004'), ('y', '800mf', '008_tv')),
            *((kind, flops, size) for kind in 'xy' for flops, size in (('1_6gf', '016'), ('3_2gf', '032'))),
            *((kind, flops, size) for kind in 'xy' for flops, size in (('16gf', '160'), ('32gf', '320'))),
            *(('x', '8gf', '080'), ('y', '8gf', '080_tv'), ('y', '128gf', '1280')),
        )
    },
    **{
        f'swin_{short}': (f'swin_{size}_patch4_window7_224', {})
        for short, size in (('t', 'tiny'), ('s', 'small'), ('b', 'base'))
    },
    **{
        f'swin_v2_{short}': (f'swinv2_{size}_window8_256', {})
        for short, size in (('t', 'tiny'), ('s', 'small'), ('b', 'base'))
    },
    **{
        f'vit_{short}': (f'vit_{size}_224', {})
        for short, size in (
            *(('b_16', 'base_patch16'), ('b_32', 'base_patch32'), ('l_16', 'large_patch16'), ('l_32', 'large_patch32')),
            ('h_14', 'huge_patch14'),
        )
    },
}
"""torchvision's names: timm's, and the arguments by which timm's model computes the same."""

LEFT_OUT = ('AuxLogits.',)
"""Beginnings of the names of tensors that are used in training only."""

ORDERS = (
    ('.f.', re.compile(r'(trunk_output\..*?)\.(proj|f)\.'), ('f', 'proj')),
    ('.cpb_mlp.', re.compile(r'(features\.\d+\.\d+)\.(norm1|attn|norm2|mlp)\.'), ('attn', 'norm1', 'mlp', 'norm2')),
)
"""Where blocks have the same parts in another order: a mark in the names, what names begin with, and timm's order."""

TOLERANCE = 1e-5
"""Largest difference of the logits, as a share of the largest of them."""


def twin(name: str) -> tuple[str, dict[str, Any]] | None:
    """timm's name and arguments of a model that is given by torchvision's name, if only torchvision knows that name."""
    return TWINS.get(name) if not timm.is_model(name) else None


def torchvision_name(name: str) -> str | None:
    """torchvision's name of a timm model, or None if torchvision does not have it."""
    return next((ours for ours, (timms, _) in TWINS.items() if timms == name.partition('.')[0]), None)


def identify(path: Path) -> dict[str, Any]:
    """What torchvision says of one of its own files, which is known by its hash.

    Args:
        path: Any file.

    Returns:
        Fields of a `ModelRecord`: timm's name, and size, crop and normalisation that torchvision tests with; nothing
        for another file.
    """
    with open(path, 'rb') as file:
        sha256 = hashlib.file_digest(file, 'sha256').hexdigest()
    for name, (timms, kwargs) in TWINS.items():
        for weights in torchvision.models.get_model_weights(name):
            # The name of each file ends in the first digits of its hash.
            if weights.url.rpartition('-')[2].partition('.')[0] == sha256[:8]:
                shown = _shown(name, weights.transforms())
                size = {'img_size': shown['input_size'][1]} if name.startswith('vit_') else {}
                return {'model': timms, 'model_kwargs': {**kwargs, **size}, **shown}
    return {}


def _shown(name: str, transform: Any) -> dict[str, Any]:
    side, resized = transform.crop_size[0], transform.resize_size[0]
    # inception_v3 itself turns what is normalised so into values between -1 and 1, which timm leaves to the input.
    mean, std = ([0.5] * 3, [0.5] * 3) if name == 'inception_v3' else (list(transform.mean), list(transform.std))
    return {
        'input_size': [3, side, side],
        'mean': mean,
        'std': std,
        'crop_pct': side / resized - 1e-9,  # timm rounds the resized side down
        'crop_mode': 'center',
        'interpolation': transform.interpolation.value,
    }


@torch.no_grad()
def map_names(
    weights: Mapping[str, Tensor], name: str, build: Callable[[int], nn.Module], source: str
) -> dict[str, Tensor]:
    """The tensors of a torchvision model under the names of timm's.

    Args:
        weights: Tensors by torchvision's names.
        name: torchvision's name of the model.
        build: Makes timm's model with a number of classes.
        source: Names the weights in the error.

    Returns:
        The tensors by timm's names; nothing if these are no weights of that torchvision model.

    Raises:
        ValueError: They are, and timm's model does not compute the same with them.
    """
    weights = {_modern(key): value for key, value in weights.items() if not key.startswith(LEFT_OUT)}
    original = _original(weights, name)
    if original is None:
        return {}
    network: Any = build(_classes(weights)).eval()
    own = network.state_dict()
    mapped = _pair(_in_timms_order(_split_qkv(weights, own)), own)
    error = f"{source} is of torchvision's {name}, which timm's {network.pretrained_cfg['architecture']}"
    if mapped is None:
        raise ValueError(f'{error} has no counterpart of all tensors of; name another model of timm')
    network.load_state_dict(mapped)
    side = getattr(original, 'image_size', network.pretrained_cfg['input_size'][-1])
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)) * 4 - 2
    expected, found = original(image), network(image)
    difference = float((expected - found).abs().max() / expected.abs().max().clamp(min=1e-12))
    if not difference <= TOLERANCE:
        arguments = ''.join(f',{key}={value}' for key, value in TWINS[name][1].items())
        way_out = f'give {TWINS[name][0]}{arguments}@FILE' if arguments else 'name another model of timm'
        raise ValueError(f'{error} does not compute (logits differ by {difference:.1g} of the largest); {way_out}')
    return mapped


def _modern(name: str) -> str:
    """The name that torchvision gives a tensor today, of one in a file from before."""
    name = re.sub(r'(\.denselayer\d+\.(?:norm|conv))\.(\d\.)', r'\1\2', name)
    return name.replace('.mlp.linear_1.', '.mlp.0.').replace('.mlp.linear_2.', '.mlp.3.')


def _classes(weights: Mapping[str, Tensor]) -> int:
    """The number of classes, by the last layer; 0 if there is none."""
    rows = [value.shape[0] for value in weights.values() if value.is_floating_point() and value.dim() == 2]
    return rows[-1] if rows else 0


def _original(weights: Mapping[str, Tensor], name: str) -> nn.Module | None:
    """torchvision's model with the weights, in eval mode, or None if they are no weights of that model."""
    kwargs: dict[str, Any] = {'num_classes': _classes(weights)}
    if not kwargs['num_classes']:
        return None
    if name == 'inception_v3':
        kwargs |= {'aux_logits': False, 'init_weights': False}
    position = weights.get('encoder.pos_embedding')
    if name.startswith('vit_') and position is not None:
        kwargs['image_size'] = round((position.shape[1] - 1) ** 0.5) * int(name.rpartition('_')[2])
    with torch.random.fork_rng(devices=[]):
        original = torchvision.models.get_model(name, weights=None, **kwargs).eval()
    own = original.state_dict()
    counters = {key: value for key, value in own.items() if key.endswith('num_batches_tracked')}
    weights = {**counters, **weights}  # files from before these were counted
    if own.keys() != weights.keys() or any(own[key].shape != weights[key].shape for key in own):
        return None
    state = OrderedDict(weights)
    state._metadata = original.state_dict()._metadata  # type: ignore[attr-defined]  # MNASNet asks for its version
    original.load_state_dict(state)
    return original


def _split_qkv(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Split the bias of query, key and value where timm has those of query and value alone, the key's being zero."""
    if not any(key.endswith('.q_bias') for key in own):
        return dict(weights)
    split = {}
    for key, value in weights.items():
        if key.endswith('.qkv.bias'):
            before = key.removesuffix('qkv.bias')
            split[f'{before}q_bias'], _, split[f'{before}v_bias'] = value.chunk(3)
        else:
            split[key] = value
    return split


def _in_timms_order(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put the parts of each block of a RegNet and of a Swin-V2 into the order in which timm has them."""
    order: tuple[str, ...]
    found = next((one for one in ORDERS if any(one[0] in name for name in weights)), None)
    if found is None:
        return dict(weights)
    _, pattern, order = found
    parts = {name: pattern.match(name) for name in weights}
    places = {name: part[1] if part else name for name, part in parts.items()}
    first = {place: number for number, place in reversed(list(enumerate(places.values())))}
    ranks = {name: order.index(part[2]) if part else 0 for name, part in parts.items()}
    return {name: weights[name] for name in sorted(weights, key=lambda name: (first[places[name]], ranks[name]))}


def _pair(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Pair tensors of the same part and shape in order; a linear layer and a convolution can be one and the same.

    Returns:
        The weights under the names of ``own``, or None where the numbers of a kind differ.
    """
    if weights.keys() == own.keys():
        return dict(weights)
    theirs, ours = _by_kind(weights), _by_kind(own)
    if {kind: len(names) for kind, names in theirs.items()} != {kind: len(names) for kind, names in ours.items()}:
        return None
    names = {our: their for kind in ours for our, their in zip(ours[kind], theirs[kind], strict=True)}
    mapped = {our: weights[their].reshape(own[our].shape) for our, their in names.items()}
    for key, value in own.items():  # counters of batch norms
        their = names.get(key.replace('num_batches_tracked', 'running_var'), '')
        mapped.setdefault(key, weights.get(their.replace('running_var', 'num_batches_tracked'), value))
    return mapped


def _by_kind(weights: Mapping[str, Tensor]) -> dict[tuple, list[str]]:
    kinds = defaultdict(list)
    for name, value in weights.items():
        if value.is_floating_point() and not name.endswith('relative_coords_table'):
            last = name.rpartition('.')[2]
            part = next((one for one in ('running_mean', 'running_var', 'weight', 'bias') if last.endswith(one)), '')
            kinds[part, value.shape[0], value.numel()].append(name)
    return kinds
