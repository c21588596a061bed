"""DeepLabV3 on a small Robust-ResNet, CamVid street scenes (11 classes, 480 × 360) in ADE20K's layout, at half size.

python tools/train.py THIS_FILE --data-root PATH_OF_camvid_ade

Hardware: 2 CPU cores. Cost: some minutes. Target: mIoU 0.41 on a CIFAR-10 backbone (docs/real_small.md).
"""

_base_ = './deeplabv3_robust-resnet-dw_tiny_shapes-ade20k.py'
data_root = 'data/camvid_ade'
classes = (
    'sky', 'building', 'pole', 'road', 'pavement', 'tree', 'sign_symbol', 'fence', 'car', 'pedestrian', 'bicyclist'
)  # fmt: skip
scale = (240, 180)
crop_size = (160, 192)
train_pipeline = [
    dict(type='LoadWholeImage'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='RandomResize', scale=scale, ratio_range=(0.9, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadWholeImage'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=4, dataset=dict(data_root=data_root, metainfo=dict(classes=classes), pipeline=train_pipeline)
)
val_dataloader = dict(dataset=dict(data_root=data_root, metainfo=dict(classes=classes), pipeline=test_pipeline))
test_dataloader = val_dataloader
model = dict(
    data_preprocessor=dict(size=crop_size),
    decode_head=dict(num_classes=11),
    auxiliary_head=dict(num_classes=11),
)
