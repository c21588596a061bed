"""A folder of images, nested and of any format, for 200 epochs.

200 epochs are the least that lightly-train's documentation recommends for fewer than 100,000 images; 100 are enough for
more. Meant for one GPU and a batch of 128, for which the rate is 5e-4 × √(128 / 1536).
"""

_base_ = './foundation.py'

data_root = 'data/photos'
max_epochs = 200

train_dataloader = dict(
    batch_size=128,
    dataset=dict(type='Views', root=data_root, labels=False, on_broken='skip', transform={{_base_.transform}}),
)
optim_wrapper = dict(optimizer=dict(lr=1.44e-4))
param_scheduler = [dict(type='TimmCosineLR', end=max_epochs, warmup=5, warmup_lr=1e-6, lr_min=1e-6)]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=128)
