"""UPerNet narrow enough for CPU cores, for the ten classes of the embedded scenes."""

_base_ = './upernet.py'
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    data_preprocessor=dict(size=(96, 96)),
    decode_head=dict(channels=64, num_classes=10, norm_cfg=norm_cfg, loss_decode=dict(avg_non_ignore=True)),
    auxiliary_head=dict(channels=64, num_classes=10, norm_cfg=norm_cfg, loss_decode=dict(avg_non_ignore=True)),
)
