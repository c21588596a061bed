"""The table of all named models with their published figures.

Figures are strings as printed at the source, which keeps their precision. GMACs are multiply-adds, which publications
call FLOPs. To add a model, add a `Published` to a `Family`: tests then compare the model with the figures, and
``python tools/list_models.py --markdown`` puts it into docs/models.md.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Published:
    """Name and published figures of a model; a figure is None where none was published.

    Attributes:
        name: timm name.
        params: Millions of parameters.
        gmacs: Billions of multiply-adds of one image.
        top1: Percentage of right answers on the family's data set.
        kwargs: Arguments of ``timm.create_model`` for the published figures.
        uncounted: GMACs that a counter of multiply-adds finds and the source left out; negative for other operations
            that the source counted. The note of the family names them.
        at_odds: The source's GMACs contradict its other figures and are not met; the note of the family explains it.
    """

    name: str
    params: str | None = None
    gmacs: str | None = None
    top1: str | None = None
    kwargs: dict = field(default_factory=dict)
    uncounted: float = 0.0
    at_odds: bool = False


@dataclass(frozen=True)
class Family:
    """Models of one publication.

    Attributes:
        title: Name for people.
        sources: Addresses of the figures.
        models: Models in the order of the table.
        dataset: Data set of top-1.
        note: Remarks on the figures.
    """

    title: str
    sources: tuple[str, ...]
    models: tuple[Published, ...]
    dataset: str = 'ImageNet'
    note: str = ''


TORCHVISION = 'https://docs.pytorch.org/vision/stable/models.html'
TIMM = 'https://huggingface.co/timm'
MMPRETRAIN = 'https://github.com/open-mmlab/mmpretrain'
RESNEST = 'https://github.com/zhanghang1989/ResNeSt'
ROBUST_CNN = 'https://github.com/UCSC-VLAA/RobustCNN'
SPLITNET = 'https://github.com/mzhaoshuai/SplitNet-Divide-and-Co-training'
SE_PAPER = 'https://arxiv.org/abs/1709.01507'
CBAM_PAPER = 'https://arxiv.org/abs/1807.06521'

FAMILIES = (
    Family(
        'Robust-ResNet',
        (ROBUST_CNN,),
        (
            Published('robust_resnet_dw_small', '38.558440', '4.473621888', '79.4'),
            Published('robust_resnet_inverted_dw_small', '33.618088', '4.565454336', '79.0'),
            Published('robust_resnet_up_inverted_dw_small', '34.432552', '4.419084672', '79.2'),
            Published('robust_resnet_down_inverted_dw_small', '34.316776', '4.529741568', '79.9'),
            Published('robust_resnet_dw_base'),
            Published('robust_resnet_inverted_dw_base'),
            Published('robust_resnet_up_inverted_dw_base'),
            Published('robust_resnet_down_inverted_dw_base'),
            Published('resnet_dw_small'),
            Published('resnet_inverted_dw_small'),
            Published('resnet_up_inverted_dw_small'),
            Published('resnet_down_inverted_dw_small'),
            Published('robust_resnet_dw_small_rep'),
            Published('robust_resnet_inverted_dw_small_rep'),
            Published('robust_resnet_up_inverted_dw_small_rep'),
            Published('robust_resnet_down_inverted_dw_small_rep'),
        ),
        note='Small: figures of the original code. Depths of base models and baselines are chosen here, nearest to the '
        'GMACs of DeiT-B and DeiT-S.',
    ),
    Family(
        'ResNeSt',
        ('https://arxiv.org/abs/2004.08955', RESNEST),
        (
            Published('resnest50', '27.48', '5.37', '81.03'),
            Published('resnest101', '48.28', None, '82.83'),
            Published('resnest200', '70.20', None, '83.84'),
            Published('resnest269', '110.93', None, '84.54'),
            Published('resnest50_fast_1s1x64d', '26.22', '4.33', '80.33'),
            Published('resnest50_fast_2s1x64d', '27.48', '4.33', '80.53'),
            Published('resnest50_fast_4s1x64d', '31.91', '4.34', '80.76'),
            Published('resnest50_fast_1s2x40d', '25.95', '4.36', '80.59'),
            Published('resnest50_fast_2s2x40d', '26.94', '4.37', '80.61'),
            Published('resnest50_fast_4s2x40d', '30.42', '4.37', '81.14'),
            Published('resnest50_fast_1s4x24d', '25.68', '4.40', '80.99'),
        ),
        note="Parameters and GMACs are those of the original code, run; top-1 at each model's own size.",
    ),
    Family(
        'ConvNeXt roadmap',
        ('https://arxiv.org/abs/2201.03545',),
        (
            Published('convnext_roadmap_resnet50', None, '4.09', '78.82'),
            Published('convnext_roadmap_stage_ratio', None, '4.53', '79.36'),
            Published('convnext_roadmap_patchify', None, '4.42', '79.51'),
            Published('convnext_roadmap_depthwise', None, '2.35', '78.28'),
            Published('convnext_roadmap_width', None, '5.27', '80.50'),
            Published('convnext_roadmap_inverted', None, '4.64', '80.64'),
            Published('convnext_roadmap_moved_up', None, '4.07', '79.92'),
            Published('convnext_roadmap_kernel5', None, '4.10', '80.35'),
            Published('convnext_roadmap_kernel7', None, '4.15', '80.57'),
            Published('convnext_roadmap_kernel9', None, '4.21', '80.57'),
            Published('convnext_roadmap_kernel11', None, '4.29', '80.47'),
            Published('convnext_roadmap_gelu', None, '4.15', '80.62'),
            Published('convnext_roadmap_fewer_acts', None, '4.15', '81.27'),
            Published('convnext_roadmap_fewer_norms', None, '4.15', '81.41'),
            Published('convnext_roadmap_layernorm', None, '4.46', '81.47', at_odds=True),
            Published('convnext_roadmap_separate_downsample', '28.59', '4.49', '81.97'),
        ),
        note='For the layer norm step the source prints 0.31 GMACs more than for the step before (table 10), and no '
        'more where it takes the same step from ResNet-200 (table 11). Counted, the step costs nothing.',
    ),
    Family(
        'ResNet',
        (TORCHVISION,),
        (
            Published('resnet18', '11.689512', '1.814', '69.758'),
            Published('resnet34', '21.797672', '3.664', '73.314'),
            Published('resnet50', '25.557032', '4.089', '76.130'),
            Published('resnet101', '44.549160', '7.801', '77.374'),
            Published('resnet152', '60.192808', '11.514', '78.312'),
        ),
        note='`zero_init_last` starts each block as the identity (on by default); `output_stride` 8 or 16 replaces '
        'strides by dilation.',
    ),
    Family(
        'ResNeXt',
        (TORCHVISION,),
        (
            Published('resnext50_32x4d', '25.028904', '4.230', '77.618'),
            Published('resnext101_32x8d', '88.791336', '16.414', '79.312'),
            Published('resnext101_64x4d', '83.455272', '15.460', '83.246'),
        ),
    ),
    Family(
        'Wide ResNet',
        (TORCHVISION,),
        (
            Published('wide_resnet50_2', '68.883240', '11.398', '78.468'),
            Published('wide_resnet101_2', '126.886696', '22.753', '78.848'),
        ),
    ),
    Family(
        'Wide ResNet for small images',
        ('https://github.com/szagoruyko/wide-residual-networks', SPLITNET),
        (Published('wide_resnet28_10', '36.5', '5.25', '96.00'),),
        dataset='CIFAR-10',
        note='GMACs from the second source.',
    ),
    Family(
        'Squeeze-and-Excitation',
        (SE_PAPER, CBAM_PAPER, TIMM),
        (
            Published('legacy_seresnet50', '28.1', '3.87', '76.71'),
            Published('legacy_seresnet101', '49.33', '7.60', '77.62'),
            Published('legacy_seresnet152', '66.8', '11.32', '78.43'),
            Published('legacy_seresnext50_32x4d', '27.56', '4.25', '78.90'),
            Published('legacy_seresnext101_32x4d', '48.96', '8.00', '79.30'),
        ),
        note='Parameters of all but SE-ResNet-50 from the second source, of SE-ResNet-152 from the third. Its '
        'bottlenecks stride in their first convolution.',
    ),
    Family(
        'Squeeze-and-Excitation, stride in the 3×3',
        (MMPRETRAIN,),
        (
            Published('seresnet50', '28.09', '4.13', '77.74'),
            Published('seresnet101', '49.33', '7.86', '78.26'),
        ),
    ),
    Family(
        'Selective Kernel',
        ('https://arxiv.org/abs/1903.06586', TIMM),
        (
            Published('skresnet18', '12.0', '1.8', '73.04'),
            Published('skresnet34', '22.3', '3.7', '76.91'),
            Published('skresnext50_32x4d', '27.5', '4.47', '79.21'),
        ),
        note="`skresnext50_32x4d` is the paper's SKNet-50; the figures of the others are timm's.",
    ),
    Family(
        'CBAM',
        (CBAM_PAPER,),
        (
            Published('cbam_resnet18', '11.78', '1.815', '70.73'),
            Published('cbam_resnet34', '21.96', '3.665', '74.01'),
            Published('cbam_resnet50', '28.09', '3.864', '77.34'),
            Published('cbam_resnet101', '49.33', '7.581', '78.49'),
        ),
    ),
    Family(
        'DenseNet',
        (TORCHVISION,),
        (
            Published('densenet121', '7.978856', '2.834', '74.434'),
            Published('densenet161', '28.681000', '7.728', '77.138'),
            Published('densenet169', '14.149480', '3.360', '75.600'),
            Published('densenet201', '20.013928', '4.291', '76.896'),
        ),
    ),
    Family(
        'CondenseNet',
        ('https://github.com/ShichenLiu/CondenseNet',),
        (
            Published('condensenet74_g4', '4.8', '0.529', '73.8', uncounted=-0.0126),
            Published('condensenet74_g8', '2.9', '0.274', '71.0', uncounted=-0.0126),
        ),
        note='Counted in the inference form. The source also counts an operation for each input of a ReLU and of a '
        'pooling.',
    ),
    Family(
        'CondenseNet for small images',
        ('https://github.com/ShichenLiu/CondenseNet',),
        (Published('condensenet86_cifar', '0.52', '0.0658', '94.94', uncounted=-0.0034),),
        dataset='CIFAR-10',
        note='As above.',
    ),
    Family(
        'Shake-Shake',
        ('https://arxiv.org/abs/1705.07485', SPLITNET),
        (
            Published('shake_shake26_2x32d', '2.9', None, '96.45'),
            Published('shake_shake26_2x64d', '11.7', None, '97.02'),
            Published('shake_shake26_2x96d', '26.2', '3.78', '97.14'),
        ),
        dataset='CIFAR-10',
        note='GMACs from the second source.',
    ),
    Family(
        'ShuffleNet v1',
        ('https://github.com/megvii-model/ShuffleNet-Series',),
        (Published('shufflenet_v1_g3_x1_0', '1.9', '0.138', '67.8'),),
    ),
    Family(
        'DeiT',
        ('https://arxiv.org/abs/2012.12877', TIMM),
        (
            Published('deit_small_patch16_224', '22.1', '4.6', '79.8'),
            Published('deit_base_patch16_224', '86.6', '17.6', '81.8'),
            Published('deit_small_distilled_patch16_224', '22.4', '4.6', '81.2'),
            Published('deit_base_distilled_patch16_224', '87.3', '17.7', '83.4'),
        ),
        note='Parameters and GMACs from the second source, which prints more digits.',
    ),
    Family(
        'DeiT with a convolutional stem',
        ('https://arxiv.org/abs/2106.14881', 'https://arxiv.org/abs/2206.03452'),
        (Published('deit_small_conv_stem_224'),),
        note='11 blocks and the stem cost what 12 blocks and patches do: the 4.6 GMACs of DeiT-S.',
    ),
    Family(
        'Swin',
        (TORCHVISION,),
        (Published('swin_tiny_patch4_window7_224', '28.288354', '4.491', '81.474'),),
    ),
    Family(
        'CoAtNet',
        ('https://arxiv.org/abs/2106.04803',),
        (
            Published('coatnet_0', '25', '4.2', '81.6'),
            Published('coatnet_1', '42', '8.4', '83.3'),
            Published('coatnet_2', '75', '15.7', '84.1'),
            Published('coatnet_3', '168', '34.7', '84.5'),
            Published('coatnet_4', '275', '189.5', '87.9', dict(img_size=384)),
        ),
        note='`coatnet_4` at 384 pixels, its top-1 after ImageNet-21k.',
    ),
    Family(
        'ConvMixer',
        (MMPRETRAIN,),
        (
            Published('convmixer_768_32', '21.110248', '19.623051264', '80.16', uncounted=1.233),
            Published('convmixer_1536_20', '51.625960', '48.713170944', '81.37', uncounted=2.548),
            Published('convmixer_1024_20_ks9_p14', '24.383464', '5.550112768', '76.94', uncounted=0.425),
        ),
        note='The source counts all but the depthwise convolutions.',
    ),
)


def deviation(counted: float, printed: str) -> float:
    """Relative distance of a count from the nearest number that rounds to the printed one."""
    value = float(printed)
    half_digit = 0.5 * 10.0 ** -len(printed.partition('.')[2])
    return max(0.0, abs(counted - value) - half_digit) / value
