"""The corruptions of ImageNet-C, on the fly, for images of any size from 32 pixels.

The definition is ``make_imagenet_c.py`` of Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to
Common Corruptions and Perturbations", ICLR'19 (https://github.com/hendrycks/robustness): its constants, its
formulas, its casts to uint8. Deterministic kinds give its grey levels, random kinds its distribution. The original
knows images of 224 pixels only; other sizes are corrupted as by its port to any size, imagecorruptions-imaug. Original
and port differ in places. Here

- elastic_transform is the original's, its lengths in proportion to the shorter side, and frost is the original's:
  both become the port's with ``definition='imagecorruptions'``;
- motion_blur and snow are the port's, which does without ImageMagick and its rounding between the steps, except
  that the edge is repeated as far as the blur reaches, where the port darkens images of less than 41 pixels.

The published ImageNet-C is, in addition, stored as JPEG of quality 85, which is not done here: a score on images that
are corrupted on the fly is no score on the published ones.
"""

from distill.base.records import DEFINITIONS, EXTRA_KINDS, KINDS, SEVERITIES
from distill.corruptions.frost import frost_source
from distill.corruptions.table import DETERMINISTIC, check_choices, corrupt, generator

__all__ = [
    'DEFINITIONS',
    'DETERMINISTIC',
    'EXTRA_KINDS',
    'KINDS',
    'SEVERITIES',
    'check_choices',
    'corrupt',
    'frost_source',
    'generator',
]
