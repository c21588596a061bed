"""Stand-ins for mmcv's compiled operators, on torchvision's kernels and plain tensor code.

    from backbones.mmcv_ops import install

    install()  # before anything imports mmcv.ops

This package knows mmcv, torch and torchvision only.
"""

from backbones.mmcv_ops.extension import install as install
