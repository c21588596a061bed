"""A detector on a small ResNeSt teaches one on a small Robust-ResNet, on BCCD's blood cells.

robust-backbones transfer bccd_detection --data-root PATH_OF_bccd_coco

Hardware: one CPU core and more. Cost: not measured.
"""

_base_ = './shapes_detection.py'

backbones = dict(_delete_=True)
data_root = 'data/bccd_coco'
students = dict(robust='cascade-rcnn_robust-resnet-dw_fpn_tiny_bccd')
teachers = dict(_delete_=True, resnest=dict(config='cascade-rcnn_resnest_fpn_tiny_bccd'))
epochs = dict(_delete_=True, resnest=12, robust=8)
