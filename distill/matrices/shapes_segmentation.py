"""The demo's segmenter teaches one on a backbone that learned alone, in less time, on the embedded ADE20K-like scenes.

robust-backbones demo
robust-backbones transfer shapes_segmentation

The teacher's backbone learned from a DeiT. Hardware: one CPU core and more. Result: docs/transfer_dense.md.
"""

_base_ = './shapes_detection.py'

data_root = 'work_dirs/demo/data/ade20k'
students = dict(_delete_=True, robust='deeplabv3_robust-resnet-dw_tiny_shapes-ade20k')
teachers = dict(
    _delete_=True,
    demo=dict(
        config='deeplabv3_robust-resnet-dw_tiny_shapes-ade20k', checkpoint='work_dirs/demo/deeplabv3/iter_850.pth'
    ),
)
backbones = dict(_delete_=True, robust='work_dirs/demo/robust-alone/student_best.pth')
features = [dict(type='cwd', on='head', weight=10.0)]
heads = [dict(type='cwd', on='logits', temperature=4.0, weight=3.0)]
losses = dict(_delete_=True, features=features, heads=heads, both=[*features, *heads])
del features, heads
corrupted_losses = ('both',)
epochs = None
iters = 400
