"""The embedded shapes data set at 32 px, held in memory, with a schedule of half a minute on a CPU core.

python tools/make_data.py data/shapes --sets imagenet --size 32 --train 12000
"""

data_root = 'data/shapes/imagenet'
num_classes = 10
max_epochs = 4

train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    drop_last=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='ViewSampler', shuffle=True),
    dataset=dict(
        type='MemoryViews',
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
    num_workers=0,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='MemoryViews',
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
    cut_kernels=True,
)

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=4e-3, weight_decay=0.05),
    constructor='TimmOptimWrapperConstructor',
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    # Not down to nothing: the average of the weights over the last steps does the rest, in fewer of them.
    dict(type='TimmCosineLR', end=max_epochs, warmup=0.5, lr_min=6e-4, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=2)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=32)
