"""ImageNet, matching the teacher as a function: no labels, T = 1, one view for both, mixup, a long schedule.

Source: Beyer et al., "Knowledge distillation: A good teacher is patient and consistent", CVPR 2022, and its public
config (https://github.com/google-research/big_vision, configs/proj/distill/bit_i1k.py): Adam at 0.03 for a total
batch of 4096 (32 × 128), crops of at least 5 % of the image and flips, mixup with λ uniform, gradients clipped at
norm 1, 5000 steps of warm-up (16 epochs), 1200 epochs. Its weight decay of 3e-4 is not multiplied by the rate: AdamW's
is 3e-4 / 0.03.
"""

_base_ = ['./imagenet.py', './default_runtime.py']

train_dataloader = dict(dataset=dict(transform=dict(scale=(0.05, 1.0), color_jitter=None, interpolation='bilinear')))
val_dataloader = dict(dataset=dict(transform=dict(interpolation='bilinear')))
test_dataloader = val_dataloader

model = dict(
    data_preprocessor=dict(
        mixup=dict(mixup_alpha=1.0, cutmix_alpha=0.0, label_smoothing=0.0, num_classes={{_base_.num_classes}}),
    ),
    losses=[dict(type='soft_target_kl', temperature=1.0)],
)

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.03, weight_decay=0.01),
    constructor='TimmOptimWrapperConstructor',
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='TimmCosineLR', end=1200, warmup=16, warmup_prefix=True, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=1200, val_interval=10)
default_hooks = dict(ema=None)
auto_scale_lr = dict(base_batch_size=4096)
