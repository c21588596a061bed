"""The embedded COCO-like scenes with boxes and masks. No augmented testing: mmdet does not merge masks."""

_base_ = './shapes_detection.py'
train_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow', hold_mib=32),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='CheckSample'),
    dict(type='Resize', scale={{_base_.scale}}, keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='Resize', scale={{_base_.scale}}, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='CheckSample'),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
tta_model = None
tta_pipeline = None
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(metric=['bbox', 'segm'])
test_evaluator = val_evaluator
