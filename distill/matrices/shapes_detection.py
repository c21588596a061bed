"""A detector that trains four times as long teaches one whose backbone learned alone, on the embedded COCO-like scenes.

robust-backbones demo
robust-backbones transfer shapes_detection

The backbones are the demo's; the teacher's learned from a DeiT. Hardware: one CPU core and more.
Result: docs/transfer_dense.md.
"""

data_root = 'work_dirs/demo/data/coco'
students = dict(robust='cascade-rcnn_robust-resnet-dw_fpn_tiny_shapes-coco')
teachers = dict(longer=dict(config='cascade-rcnn_robust-resnet-dw_fpn_tiny_shapes-coco'))
backbones = dict(
    robust='work_dirs/demo/robust-alone/student_best.pth', longer='work_dirs/demo/robust-from-deit/student_best.pth'
)
features = [dict(type='pkd', on='neck', weight=6.0, strides=(4, 8, 16, 32))]
heads = [dict(type='rpn'), dict(type='roi')]
# The teacher's head on the student's maps is the two-stage form of CrossKD.
crossed = [*features, dict(type='crosskd_roi')]
losses = dict(features=features, heads=heads, both=[*features, *heads], crossed=crossed)
del features, heads, crossed
# A student alone on these images is the augmentation that clean teachers have to be better than.
corruptions = dict(augmix=dict(kinds=('augmix',)))
corrupted_losses = ('features', 'both')
seeds = (0, 1, 2)
epochs = dict(longer=16, robust=4)
# One kind of each group, none of which a student trains on; severities are made for larger images.
robustness = ('--corruptions', 'gaussian_noise', 'defocus_blur', 'fog', 'pixelate', '--severities', '1')
