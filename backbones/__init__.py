"""Importing this package puts its models into timm's registry: ``timm.create_model`` then knows their names.

`load` makes a model of whatever a user has.
"""

from backbones import robust_resnet as robust_resnet
from backbones.loading import LoadedModel as LoadedModel
from backbones.loading import load as load
from backbones.relatives import cbam_resnet as cbam_resnet
from backbones.relatives import coatnet as coatnet
from backbones.relatives import condensenet as condensenet
from backbones.relatives import convnext_roadmap as convnext_roadmap
from backbones.relatives import deit_conv_stem as deit_conv_stem
from backbones.relatives import resnest_fast as resnest_fast
from backbones.relatives import shake_shake as shake_shake
from backbones.relatives import shufflenet_v1 as shufflenet_v1
from backbones.relatives import wide_resnet_cifar as wide_resnet_cifar
