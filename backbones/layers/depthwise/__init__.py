"""Wide depthwise convolutions, faster than torch's.

`module` is the layer that models get; `cpu` its weight gradient in fp32 on a CPU, computed in the way that `cpu_ways`
has measured; `operators` what it calls on CUDA:
torch's own way or the Triton kernels of `kernels`, by the rules or measurements of `choice`.
"""

from backbones.layers.depthwise.cpu import cut_kernel as cut_kernel
from backbones.layers.depthwise.cpu import weight_gradient as weight_gradient
from backbones.layers.depthwise.module import DepthwiseConv2d as DepthwiseConv2d
from backbones.layers.depthwise.module import speed_up_depthwise as speed_up_depthwise
