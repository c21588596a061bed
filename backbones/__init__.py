"""Importing this package puts its models into timm's registry."""

from backbones import robust_resnet as robust_resnet
