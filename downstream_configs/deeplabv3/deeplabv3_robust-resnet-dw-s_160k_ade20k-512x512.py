"""DeepLabV3 on Robust-ResNet-DW-S at output stride 16, ADE20K, 160 000 iterations.

torchrun --nproc_per_node=4 tools/train.py THIS_FILE --launcher pytorch --cfg-options model.backbone.checkpoint=PATH

Hardware: 4 GPUs with 24 GB, 4 images each. Cost: about a day on such GPUs.
Target: nobody has published DeepLabV3 on a Robust-ResNet. ResNet-50 at output stride 8 has 42.66 mIoU single-scale
(mmseg 1.2.2, configs/deeplabv3/metafile.yaml); that is what to beat.
"""

_base_ = [
    '../_base_/models/deeplabv3.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/runtime_seg.py',
    '../_base_/schedules/schedule_160k_adamw.py',
]
model = dict(
    backbone=dict(
        type='TimmBackbone',
        model='robust_resnet_dw_small',
        checkpoint=None,  # ImageNet weights: the official release's, or a student's student_best.pth
        # With 16-pixel patches stride 8 is out of reach; stage 4 is dilated to stay at 16.
        output_stride=16,
        strides=(16, 16, 16, 16),
    ),
    # The rates of the paper for output stride 16.
    decode_head=dict(in_channels=3072, dilations=(1, 6, 12, 18)),
    auxiliary_head=dict(in_channels=1536),
)
