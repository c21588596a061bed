"""ImageNet with DeiT's 300-epoch recipe (Touvron et al., ICML 2021, table 9).

Meant for a total batch of 1024 (8 × 128), for which the learning rate is 5e-4 × 1024 / 512; ``--auto-scale-lr``
adapts it to another.
"""

data_root = 'data/imagenet'
num_classes = 1000

train_dataloader = dict(
    batch_size=128,
    num_workers=10,
    persistent_workers=True,
    drop_last=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='ViewSampler', shuffle=True),
    dataset=dict(
        type='Views',
        root=data_root,
        split='train',
        transform=dict(
            input_size=224,
            is_training=True,
            auto_augment='rand-m9-mstd0.5-inc1',
            color_jitter=0.3,
            interpolation='bicubic',
        ),
    ),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=10,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='Views',
        root=data_root,
        split='val',
        transform=dict(input_size=224, interpolation='bicubic', crop_pct=0.875),
    ),
)
val_evaluator = dict(type='TopK')
test_dataloader = val_dataloader
test_evaluator = val_evaluator

model = dict(
    type='Distiller',
    data_preprocessor=dict(
        type='ViewPreprocessor',
        random_erasing=0.25,
        mixup=dict(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=num_classes),
    ),
)

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    constructor='TimmOptimWrapperConstructor',
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, begin=5, end=300, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=300, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=1024)
