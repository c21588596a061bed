"""Linear layers of a network that is not trained, as 1×1 convolutions on a CPU.

torch gives linear layers to MKL and convolutions to oneDNN. A linear layer of tokens and a 1×1 convolution of a map in
``channels_last`` are the same product of the same memory, and on AMD's processors oneDNN is the faster of the two: two
cores of Zen 4 compute the layers of a DeiT-S at 193 to 214 GFLOP/s, with AVX-512 and with AVX2 alone, and with MKL at
160 to 186. The rule is fixed, so that a teacher answers with the same bits in each process of a run.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAST_WORK = 50_000_000
"""Multiply-adds from which on a layer is computed so, half a millisecond: the calls cost more than those of MKL."""


class FrozenLinear(nn.Linear):
    """A linear layer that is faster in fp32 on a CPU while nothing is trained; else `torch.nn.Linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """Map features [..., C] to [..., C']."""
        if x.dim() < 3 or x.numel() * self.out_features < LEAST_WORK or not _is_plain(x, self.weight):
            return super().forward(x)
        # Tokens [B, N, C] as maps [B, C, N, 1], which lie in memory as channels_last has them.
        maps = x.flatten(1, -2).contiguous().unsqueeze(2).permute(0, 3, 1, 2)
        y = F.conv2d(maps, self.weight[..., None, None], self.bias)
        return y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], self.out_features)


def _is_plain(x: Tensor, weight: Tensor) -> bool:
    """Whether torch itself computes on a CPU, in fp32, without a gradient, and has both libraries."""
    if x.device.type != 'cpu' or not x.dtype == weight.dtype == torch.float32:
        return False
    is_trained = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    is_recorded = torch.compiler.is_compiling() or torch.jit.is_tracing() or torch.is_autocast_enabled('cpu')
    return (
        not is_trained
        and not is_recorded
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkl.is_available()
    )


def speed_up_frozen(network: nn.Module) -> nn.Module:
    """Make the linear layers of a network that is not trained faster on a CPU.

    Args:
        network: Any model; its parameters and their names stay as they are.

    Returns:
        The same network; its linear layers are now `FrozenLinear`.
    """
    for module in network.modules():
        # Subclasses have a forward pass of their own.
        if type(module) is nn.Linear:
            module.__class__ = FrozenLinear
    return network
