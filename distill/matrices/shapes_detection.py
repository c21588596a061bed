"""A detector on a small ResNeSt teaches one on a small Robust-ResNet, on the embedded COCO-like scenes.

robust-backbones data data/shapes --sets coco --scene-size 128 --scenes-train 400 --scenes-val 100
robust-backbones transfer shapes_detection

Hardware: one CPU core and more. Cost: 19 trainings of minutes. Result: docs/transfer_dense.md.
"""

data_root = 'data/shapes/coco'
students = dict(robust='cascade-rcnn_robust-resnet-dw_fpn_tiny_shapes-coco')
teachers = dict(resnest=dict(config='cascade-mask-rcnn_resnest_fpn_tiny_shapes-coco'))
features = [dict(type='pkd', on='neck', weight=6.0, strides=(4, 8, 16, 32))]
heads = [dict(type='rpn'), dict(type='roi')]
losses = dict(features=features, heads=heads, both=[*features, *heads])
del features, heads
# A student alone on these images is the augmentation that clean teachers have to be better than.
corruptions = dict(augmix=dict(kinds=('augmix',)))
corrupted_losses = ('both',)
seeds = (0, 1, 2)
epochs = dict(resnest=6, robust=4)
# One kind of each group, none of which a student trains on; severities are made for larger images.
robustness = ('--corruptions', 'gaussian_noise', 'defocus_blur', 'fog', 'pixelate', '--severities', '1')
