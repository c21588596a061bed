"""CamVid street scenes (11 classes, 480 × 360) in ADE20K's layout, at half size."""

_base_ = './shapes_segmentation.py'
data_root = 'data/camvid_ade'
classes = (
    'sky', 'building', 'pole', 'road', 'pavement', 'tree', 'sign_symbol', 'fence', 'car', 'pedestrian', 'bicyclist'
)  # fmt: skip
scale = (240, 180)
crop_size = (160, 192)
train_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='CheckSample'),
    dict(type='RandomResize', scale=scale, ratio_range=(0.9, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [dict(step, scale=scale) if step.type == 'Resize' else step for step in _base_.test_pipeline]
tta_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='CheckSample'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale=size, keep_ratio=True) for size in ((180, 135), (240, 180), (300, 225))],
            *_base_.tta_pipeline[-1].transforms[1:],
        ],
    ),
]
dataset = dict(data_root=data_root, metainfo=dict(classes=classes))
train_dataloader = dict(batch_size=4, dataset=dict(**dataset, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(**dataset, pipeline=test_pipeline))
test_dataloader = val_dataloader
