"""The places of an image that speak for the predicted class, by Grad-CAM or attention rollout.

Sources: Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks", ICCV 2017; Abnar and Zuidema,
"Quantifying Attention Flow in Transformers", ACL 2020.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

GRAD_CAM, ROLLOUT, NONE = 'Grad-CAM', 'attention rollout', 'none'


@dataclass(frozen=True)
class Attribution:
    """The predictions of a model for some images, and the evidence for them.

    Attributes:
        method: `GRAD_CAM`, `ROLLOUT`, or `NONE` where neither is defined and the maps are zero.
        maps: Maps [B, H', W'] of numbers from 0 on, coarser than the images.
        classes: Predicted classes [B].
        confidence: Probabilities of these classes [B].
    """

    method: str
    maps: Tensor
    classes: Tensor
    confidence: Tensor


def attribute(network: nn.Module, images: Tensor) -> Attribution:
    """Explain the predicted class of each image.

    The method is Grad-CAM at the last features. It is attention rollout where the head reads a class token only, so
    that no gradient reaches the places of the features.

    Args:
        network: A timm model in eval mode.
        images: Normalised images [B, 3, H, W].
    """
    with torch.no_grad(), recorded_attention(network) as attention:
        final, stages = network.forward_intermediates(images, indices=1)
    height, width = stages[-1].shape[-2:]
    final = final.detach().requires_grad_()
    with torch.enable_grad():
        logits = network.forward_head(final)
        gradient = torch.autograd.grad(logits.amax(dim=1).sum(), final)[0]
    features, gradient = (_places(x, height, width) for x in (final.detach(), gradient))
    confidence, classes = logits.detach().float().softmax(dim=1).max(dim=1)
    if gradient.any():
        return Attribution(GRAD_CAM, grad_cam(features, gradient), classes, confidence)
    if _rolls_out(attention, height * width):
        maps = attention_rollout(attention)[:, 0, -height * width :].reshape(-1, height, width)
        return Attribution(ROLLOUT, maps, classes, confidence)
    return Attribution(NONE, torch.zeros_like(features[:, 0]), classes, confidence)


def _rolls_out(attention: Sequence[Tensor], places: int) -> bool:
    """Whether every block mixes the same tokens: all places, and a class token before them."""
    sizes = {size for block in attention for size in block.shape[2:]}
    return len(sizes) == 1 and sizes.pop() > places


def _places(features: Tensor, height: int, width: int) -> Tensor:
    """A model's last features as [B, C, H, W], given as such, as [B, H, W, C], or as tokens behind extra tokens."""
    if features.ndim == 3:
        return features[:, -height * width :].mT.reshape(len(features), -1, height, width)
    return features if features.shape[-2:] == (height, width) else features.permute(0, 3, 1, 2)


@contextlib.contextmanager
def recorded_attention(network: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the attention probabilities [B, heads, N, N] of every block, the first block first.

    The hooks sit on the attention's dropout, as those of timm's `AttentionExtract`, which leaves them in the model and
    misses fused attention. Fused attention never holds the probabilities and is switched off within the block.
    """
    layers = [layer for layer in network.modules() if isinstance(getattr(layer, 'attn_drop', None), nn.Module)]
    fused = [layer for layer in layers if getattr(layer, 'fused_attn', False)]
    found: list[Tensor] = []
    hooks = [layer.attn_drop.register_forward_hook(lambda *call: found.append(call[-1])) for layer in layers]
    for layer in fused:
        layer.fused_attn = False
    try:
        yield found
    finally:
        for layer in fused:
            layer.fused_attn = True
        for hook in hooks:
            hook.remove()


def grad_cam(features: Tensor, gradients: Tensor) -> Tensor:
    """``ReLU(Σ_c α_c A_c)`` with ``α_c`` the mean over places of the class score's gradient.

    Args:
        features: Activations A [B, C, H, W].
        gradients: Gradients of the class score with respect to them [B, C, H, W].

    Returns:
        Maps [B, H, W].
    """
    weights = gradients.mean(dim=(2, 3), keepdim=True)
    return (weights * features).sum(dim=1).relu()


def attention_rollout(attention: Sequence[Tensor]) -> Tensor:
    """The share of each input token in each output token, if every block mixes tokens by its attention.

    ``R = Â_L … Â_1`` with ``Â = (mean over heads of A + I) / 2``.

    Args:
        attention: Attention probabilities [B, heads, N, N] of each block, the first block first.

    Returns:
        Shares [B, N, N]; rows sum to 1.
    """
    identity = torch.eye(attention[0].shape[-1], device=attention[0].device)
    rollout = identity.expand(len(attention[0]), -1, -1)
    for probabilities in attention:
        rollout = (probabilities.float().mean(dim=1) + identity) / 2 @ rollout
    return rollout
