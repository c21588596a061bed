"""ResNeSt-50 whose stages 2 to 4 convolve deformably, with modulation (Zhu et al., "Deformable ConvNets v2")."""
# Written by `make configs` from downstream_configs/_table_: change it there.

_base_ = './resnest50.py'
backbone = dict(dcn_stages=(1, 2, 3))
