"""A small ResNet that learns from a DeiT-style teacher, on CIFAR-10 as class folders.

python tools/train.py distill/configs/cifar10/deit-mini_cifar10.py
python tools/train.py distill/configs/cifar10/deit-mini_resnet-tiny_cifar10.py

Hardware: two CPU cores. Cost: not measured. Target: none set.
"""

_base_ = '../shapes/deit-mini_resnet-tiny_shapes.py'

data_root = 'data/cifar10'
train_dataloader = dict(dataset=dict(root=data_root))
val_dataloader = dict(dataset=dict(root=data_root))
test_dataloader = val_dataloader
model = dict(teacher=dict(checkpoint='work_dirs/deit-mini_cifar10/student_best.pth'))
