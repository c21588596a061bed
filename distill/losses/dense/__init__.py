"""Distillation losses on feature maps and logits of detectors and segmenters, one family a file.

A parameterless loss is a function of the student's map [N, C, H, W] and the teacher's [N, C', H', W'] that returns a
scalar; one with trained parameters is a module that is made with the numbers of channels, with the same `forward`. They
compute in fp32 also under autocast. `DENSE_LOSSES` holds those that compare two maps, `NEEDS` what each asks for;
`DenseLoss` makes one a module, with the 1×1 convolution in front that it needs. `crosskd` holds parts for the
heads of detectors, which compare something else than maps.
"""

from distill.losses.dense.registry import DENSE_LOSSES, NEEDS, DenseLoss, Needs, check_dense_loss

__all__ = ['DENSE_LOSSES', 'NEEDS', 'DenseLoss', 'Needs', 'check_dense_loss']
