"""ResNeSt-50 whose stages 2 to 4 convolve deformably, with modulation (Zhu et al., "Deformable ConvNets v2")."""

_base_ = './resnest50.py'
backbone = dict(dcn_stages=(1, 2, 3))
