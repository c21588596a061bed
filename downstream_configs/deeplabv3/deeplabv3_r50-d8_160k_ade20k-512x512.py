"""DeepLabV3 on ResNet-50 at output stride 8, ADE20K, 160 000 iterations: the baseline.

torchrun --nproc_per_node=4 tools/train.py THIS_FILE --launcher pytorch

Hardware: 4 GPUs with 12 GB, 4 images each. Cost: about a day on V100s.
Target: 42.66 mIoU single-scale, 44.09 multi-scale with flipping (mmseg 1.2.2, configs/deeplabv3/metafile.yaml;
there the stem is three 3 × 3 convolutions, here it is torchvision's 7 × 7).
"""

_base_ = [
    '../_base_/models/deeplabv3.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/runtime_seg.py',
    '../_base_/schedules/schedule_160k.py',
]
model = dict(
    backbone=dict(
        type='TimmBackbone', model='resnet50.tv_in1k', pretrained=True, output_stride=8, strides=(4, 8, 8, 8)
    ),
    decode_head=dict(in_channels=2048),
    auxiliary_head=dict(in_channels=1024),
)
