"""BCCD blood cells (3 classes, 640 × 480) in COCO's layout, at half size."""

_base_ = './shapes_detection.py'
data_root = 'data/bccd_coco'
classes = ('RBC', 'WBC', 'Platelets')
scale = (320, 240)
train_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='CheckSample'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='PackDetInputs'),
]
test_pipeline = [dict(step, scale=scale) if step.type == 'Resize' else step for step in _base_.test_pipeline]
tta_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='CheckSample'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale=size, keep_ratio=True) for size in ((240, 180), (320, 240), (400, 300))],
            *_base_.tta_pipeline[-1].transforms[1:],
        ],
    ),
]
dataset = dict(data_root=data_root, metainfo=dict(classes=classes))
# 205 images by two leave one, of which a batch norm behind a global mean (ResNeSt's) has one value a channel.
train_dataloader = dict(
    batch_size=2, batch_sampler=dict(drop_last=True), dataset=dict(**dataset, pipeline=train_pipeline)
)
val_dataloader = dict(batch_size=2, dataset=dict(**dataset, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + '/annotations/instances_val2017.json')
test_evaluator = val_evaluator
