"""Writes fragments of backbones, and configs that put model, backbone, data, schedule and runtime together."""

from distill.configs._table_.text import Code, Tall, assignment, config
from downstream_configs._table_.backbones import FAMILIES, Backbone
from downstream_configs._table_.maps import maps_of, normalisation_of, options_of
from downstream_configs._table_.recipes import METHODS, OWN, STUDENT, Recipe, config_name
from downstream_configs._table_.scores import target

__all__ = ['fragment', 'leaf']

SOURCE = 'downstream_configs/_table_'
DENSE = '# Patches at every 8th pixel and dilated kernels: a denser version of the same maps, with the same weights.'


def fragment(backbone: Backbone, plain: Backbone | None) -> str:
    """Write a file of `_base_/backbones`: the backbone, its channels, and the neck that a detector needs.

    Args:
        backbone: A row of the table.
        plain: The backbone that this one is a variant of.
    """
    maps = maps_of(backbone)
    about = backbone.about.format(label=backbone.label, strides=', '.join(map(str, maps.strides)))
    if plain is not None:
        body = [f"_base_ = './{plain.file}.py'", assignment('backbone', backbone.options)]
        return config([about], SOURCE, body)
    options = Tall(type='TimmBackbone', model=backbone.model)
    if '.' in backbone.model:
        options['pretrained'] = True
    if backbone.weights:
        options.update({f'# ImageNet weights: {backbone.weights}': None, 'checkpoint': None})
    options.update(options_of(backbone), strides=maps.strides)
    body = [assignment('channels', list(maps.channels))]
    if normalisation_of(backbone):
        body.append(assignment('data_preprocessor', normalisation_of(backbone)))
    return config([about], SOURCE, [*body, assignment('backbone', options), assignment('neck', _neck(backbone))])


def _neck(backbone: Backbone) -> dict | list:
    """The pyramid of a detector: ViTDet's on one map, otherwise FPN, where need be on maps brought to its strides."""
    family, maps = FAMILIES[backbone.family], maps_of(backbone)
    width = {} if family.width == 256 else dict(out_channels=family.width)
    if backbone.blocks:
        levels = {} if family.levels == 4 else dict(out_strides=[4 * 2**level for level in range(family.levels)])
        (channels,), (stride,) = maps
        return dict(type='SimpleFeaturePyramid', in_channels=channels, in_stride=stride, **levels, **width)
    rest = dict(out_channels=family.width, **(family.fpn or {}), num_outs=family.levels)
    if family.fpn is not None:
        return dict(type='FPN', in_channels=Code('channels'), **rest)
    stages = dict(type='StagePyramid', in_channels=Code('channels'), in_strides=list(maps.strides), **width)
    return [stages, dict(type='FPN', in_channels=[family.width] * len(maps.channels), **rest)]


def leaf(recipe: Recipe, backbone: Backbone, millions: str) -> str:
    """Write a config.

    Args:
        recipe: A row of the table of recipes.
        backbone: A backbone that the recipe is meant for.
        millions: Parameters of the whole model, in millions with one decimal.
    """
    detects = METHODS[recipe.method].folder == 'cascade_rcnn'
    bases = [
        f'models/{recipe.model}',
        f'backbones/{backbone.file}',
        f'datasets/{recipe.dataset}',
        f'schedules/{recipe.schedules[backbone.family]}',
        'runtime_det' if detects else 'runtime_seg',
    ]
    model = _detector(recipe, backbone) if detects else _segmenter(recipe, backbone)
    lines = [recipe.lines, backbone.lines_at.get(recipe.key, '')]
    body = [
        '\n'.join(['_base_ = [', *(f"    '../_base_/{base}.py'," for base in bases), ']']),
        assignment('model', model),
        *(line for line in lines if line),
    ]
    return config(_header(recipe, backbone, millions), SOURCE, body)


def _header(recipe: Recipe, backbone: Backbone, millions: str) -> list[str]:
    method, setting = METHODS[recipe.method], recipe.setting
    nearest = config_name(recipe, backbone) == recipe.reference
    baseline = ': the baseline' if nearest and backbone.family == 'resnet' else ''
    stride = f' at output stride {recipe.stride}' if recipe.stride and backbone.family != 'tiny' else ''
    schedule = f', {recipe.title}' if recipe.title else ''
    options = ' --amp' if backbone.family in recipe.amp else ''
    if backbone.weights:
        options = ' --cfg-options model.backbone.checkpoint=PATH'
    elif backbone.name == STUDENT and recipe.goal[1] == OWN:
        options = ' --cfg-options model.backbone.checkpoint=work_dirs/STUDENT/student_best.pth'
    if not setting.batch:
        number = f'{recipe.length[1]:,}'.replace(',', ' ')
        cost = f' M parameters; {number} {recipe.length[0].lower()}, time not measured'
    elif recipe.key in backbone.step_s:
        cost = f' M parameters, {backbone.step_s[recipe.key]} s a step of {setting.batch}'
    else:
        cost = ' M parameters, time not measured'
    return [
        f'{method.label} on {backbone.label}{stride}, {setting.title}{schedule}{baseline}.',
        '\n'.join(setting.commands) + options,
        f'Hardware: {setting.hardware}. Cost: {millions}{cost}.\nTarget: {target(recipe, backbone)}.',
    ]


def _changed(options: dict) -> Code | dict:
    """The fragment's backbone, with other arguments if there are any."""
    return {'': Code('_base_.backbone'), **options} if options else Code('_base_.backbone')


def _model(backbone: Backbone, parts: dict) -> dict:
    """The model, an item a line if there are more than two, with the backbone's own normalisation if it has one."""
    if normalisation_of(backbone):
        parts = dict(data_preprocessor=Code('_base_.data_preprocessor'), **parts)
    return parts if len(parts) <= 2 else Tall(parts)


def _detector(recipe: Recipe, backbone: Backbone) -> dict:
    options = {**FAMILIES[backbone.family].detector, **backbone.options_at.get(recipe.key, {})}
    return _model(backbone, dict(backbone=_changed(options), neck=Code('_base_.neck')))


def _segmenter(recipe: Recipe, backbone: Backbone) -> dict:
    """The model of a segmenter, whose heads are told which channels they get."""
    options = {**FAMILIES[backbone.family].segmenter, **backbone.options_at.get(recipe.key, {})}
    if recipe.stride is None:
        return _upernet(backbone, options)
    comment = {}
    if recipe.stride == 8 and backbone.dense:
        options.update(backbone.dense)
        comment = {DENSE: None}
    options['output_stride'] = recipe.stride
    last = 3
    if backbone.family == 'tiny':
        # The small heads sit on stages 3 and 2.
        options['out_indices'], last = (-4, -3, -2), 2
    options['strides'] = maps_of(backbone, **options).strides
    head = dict(in_channels=Code(f'_base_.channels[{last}]'))
    if recipe.method == 'deeplabv3plus':
        head = dict(c1_in_channels=Code('_base_.channels[0]'), **head)
    auxiliary = dict(in_channels=Code(f'_base_.channels[{last - 1}]'))
    return _model(backbone, dict(**comment, backbone=_changed(options), decode_head=head, auxiliary_head=auxiliary))


def _upernet(backbone: Backbone, options: dict) -> dict:
    """UPerNet on four maps; those of a plain transformer, all of one stride, are brought to 4, 8, 16 and 32."""
    if not backbone.blocks:
        decode, auxiliary = Code('_base_.channels'), Code('_base_.channels[2]')
        parts = dict(decode_head=dict(in_channels=decode), auxiliary_head=dict(in_channels=auxiliary))
        return _model(backbone, dict(backbone=_changed(options), **parts))
    maps = maps_of(backbone, **options, out_indices=backbone.blocks)
    width = FAMILIES[backbone.family].width if backbone.family == 'tiny' else maps.channels[0]
    count = len(maps.channels)
    neck = dict(
        type='StagePyramid',
        in_channels=Code(f'[{maps.channels[0]}] * {count}'),
        in_strides=Code(f'[{maps.strides[0]}] * {count}'),
        out_channels=width,
    )
    parts = dict(
        backbone=_changed({**options, 'out_indices': backbone.blocks, 'strides': maps.strides}),
        neck=neck,
        decode_head=dict(in_channels=Code(f'[{width}] * {count}')),
        auxiliary_head=dict(in_channels=width),
    )
    return _model(backbone, parts)
