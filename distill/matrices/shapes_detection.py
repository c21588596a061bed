"""The demo's detector teaches one on a backbone that learned alone, in less time, on the embedded COCO-like scenes.

robust-backbones demo
robust-backbones transfer shapes_detection

The teacher's backbone learned from a DeiT. Hardware: one CPU core and more. Result: docs/transfer_dense.md.
"""

data_root = 'work_dirs/demo/data/coco'
students = dict(robust='cascade-rcnn_robust-resnet-dw_fpn_tiny_shapes-coco')
teachers = dict(
    demo=dict(
        config='cascade-rcnn_robust-resnet-dw_fpn_tiny_shapes-coco',
        checkpoint='work_dirs/demo/cascade_rcnn/epoch_4.pth',
    ),
)
backbones = dict(robust='work_dirs/demo/robust-alone/student_best.pth')
features = [dict(type='pkd', on='neck', weight=6.0, strides=(4, 8, 16, 32))]
heads = [dict(type='rpn'), dict(type='roi')]
losses = dict(features=features, heads=heads, both=[*features, *heads])
del features, heads
# A student alone on these images is the augmentation that clean teachers have to be better than.
corruptions = dict(augmix=dict(kinds=('augmix',)))
corrupted_losses = ('both',)
seeds = (0, 1, 2)
epochs = 2
# One kind of each group, none of which a student trains on; severities are made for larger images.
robustness = ('--corruptions', 'gaussian_noise', 'defocus_blur', 'fog', 'pixelate', '--severities', '1')
