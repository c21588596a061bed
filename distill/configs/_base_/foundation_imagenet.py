"""The training images of ImageNet-1k, whose labels are not read, for 100 epochs.

100 epochs are the least that lightly-train's documentation recommends for a set of this size. Meant for a total batch
of 1536 (8 × 192).
"""

_base_ = './foundation.py'

data_root = 'data/imagenet'
max_epochs = 100

train_dataloader = dict(
    batch_size=192,
    dataset=dict(type='Views', root=data_root, split='train', labels=False, transform={{_base_.transform}}),
)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
param_scheduler = [dict(type='TimmCosineLR', end=max_epochs, warmup=5, warmup_lr=1e-6, lr_min=1e-5)]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=1536)
