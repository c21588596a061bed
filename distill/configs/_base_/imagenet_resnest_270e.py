"""ImageNet with ResNeSt's 270-epoch recipe (Zhang et al., 2020), as its training command and script have it.

Source: https://github.com/zhanghang1989/ResNeSt, scripts/gluon. Meant for a total batch of 8192 (64 × 128), for which
the learning rate is 0.05 × 64 = 0.1 × 8192 / 256; ``--auto-scale-lr`` adapts it to another. The models start the last
norm of each block at zero and add DropBlock 0.1 in their last two stages, their own crop size and, from ResNeSt-200
on, dropout 0.2.

Differs from the script: DropBlock acts after the split attention only, where timm's model has it, and from the start
instead of rising with the epochs; AutoAugment comes after the crop; and there is no PCA lighting.
"""

_base_ = ['./imagenet.py', './default_runtime.py']

train_dataloader = dict(
    dataset=dict(
        transform=dict(auto_augment='original', color_jitter=0.4, force_color_jitter=True, interpolation='bilinear'),
    ),
)
val_dataloader = dict(dataset=dict(transform=dict(interpolation='bilinear')))
test_dataloader = val_dataloader

model = dict(
    data_preprocessor=dict(
        mixup=dict(mixup_alpha=0.2, cutmix_alpha=0.0, label_smoothing=0.1, num_classes={{_base_.num_classes}}),
    ),
    losses=[dict(type='cross_entropy')],
)

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=3.2, momentum=0.9, nesterov=True, weight_decay=1e-4),
    constructor='TimmOptimWrapperConstructor',
)
param_scheduler = [
    dict(type='TimmCosineLR', end=270, warmup=5, warmup_prefix=True, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=270, val_interval=5)
default_hooks = dict(ema=None)
auto_scale_lr = dict(base_batch_size=8192)
