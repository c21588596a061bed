"""Importing this package puts its models into timm's registry."""

from backbones import cbam_resnet as cbam_resnet
from backbones import coatnet as coatnet
from backbones import condensenet as condensenet
from backbones import convnext_roadmap as convnext_roadmap
from backbones import deit_conv_stem as deit_conv_stem
from backbones import resnest_fast as resnest_fast
from backbones import robust_resnet as robust_resnet
from backbones import shake_shake as shake_shake
from backbones import shufflenet_v1 as shufflenet_v1
from backbones import wide_resnet_cifar as wide_resnet_cifar
