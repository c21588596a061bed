"""Cascade Mask R-CNN on a small Robust-ResNet, the embedded COCO-like scenes.

python tools/make_data.py data/shapes --sets coco
python tools/train.py THIS_FILE --cfg-options model.backbone.checkpoint=work_dirs/STUDENT/student_best.pth

Hardware: 2 CPU cores. Cost: about 5 minutes. Target: box and mask mAP ≥ 0.30 (this project's own).
"""

_base_ = [
    '../_base_/models/cascade-mask-rcnn_tiny.py',
    '../_base_/datasets/shapes_instance.py',
    '../_base_/schedules/det_tiny.py',
    '../_base_/runtime_det.py',
]
