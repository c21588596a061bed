"""ImageNet-1k at 224 px, as class folders.

Tar files, WebDataset shards (``wds/``) and Hugging Face data sets (``hfds/<name>``) come by timm's names, see
`distill.data.views.Views`: ``--cfg-options train_dataloader.dataset.name=… val_dataloader.dataset.name=…``.
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
    dataset=dict(type='Views', root=data_root, split='train', transform=dict(input_size=224, is_training=True)),
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

model = dict(type='Distiller', data_preprocessor=dict(type='ViewPreprocessor'))

val_cfg = dict()
test_cfg = dict()
