"""The embedded shapes at 32 px without their labels, with a short schedule.

python tools/make_data.py data/shapes --sets imagenet --size 32 --train 6000
"""

_base_ = './foundation.py'

data_root = 'data/shapes/imagenet'
max_epochs = 4

train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        type='MemoryViews',
        root=data_root,
        split='train',
        labels=False,
        transform=dict(
            input_size=32,
            is_training=True,
            scale=(0.5, 1.0),
            color_jitter=0.4,
            interpolation='bicubic',
        ),
    ),
)
model = dict(cut_kernels=True)
optim_wrapper = dict(optimizer=dict(lr=4e-3, weight_decay=0.05))
param_scheduler = [
    dict(type='TimmCosineLR', end=max_epochs, warmup=0.5, lr_min=1e-5, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=32)
