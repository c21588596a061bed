"""The embedded ADE20K-like scenes (tools/make_data.py)."""

_base_ = './ade20k.py'
data_root = 'data/shapes/ade20k'
classes = (
    'arrow', 'bolt', 'circle', 'crescent', 'cross', 'heart', 'hourglass', 'square', 'star', 'triangle'
)  # fmt: skip
# Scenes of 128 pixels at three quarters of their size: shapes as large as in the pictures that a student learned from.
scale = (96, 96)
crop_size = (96, 96)
train_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow', hold_mib=32),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='CheckSample'),
    dict(type='RandomResize', scale=scale, ratio_range=(0.8, 1.25), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='CheckSample'),
    dict(type='PackSegInputs'),
]
tta_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='CheckSample'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale=size, keep_ratio=True) for size in ((72, 72), (96, 96), (120, 120))],
            *_base_.tta_pipeline[-1].transforms[1:],
        ],
    ),
]
dataset = dict(type='BaseSegDataset', data_root=data_root, metainfo=dict(classes=classes), reduce_zero_label=True)
train_dataloader = dict(
    batch_size=8, num_workers=0, persistent_workers=False, dataset=dict(**dataset, pipeline=train_pipeline)
)
val_dataloader = dict(
    batch_size=1, num_workers=0, persistent_workers=False, dataset=dict(**dataset, pipeline=test_pipeline)
)
test_dataloader = val_dataloader
