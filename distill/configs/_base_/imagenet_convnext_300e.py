"""ImageNet with ConvNeXt's 300-epoch recipe (Liu et al., CVPR 2022), for base models.

Source: https://github.com/facebookresearch/ConvNeXt, TRAINING.md and the defaults of main.py. Meant for a total batch
of 4096 (32 × 128), for which the learning rate is 4e-3. On 8 GPUs add up four batches for a step, with
``--cfg-options optim_wrapper.accumulative_counts=4``. The models add drop path 0.5, and the average of the weights is
what is evaluated.
"""

_base_ = ['./imagenet.py', './default_runtime.py']

train_dataloader = dict(
    # timm leaves the colour jitter out beside RandAugment.
    dataset=dict(transform=dict(auto_augment='rand-m9-mstd0.5-inc1', color_jitter=0.4, interpolation='bicubic')),
)

model = dict(
    data_preprocessor=dict(
        random_erasing=0.25,
        mixup=dict(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1, num_classes={{_base_.num_classes}}),
    ),
)

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=4e-3, weight_decay=0.05),
    constructor='TimmOptimWrapperConstructor',
)
param_scheduler = [
    dict(
        type='TimmCosineLR',
        end=300,
        warmup=20,
        warmup_lr=0.0,
        lr_min=1e-6,
        warmup_prefix=True,
        convert_to_iter_based=True,
    )
]
train_cfg = dict(by_epoch=True, max_epochs=300, val_interval=1)
default_hooks = dict(
    ema=dict(_delete_=True, type='EMAHook', ema_type='ExponentialMovingAverage', momentum=1e-4, update_buffers=True)
)
auto_scale_lr = dict(base_batch_size=4096)
