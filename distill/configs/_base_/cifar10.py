"""CIFAR-10 as class folders, with a schedule of minutes on CPU cores."""

data_root = 'data/cifar10'
num_classes = 10
max_epochs = 10

train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='ViewSampler', shuffle=True),
    dataset=dict(
        type='Views',
        root=data_root,
        split='train',
        # Milder than timm's defaults, which ask for longer schedules.
        transform=dict(
            input_size=32,
            is_training=True,
            scale=(0.8, 1.0),
            ratio=(0.9, 1.1),
            color_jitter=0.2,
            interpolation='bicubic',
        ),
    ),
)
val_dataloader = dict(
    batch_size=100,
    num_workers=1,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='Views',
        root=data_root,
        split='val',
        transform=dict(input_size=32, interpolation='bicubic', crop_pct=1.0),
    ),
)
val_evaluator = dict(type='TopK')
test_dataloader = val_dataloader
test_evaluator = val_evaluator

model = dict(
    type='Distiller',
    losses=[dict(type='cross_entropy', label_smoothing=0.1)],
    data_preprocessor=dict(type='ViewPreprocessor'),
)

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05),
    constructor='TimmOptimWrapperConstructor',
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, begin=0, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, begin=1, end=max_epochs, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=2)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=64)
