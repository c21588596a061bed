"""A segmenter on a small ResNeSt teaches one on a small Robust-ResNet, on CamVid's streets.

robust-backbones transfer camvid_segmentation --data-root PATH_OF_camvid_ade

Nothing is pretrained; the teacher trains four times as long as its students. Hardware: one CPU core and more.
Result: docs/transfer_dense.md.
"""

_base_ = './shapes_segmentation.py'

backbones = dict(_delete_=True)
data_root = 'data/camvid_ade'
students = dict(robust='deeplabv3_robust-resnet-dw_tiny_camvid')
teachers = dict(_delete_=True, resnest=dict(config='deeplabv3_resnest_tiny_camvid'))
iters = dict(_delete_=True, resnest=600, robust=150)
# Real photographs, 480 × 360: a severity that is made for such sizes.
robustness = ('--corruptions', 'gaussian_noise', 'defocus_blur', 'fog', 'pixelate', '--severities', '3')
