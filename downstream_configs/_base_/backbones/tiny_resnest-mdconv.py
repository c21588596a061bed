"""The small ResNeSt with deformable convolutions in its last two stages."""
# Written by `make configs` from downstream_configs/_table_: change it there.

_base_ = './tiny_resnest.py'
backbone = dict(dcn_stages=(2, 3))
