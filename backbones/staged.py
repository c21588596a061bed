"""timm's contract for a network of a stem, stages, pooling and a linear classifier, written once.

Robust-ResNets, CondenseNet, Shake-Shake, ShuffleNet v1 and the wide ResNets for small images stand on `StagedNet`. The
other families are subclasses of timm's own networks and share the descriptions of a data set (`imagenet_cfg`) only.
"""

from collections.abc import Sequence
from typing import TypeVar

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import ClassifierHead
from timm.models import build_model_with_cfg, checkpoint_seq
from timm.models._features import feature_take_indices
from torch import nn

Network = TypeVar('Network', bound=nn.Module)

CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)


class Stage(nn.Sequential):
    """A run of blocks whose activations the backward pass can recompute (``grad_checkpointing``)."""

    def __init__(self, *blocks: nn.Module):
        super().__init__(*blocks)
        self.grad_checkpointing = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features [B, C, H, W] to those of the next stage."""
        if self.grad_checkpointing and not torch.jit.is_scripting():
            return checkpoint_seq(self, x)
        for block in self:
            x = block(x)
        return x


class StagedNet(nn.Module):
    """A network of stages that meets timm's whole contract.

    Args:
        stem: Layers before the stages.
        stages: Each a `Stage`, or a module with `Stage` modules in it.
        feature_info: timm's description of the output of each stage: ``num_chs``, ``reduction``, ``module``.
        norm: Layers between the last stage and the pooling, such as the last norm of a pre-activation network.
        num_classes: Classes; 0 leaves the classifier out.
        global_pool: timm's name of the pooling.
        drop_rate: Dropout before the classifier.

    Attributes:
        pretrained_cfg: timm's description of the variant, which ``build_model_with_cfg`` sets.
    """

    pretrained_cfg: dict

    def __init__(
        self,
        stem: nn.Module,
        stages: Sequence[nn.Module],
        feature_info: list[dict],
        norm: nn.Module | None = None,
        num_classes: int = 1000,
        global_pool: str = 'avg',
        drop_rate: float = 0.0,
    ):
        super().__init__()
        self.num_classes = num_classes
        self.drop_rate = drop_rate
        self.feature_info = feature_info
        self.num_features = self.head_hidden_size = feature_info[-1]['num_chs']
        self.stem = stem
        self.stages = nn.Sequential(*stages)
        self.norm = nn.Identity() if norm is None else norm
        self.head = ClassifierHead(self.num_features, num_classes, pool_type=global_pool, drop_rate=drop_rate)

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict:
        """Patterns that sort parameters into layers, stem to head: stages if coarse, otherwise blocks."""
        blocks = r'^stages\.(\d+)' if coarse else r'^stages\.(\d+)(?:\.blocks)?\.(\d+)'
        return dict(stem=r'^stem', blocks=[(blocks, None), (r'^norm', (99999,))])

    @torch.jit.ignore
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block's activations in the backward pass instead of keeping them."""
        for module in self.stages.modules():
            if isinstance(module, Stage):
                module.grad_checkpointing = enable

    @torch.jit.ignore
    def get_classifier(self) -> nn.Module:
        """The final linear layer."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier, and the pooling if one is named."""
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool)

    def forward_intermediates(
        self,
        x: torch.Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = 'NCHW',
        intermediates_only: bool = False,
    ):
        """Features of chosen stages.

        Args:
            x: Normalised images [B, 3, H, W].
            indices: Stages to return: the last n, a list of them, or all.
            norm: Apply the final norm to the last stage's features.
            stop_early: Leave out the stages after the last chosen one.
            output_fmt: ``NCHW``, the only one.
            intermediates_only: Return the list alone.

        Returns:
            The final features and the list of [B, C_i, H/s_i, W/s_i], or the list alone.

        Raises:
            ValueError: Another ``output_fmt``.
        """
        if output_fmt != 'NCHW':
            raise ValueError(f"output_fmt '{output_fmt}' is not available; choose NCHW")
        take_indices, max_index = feature_take_indices(len(self.stages), indices)
        last = len(self.stages) - 1
        intermediates = []
        x = self.stem(x)
        for i, stage in enumerate(self.stages[: max_index + 1] if stop_early else self.stages):
            x = stage(x)
            if i in take_indices:
                intermediates.append(self.norm(x) if norm and i == last else x)
        if intermediates_only:
            return intermediates
        return (self.norm(x) if i == last else x), intermediates

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop the stages after the last chosen one, and the norm and head if asked or if they no longer fit."""
        take_indices, max_index = feature_take_indices(len(self.stages), indices)
        shortened = max_index < len(self.stages) - 1
        self.stages = self.stages[: max_index + 1]
        self.num_features = self.head_hidden_size = self.feature_info[max_index]['num_chs']
        if prune_norm or shortened:
            self.norm = nn.Identity()
        if prune_head or shortened:
            self.head.reset(0, '', in_features=self.num_features)
            self.num_classes = 0
        return take_indices

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Map images [B, 3, H, W] to the final features [B, C, H/s, W/s]."""
        return self.norm(self.stages(self.stem(x)))

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Map features to logits [B, K], or to pooled features [B, C]."""
        return self.head(x, pre_logits=pre_logits)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map normalised images [B, 3, H, W] to logits [B, K]."""
        return self.forward_head(self.forward_features(x))


def imagenet_cfg(**kwargs) -> dict:
    """timm's description of a network for 224×224 images."""
    return {
        'num_classes': 1000,
        'input_size': (3, 224, 224),
        'pool_size': (7, 7),
        'crop_pct': 0.875,
        'interpolation': 'bicubic',
        'mean': IMAGENET_DEFAULT_MEAN,
        'std': IMAGENET_DEFAULT_STD,
        'first_conv': 'stem.0',
        'classifier': 'head.fc',
        **kwargs,
    }


def cifar_cfg(**kwargs) -> dict:
    """timm's description of a network for 32×32 images with a total stride of 4."""
    cifar = dict(
        num_classes=10,
        input_size=(3, 32, 32),
        pool_size=(8, 8),
        crop_pct=1.0,
        mean=CIFAR10_MEAN,
        std=CIFAR10_STD,
    )
    return imagenet_cfg(**{**cifar, **kwargs})


def build_staged(model_cls: type[Network], variant: str, pretrained: bool, num_stages: int = 3, **kwargs) -> Network:
    """Build a model as timm's entrypoints do; ``features_only`` returns the output of every stage.

    Args:
        model_cls: Class of the network; its stages are ``stages.0``, ``stages.1``, ….
        variant: timm name.
        pretrained: Load weights.
        num_stages: Stages of the network.
        kwargs: Arguments of the class and of ``timm.models.build_model_with_cfg``.
    """
    feature_cfg = dict(out_indices=tuple(range(num_stages)), flatten_sequential=True)
    return build_model_with_cfg(model_cls, variant, pretrained, feature_cfg=feature_cfg, **kwargs)
