"""ImageNet with DeiT's 300-epoch recipe (Touvron et al., ICML 2021), with the defaults of its main.py.

Source: https://github.com/facebookresearch/deit. Meant for a total batch of 1024 (8 × 128), for which the learning
rate is 5e-4 × 1024 / 512; ``--auto-scale-lr`` adapts it to another. The models add drop path 0.1.

Two notes on what is judged and seen: main.py keeps an average of the weights and evaluates the weights themselves,
here the average is evaluated (``default_hooks.ema=None`` switches it off); and it trains the second epoch with the
rate of the first, since it steps its schedule with the number of the epoch before.
"""

_base_ = ['./imagenet.py', './default_runtime.py']

train_dataloader = dict(
    # Repeated augmentation: three views of each image, and a third of the images an epoch.
    sampler=dict(type='ViewSampler', shuffle=True, repeats=3),
    # timm leaves the colour jitter out beside RandAugment.
    dataset=dict(transform=dict(auto_augment='rand-m9-mstd0.5-inc1', color_jitter=0.3, interpolation='bicubic')),
)

model = dict(
    data_preprocessor=dict(
        random_erasing=0.25,
        mixup=dict(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1, num_classes={{_base_.num_classes}}),
    ),
)

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    constructor='TimmOptimWrapperConstructor',
)
param_scheduler = [dict(type='TimmCosineLR', end=300, warmup=5, warmup_lr=1e-6, lr_min=1e-5)]
train_cfg = dict(by_epoch=True, max_epochs=300, val_interval=1)
default_hooks = dict(
    ema=dict(_delete_=True, type='EMAHook', ema_type='ExponentialMovingAverage', momentum=4e-5, update_buffers=True)
)
auto_scale_lr = dict(base_batch_size=1024)
