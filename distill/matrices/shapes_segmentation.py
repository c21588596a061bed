"""A segmenter on a small ResNeSt teaches one on a small Robust-ResNet, on the embedded ADE20K-like scenes.

robust-backbones data data/shapes --sets ade20k --scene-size 128 --scenes-train 400 --scenes-val 100
robust-backbones transfer shapes_segmentation

Hardware: one CPU core and more. Cost: 19 trainings of minutes. Result: docs/transfer_dense.md.
"""

_base_ = './shapes_detection.py'

data_root = 'data/shapes/ade20k'
students = dict(_delete_=True, robust='deeplabv3_robust-resnet-dw_tiny_shapes-ade20k')
teachers = dict(_delete_=True, resnest=dict(config='deeplabv3_resnest_tiny_shapes-ade20k'))
features = [dict(type='cwd', on='head', weight=10.0)]
heads = [dict(type='cwd', on='logits', temperature=4.0, weight=3.0)]
losses = dict(_delete_=True, features=features, heads=heads, both=[*features, *heads])
del features, heads
epochs = None
iters = dict(resnest=600, robust=400)
