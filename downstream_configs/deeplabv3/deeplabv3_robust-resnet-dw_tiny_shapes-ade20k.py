"""DeepLabV3 on a small Robust-ResNet, the embedded ADE20K-like scenes.

python tools/make_data.py data/shapes --sets ade20k
python tools/train.py THIS_FILE --cfg-options model.backbone.checkpoint=work_dirs/STUDENT/student_best.pth

Hardware: 2 CPU cores. Cost: about 2 minutes. Target: mIoU ≥ 0.50 (this project's own).
"""

_base_ = [
    '../_base_/models/deeplabv3_tiny.py',
    '../_base_/datasets/shapes_segmentation.py',
    '../_base_/runtime_seg.py',
    '../_base_/schedules/seg_tiny.py',
]
default_hooks = dict(checkpoint=dict(interval=200))
