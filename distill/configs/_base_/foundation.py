"""Features of a foundation model for a student, on images without labels: views, optimizer, hooks.

Views and optimizer are the defaults of lightly-train's distillation (its third method, the default since 0.15): crops
of 14 % of an image or more, colours changed by up to 0.4, 0.4, 0.2 and 0.1 with probability 0.8, a fifth of the images
grey, two images mixed by a factor that is uniform between 0 and 1; AdamW with 5e-4 for a batch of 1536 and for another
batch times the root of the ratio, weight decay 1e-6 for CNNs with batch norm and 0.04 with layer norm, gradients
clipped at 1. Differs from it: its blur, which is too weak to be seen (σ ≤ 0.1), is left out; rates rise over the epochs
of DeiT's warm-up and fall to its least rate; and the losses are RADIO's (see the leaves).

Sources: https://docs.lightly.ai/train, Ranzinger et al., "AM-RADIO", CVPR 2024.
"""

_base_ = './default_runtime.py'

transform = dict(
    input_size=224,
    is_training=True,
    scale=(0.14, 1.0),
    color_jitter=(0.4, 0.4, 0.2, 0.1),
    color_jitter_prob=0.8,
    grayscale_prob=0.2,
    interpolation='bicubic',
)
train_dataloader = dict(
    num_workers=10,
    persistent_workers=True,
    drop_last=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='ViewSampler', shuffle=True),
)
model = dict(
    type='FeatureDistiller',
    data_preprocessor=dict(type='ViewPreprocessor', mixup=dict(mixup_alpha=1.0, mode='pair')),
)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', weight_decay=1e-6),
    constructor='TimmOptimWrapperConstructor',
    clip_grad=dict(max_norm=1.0),
)
# There is no validation without labels: the last student is saved.
default_hooks = dict(save_student=dict(metric='last'))
