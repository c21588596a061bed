"""The embedded COCO-like scenes with boxes (tools/make_data.py)."""

data_root = 'data/shapes/coco'
classes = (
    'arrow', 'bolt', 'circle', 'crescent', 'cross', 'heart', 'hourglass', 'square', 'star', 'triangle'
)  # fmt: skip
scale = (128, 128)
_base_ = './coco_detection.py'
train_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow', hold_mib=32),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='CheckSample'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='CheckSample'),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
tta_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='CheckSample'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale=size, keep_ratio=True) for size in ((96, 96), (128, 128), (160, 160))],
            *_base_.tta_pipeline[-1].transforms[1:],
        ],
    ),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        data_root=data_root,
        metainfo=dict(classes=classes),
        filter_cfg=dict(filter_empty_gt=True, min_size=0),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=10,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root=data_root, metainfo=dict(classes=classes), pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + '/annotations/instances_val2017.json')
test_evaluator = val_evaluator
