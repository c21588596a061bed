"""Whether weights fit a network: names, shapes and values."""

from collections.abc import Mapping

import torch
from torch import nn

from backbones.weights.names import first_of
from backbones.weights.openmmlab_names import classifier_names


def check_finite(weights: Mapping[str, torch.Tensor], network: nn.Module, source: str) -> None:
    """Check that weights are numbers. Of buffers, masks may be infinite.

    Raises:
        ValueError: A tensor has NaN, or a parameter an infinite value.
    """
    parameters = {name for name, _ in network.named_parameters()}
    for name, value in weights.items():
        if value.is_floating_point():
            bad = ~value.isfinite() if name in parameters else value.isnan()
            if bad.any():
                raise ValueError(
                    f'{source} has NaN or infinite values: {int(bad.sum())} of {value.numel()} in {name}; '
                    'take a checkpoint from before its training went wrong'
                )


def fit_weights(
    network: nn.Module, weights: Mapping[str, torch.Tensor], source: str, resample_stem: bool = False
) -> Mapping[str, torch.Tensor]:
    """Weights whose patchify stem has the patch size of the network.

    A model of another patch size is another model, with other strides and costs: it is an error unless asked for.

    Args:
        network: Takes the weights.
        weights: Tensors by name.
        source: Names the weights in the error.
        resample_stem: Interpolate a stem of another patch size.

    Raises:
        ValueError: The patch sizes differ and ``resample_stem`` is False, or it is True for a network that has no
            patchify stem to resample.
    """
    own_way = getattr(network, 'fit_weights', None)
    if own_way is not None:
        return own_way(weights, source, resample_stem)
    if resample_stem:
        raise ValueError(
            f'resample_stem=True is not available with {type(network).__name__}; leave it out, only the patchify stem '
            'of a Robust-ResNet is resampled'
        )
    return weights


def load_all(network: nn.Module, weights: Mapping[str, torch.Tensor], source: str, name: str) -> None:
    """Load weights that must fit one by one: no name missing or left over, no other shape.

    Args:
        network: Takes the weights.
        weights: Tensors by name.
        source: Names the weights in the error.
        name: Names the network in the error.

    Raises:
        ValueError: Names are missing or left over, or shapes differ.
    """
    own = network.state_dict()
    missing = sorted(own.keys() - weights.keys())
    unexpected = sorted(weights.keys() - own.keys())
    shapes = [
        f'{k} is {tuple(weights[k].shape)} and should be {tuple(own[k].shape)}'
        for k in own
        if k in weights and own[k].shape != weights[k].shape
    ]
    if missing or unexpected or shapes:
        problems = [f'{len(missing)} missing ({first_of(missing)})'] if missing else []
        problems += [f'{len(unexpected)} unexpected ({first_of(unexpected)})'] if unexpected else []
        problems += [f'{len(shapes)} of another shape ({first_of(shapes)})'] if shapes else []
        if missing and not unexpected and not shapes and set(missing) == set(classifier_names(network)):
            raise ValueError(
                f'{source} is a backbone without a classifier ({first_of(missing)}), as of a detector or a segmenter; '
                'take it as a student or a backbone, or give a checkpoint of a classifier'
            )
        classes = None if missing or unexpected else other_num_classes(network, weights)
        way_out = (
            f"give num_classes={classes}, as in '{name},num_classes={classes}@FILE'"
            if classes is not None
            else 'name the model it was saved from'
        )
        raise ValueError(f'{source} does not fit {name}: {"; ".join(problems)}; {way_out}')
    network.load_state_dict(weights)


def other_num_classes(network: nn.Module, weights: Mapping[str, torch.Tensor]) -> int | None:
    """The number of classes of weights that differ from a network in nothing else; None if other things differ."""
    head = classifier_names(network)
    differ = {k: weights[k] for k, v in network.state_dict().items() if k in weights and v.shape != weights[k].shape}
    counts = {v.shape[0] for v in differ.values() if v.dim()}
    return counts.pop() if len(counts) == 1 and all(k in head for k in differ) else None
