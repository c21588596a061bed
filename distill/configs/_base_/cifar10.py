"""CIFAR-10 as class folders, with the schedule of the embedded shapes."""

_base_ = './shapes.py'

data_root = 'data/cifar10'
train_dataloader = dict(dataset=dict(root=data_root))
val_dataloader = dict(dataset=dict(root=data_root))
test_dataloader = val_dataloader
