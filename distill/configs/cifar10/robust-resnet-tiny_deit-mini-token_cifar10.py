"""A DeiT-style student whose distillation token learns a Robust-ResNet's decisions, on CIFAR-10 as class folders.

python tools/train.py distill/configs/cifar10/robust-resnet-tiny_cifar10.py
python tools/train.py distill/configs/cifar10/robust-resnet-tiny_deit-mini-token_cifar10.py

Hardware: two CPU cores. Cost: not measured. Target: none set.
"""

_base_ = '../shapes/robust-resnet-mini_deit-mini-token_shapes.py'

data_root = 'data/cifar10'
train_dataloader = dict(dataset=dict(root=data_root))
val_dataloader = dict(dataset=dict(root=data_root))
test_dataloader = val_dataloader
model = dict(
    student=dict(depth=6),
    teacher=dict(checkpoint='work_dirs/robust-resnet-tiny_cifar10/student_best.pth'),
)
