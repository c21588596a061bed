"""The table of classifiers that teach and learn: each by the word that names of configs have for it."""

from dataclasses import dataclass, field

from distill.configs._table_.text import Code

__all__ = ['MODELS', 'Model']


@dataclass(frozen=True)
class Model:
    """A row of the table.

    Attributes:
        name: The word for the model in names of configs.
        label: What a sentence calls it.
        model: timm's name.
        options: Further arguments of ``timm.create_model`` for a student.
        pretrained: Whether timm has the weights of a teacher; other teachers are trained here.
        about: What to know about those weights.
        token: Whether the student learns from the teacher by a distillation token.
        train: What training images are like, where the recipe's are not right for the model.
        val: What evaluated images are like, where the recipe's are not right for the model.
        mean_std: Mean and deviation of images, in values from 0 to 1, if they are not ImageNet's.
        epochs: Epochs on a small data set, where they are not those of its ``_base_``.
        differs: Options that differ on a small data set.
    """

    name: str
    label: str
    model: str
    options: dict = field(default_factory=dict)
    pretrained: bool = False
    about: str = ''
    token: bool = False
    train: dict = field(default_factory=dict)
    val: dict = field(default_factory=dict)
    mean_std: float | None = None
    epochs: dict[str, int] = field(default_factory=dict)
    differs: dict[str, dict] = field(default_factory=dict)


def resnest(depth: int, size_px: int, crop_pct: str = '', **options) -> Model:
    """A ResNeSt as its paper trains it, at its own size. Large ones are tested on larger parts of the image."""
    train = val = {} if size_px == 224 else dict(input_size=size_px)
    if crop_pct:
        train = dict(input_size=size_px, scale=(0.1, 1.0), interpolation='bicubic')
        val = dict(input_size=size_px, interpolation='bicubic', crop_pct=Code(crop_pct))
    options = dict(drop_block_rate=0.1, zero_init_last=True, **options)
    return Model(f'resnest{depth}', f'ResNeSt-{depth}', f'resnest{depth}', options, train=train, val=val)


DEIT = dict(img_size=32, patch_size=8, embed_dim=128, depth=4, num_heads=4)
ROBUST = dict(dims=(16, 32, 64, 128), depths=(2, 2, 4, 2), patch_size=4, kernel_size=7)
WIDER = {**ROBUST, 'dims': (24, 48, 96, 192), 'depths': (2, 2, 2, 1)}
NARROW_INIT = dict(weight_init='jax')
CLASS_MEAN = dict(class_token=False, global_pool='avg')
TRANSFORMER = 'a DeiT-style transformer'
# fmt: off
ROWS = [
    # The word in names, the words in sentences, timm's name; then what is special.
    Model('deit-s', 'DeiT-S', 'deit_small_patch16_224', pretrained=True),
    Model('deit-b', 'DeiT-B', 'deit_base_patch16_224', pretrained=True),
    Model('deit-s-token', 'DeiT-S', 'deit_small_distilled_patch16_224', token=True),
    Model('resnet50', 'ResNet-50', 'resnet50'),
    Model('robust-resnet-dw-s', 'Robust-ResNet-DW-S', 'robust_resnet_dw_small'),
    Model('robust-resnet-dw-b', 'Robust-ResNet-DW-B', 'robust_resnet_dw_base'),
    Model('robust-resnet-inverted-s', 'Robust-ResNet-Inverted-DW-S', 'robust_resnet_inverted_dw_small'),
    Model('robust-resnet-up-s', 'Robust-ResNet-Up-Inverted-DW-S', 'robust_resnet_up_inverted_dw_small'),
    Model('robust-resnet-down-s', 'Robust-ResNet-Down-Inverted-DW-S', 'robust_resnet_down_inverted_dw_small'),
    Model('convnext-b', 'ConvNeXt-B', 'convnext_base'),
    Model('convnext-t', 'ConvNeXt-T', 'convnext_tiny'),
    resnest(50, 224),
    resnest(101, 256),
    resnest(200, 320, '320 / 352', drop_rate=0.2),
    resnest(269, 416, '416 / 448', drop_rate=0.2),
    Model('bit-r50', 'BiT-R50', 'resnetv2_50x1_bit', mean_std=0.5),
    Model('bit-r152x2', 'BiT-R152x2', 'resnetv2_152x2_bit.goog_teacher_in21k_ft_in1k', pretrained=True,
          about="The weights that were published as the paper's teacher."),

    # Small ones, for images of 32 pixels.
    Model('deit-mini', TRANSFORMER, 'deit_tiny_patch16_224', {**DEIT, **CLASS_MEAN},
          epochs=dict(cifar10=16, shapes=10),
          differs=dict(cifar10=dict(depth=6), shapes=NARROW_INIT | dict(depth=2, mlp_ratio=2.0))),
    Model('deit-tiny', 'a smaller DeiT-style transformer', 'deit_tiny_patch16_224',
          {**DEIT, **CLASS_MEAN, 'depth': 3}, epochs=dict(cifar10=12, shapes=8),
          differs=dict(shapes=NARROW_INIT | dict(depth=2, embed_dim=96, num_heads=3, mlp_ratio=2.0))),
    Model('deit-mini-token', TRANSFORMER, 'deit_tiny_distilled_patch16_224', DEIT, token=True,
          epochs=dict(cifar10=16, shapes=10),
          differs=dict(cifar10=dict(depth=6), shapes=NARROW_INIT | dict(depth=2, mlp_ratio=2.0))),
    Model('robust-resnet-tiny', 'a Robust-ResNet', 'robust_resnet_dw_small', ROBUST,
          differs=dict(shapes=dict(depths=(1, 1, 3, 1)))),
    Model('robust-resnet-mini', 'a wider Robust-ResNet', 'robust_resnet_dw_small', WIDER, epochs=dict(shapes=4)),
    Model('robust-resnet-broad', 'a wider Robust-ResNet that saw every shape in every texture',
          'robust_resnet_dw_small', WIDER, epochs=dict(shapes=7)),
    Model('resnet-tiny', 'a small ResNet (pre-activation, WRN-10-1)', 'wide_resnet28_10',
          dict(depth=10, widen_factor=1), differs=dict(shapes=dict(stem_stride=2))),
]
# fmt: on
MODELS = {row.name: row for row in ROWS}
