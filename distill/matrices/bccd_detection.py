"""A detector on a small ResNeSt teaches one on a small Robust-ResNet, on BCCD's blood cells.

robust-backbones transfer bccd_detection --data-root PATH_OF_bccd_coco

Nothing is pretrained; the teacher trains two and a half times as long as its students. Hardware: one CPU core and more.
Result: docs/transfer_dense.md.
"""

_base_ = './shapes_detection.py'

backbones = dict(_delete_=True)
data_root = 'data/bccd_coco'
students = dict(robust='cascade-rcnn_robust-resnet-dw_fpn_tiny_bccd')
teachers = dict(_delete_=True, resnest=dict(config='cascade-rcnn_resnest_fpn_tiny_bccd'))
# Losses on heads add nothing where detectors train as briefly: docs/transfer_dense.md.
losses = dict(_delete_=True, features=[dict(type='pkd', on='neck', weight=6.0, strides=(4, 8, 16, 32))])
corrupted_losses = ('features',)
epochs = dict(_delete_=True, resnest=5, robust=2)
# Real photographs, 640 × 480: a severity that is made for such sizes.
robustness = ('--corruptions', 'gaussian_noise', 'defocus_blur', 'fog', 'pixelate', '--severities', '3')
