"""DeepLabV3 on a small Robust-ResNet, the embedded ADE20K-like scenes.

python tools/make_data.py data/shapes --sets ade20k
python tools/train.py THIS_FILE --cfg-options model.backbone.checkpoint=work_dirs/STUDENT/student_best.pth

Hardware: 2 CPU cores. Cost: 0.5 M parameters, 0.1 s a step of 8 crops.
Target: mIoU ≥ 0.50 (this project's own).
"""
# Written by `make configs` from downstream_configs/_table_: change it there.

_base_ = [
    '../_base_/models/deeplabv3_tiny.py',
    '../_base_/backbones/tiny_robust-resnet-dw.py',
    '../_base_/datasets/shapes_segmentation.py',
    '../_base_/schedules/seg_tiny_taught.py',
    '../_base_/runtime_seg.py',
]
model = dict(
    backbone=dict(_base_.backbone, depths=(1, 1, 3, 1), output_stride=8, out_indices=(-4, -3, -2), strides=(4, 8, 8)),
    decode_head=dict(in_channels=_base_.channels[2]),
    auxiliary_head=dict(in_channels=_base_.channels[1]),
)
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            *_base_.train_pipeline[:4],
            dict(type='RandomCrop', crop_size=(64, 64)),
            *_base_.train_pipeline[5:],
        ]
    )
)
model.update(data_preprocessor=dict(size=(64, 64)))
default_hooks = dict(checkpoint=dict(interval=200))
model['decode_head'].update(dilations=(1, 3))
