"""DeiT-like, Robust-ResNet and ResNet-like teach one another, on the embedded shapes data.

python tools/make_data.py data/shapes --sets imagenet --size 32 --train 6000
python tools/transfer_matrix.py distill/matrices/shapes.py

Hardware: two CPU cores. Cost: within an hour. Result: docs/transfer.md.
"""

data_root = 'data/shapes/imagenet'
students = dict(
    deit='distill/configs/shapes/deit-tiny_shapes.py',
    robust='distill/configs/shapes/robust-resnet-tiny_shapes.py',
    resnet='distill/configs/shapes/resnet-tiny_shapes.py',
)
teachers = dict(deit=dict(student='deit'), robust=dict(student='robust'), resnet=dict(student='resnet'))
losses = dict(
    kd=[
        dict(type='cross_entropy', weight=0.5, label_smoothing=0.1),
        dict(type='soft_target_kl', weight=0.5, temperature=1.0),
    ],
)
seeds = (0, 1, 2)
cache = dict(topk=10)
# A transformer needs more epochs than a CNN.
epochs = dict(deit=10, robust=4, resnet=4)
robustness = ('--corruption-limit', '200')
