"""The small ResNeSt with deformable convolutions in its last two stages."""

_base_ = './tiny_resnest.py'
backbone = dict(dcn_stages=(2, 3))
