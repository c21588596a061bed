"""The Robust-ResNet family: blocks, stems, the re-parameterised form, and the network with its entrypoints."""

from backbones.robust_resnet.robust_resnet import *  # noqa: F403 - the network and an entrypoint for each name
