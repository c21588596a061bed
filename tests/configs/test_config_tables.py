"""The tables of configs: what is on disk is what they give, and a row is all that another backbone takes."""

import ast
from pathlib import Path

import pytest
import timm
import yaml

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

from mmengine.config import Config

from distill.configs._table_ import leaves as runs
from distill.configs._table_.text import Code, Tall, assignment, config, expression, outdated
from downstream_configs._table_ import files, maps, scores
from downstream_configs._table_.backbones import BACKBONES, ROWS, Backbone
from downstream_configs._table_.leaves import fragment, leaf
from downstream_configs._table_.pages import readme
from downstream_configs._table_.recipes import RECIPES, configs

ROOT = Path(__file__).parents[2]


def given() -> dict[Path, str]:
    """All files that the tables give. Headers tell the parameters that they tell; another test counts them."""
    return {**runs.files(), **files.files({name: files.read_millions(name) for name in configs()})}


def test_files_are_what_the_tables_give():
    texts = given()
    assert outdated(texts) == [], 'run `make configs`'
    folders = {path.parent for path in texts if path.suffix == '.py'}
    strangers = [path for folder in folders for path in folder.glob('*.py') if path not in texts]
    assert strangers == [], 'these are in no row of a table'


# A backbone of another kind each, beside the one of the table that has the recipes that it should have.
MADE_UP = {
    'convnext-t': Backbone('regnet', 'RegNetY-400MF', 'adamw', 'regnety_004.pycls_in1k'),
    'swin-t': Backbone('pvt', 'PVTv2-B0', 'adamw', 'pvt_v2_b0.in1k', dilates=False),
    'deit-s': Backbone('vit', 'ViT-Ti', 'adamw', 'vit_tiny_patch16_224', dilates=False, blocks=(2, 5, 8, 11)),
    'convnext': Backbone('regnet', 'a small RegNet', 'tiny', 'regnety_002'),
}


@pytest.fixture
def scratch(monkeypatch, tmp_path) -> Path:
    """A folder for configs of a made-up backbone, with all fragments but the backbones'."""
    for part in (files.ROOT / '_base_').iterdir():
        (tmp_path / '_base_').mkdir(exist_ok=True)
        if part.name != 'backbones':
            (tmp_path / '_base_' / part.name).symlink_to(part)
    for folder in ('_base_/backbones', *files.FOLDERS):
        (tmp_path / folder).mkdir()
    monkeypatch.setattr(files, 'ROOT', tmp_path)
    return tmp_path


@pytest.mark.parametrize('like', MADE_UP)
def test_one_row_gives_a_backbone_in_all_recipes(like, monkeypatch, scratch):
    row = MADE_UP[like]
    like_it = [name for name, (_, other) in configs().items() if other.name == like]
    monkeypatch.setitem(BACKBONES, row.name, row)
    names = [name for name, (_, backbone) in configs().items() if backbone is row]
    kind = 'sfp' if row.blocks else 'fpn'
    assert names == sorted(name.replace(f'_{like}', f'_{row.name}') for name in like_it)
    assert all(f'_{row.name}_{kind}_' in name for name in names if 'cascade' in name)

    path = scratch / '_base_' / 'backbones' / f'{row.file}.py'
    path.write_text(fragment(row, None))
    written = Config.fromfile(path)
    last = dict(out_indices=written.backbone.out_indices) if row.blocks else {}
    truth = timm.create_model(row.model, features_only=True, **last).feature_info
    assert written.channels == truth.channels()[-4:]
    assert list(written.backbone.strides) == truth.reduction()[-4:]
    for name in names:
        files.path_of(name).write_text(leaf(*configs()[name], '0.0'))
        assert float(files.count_millions(name)) > 0


def test_inputs_are_normalised_as_the_weights_want():
    assert maps.normalisation_of(Backbone('x', 'X', 'adamw', 'vit_tiny_patch16_224.augreg_in21k')) == dict(
        mean=[127.5] * 3, std=[127.5] * 3
    )
    assert maps.normalisation_of(Backbone('x', 'X', 'adamw', 'vit_tiny_patch16_224')) == {}
    assert maps.normalisation_of(Backbone('x', 'X', 'adamw', 'convnext_tiny.fb_in1k')) == {}


def test_wrong_row_is_named():
    with pytest.raises(ValueError, match=r"family 'adam' of x is unknown; choose from resnet, resnest, adamw, tiny"):
        Backbone('x', 'X', 'adam', 'regnety_004')
    with pytest.raises(ValueError, match=r"row 'x' .* no 'dims'"):
        maps.maps_of(Backbone('x', 'X', 'tiny', 'regnety_004', options=dict(dims=(1, 2))))
    with pytest.raises(ValueError, match=r"row 'x' .* say dilates=False"):
        maps.maps_of(Backbone('x', 'X', 'adamw', 'swin_tiny_patch4_window7_224'), output_stride=8)


def test_each_backbone_has_a_detector_of_both_kinds_and_a_segmenter():
    for backbone in BACKBONES.values():
        methods = {recipe.method for recipe in RECIPES if recipe.is_meant_for(backbone)}
        assert {'cascade-rcnn', 'cascade-mask-rcnn'} <= methods
        assert ('deeplabv3' in methods) == backbone.dilates
        assert ('upernet' in methods) != backbone.dilates


def test_rows_name_only_what_is_there():
    assert len(ROWS) == len(BACKBONES), 'two rows have one name'
    for backbone in BACKBONES.values():
        meant = {recipe.key for recipe in RECIPES if recipe.is_meant_for(backbone)}
        assert {*backbone.options_at, *backbone.lines_at, *backbone.step_s} <= meant
        assert not backbone.plain or backbone.plain in BACKBONES
    assert scores.PUBLISHED.keys() <= configs().keys()
    for recipe in RECIPES:
        small = 'tiny' in recipe.schedules
        assert (recipe.reference in scores.PUBLISHED) != small
        assert bool(recipe.goal[0]) == small


def test_length_of_a_recipe_is_that_of_its_schedules():
    names = dict(Epochs='max_epochs', Iterations='max_iters')
    for recipe in RECIPES:
        unit, number = recipe.length
        for schedule in recipe.schedules.values():
            found = Config.fromfile(files.ROOT / '_base_' / 'schedules' / f'{schedule}.py').train_cfg
            assert found[names[unit]] == number, (recipe.name, schedule)


@pytest.mark.parametrize('folder', files.FOLDERS)
def test_metafile_has_the_results_that_headers_aim_at(folder):
    meta = yaml.safe_load((files.ROOT / folder / 'metafile.yml').read_text())
    collections = {collection['Name'] for collection in meta['Collections']}
    for model in meta['Models']:
        path = ROOT / model['Config']
        assert (path.stem, path.parent.name) == (model['Name'], folder)
        assert model['In Collection'] in collections
        target = ' '.join(ast.get_docstring(ast.parse(path.read_text())).split()).split('Target: ')[1]
        for result in model.get('Results', []):
            assert all(f'{score}' in target for score in result['Metrics'].values())
            assert result['Source'] in target


def test_without_a_published_score_the_target_is_the_nearest():
    def words(name: str, backbone: Backbone) -> str:
        return scores.target(configs()[name][0], backbone)

    row = Backbone('x', 'X', 'adamw', 'regnety_004')
    box, mask = (f'{kind}_swin-t_fpn_4conv1fc-giou_ms-crop-3x_coco' for kind in ('cascade-rcnn', 'cascade-mask-rcnn'))
    assert words(mask, BACKBONES['swin-t']).startswith('50.5 box / 43.7 mask mAP (Swin')
    assert words(box, BACKBONES['swin-t']).startswith('nobody has published it without masks; with them 50.5 box mAP (')
    nobody = 'nobody has published {} on X with this recipe; '.format
    assert words(mask, row).startswith(
        nobody('Cascade Mask R-CNN') + 'ResNet-50 has 46.3 box and 40.1 mask mAP with it ('
    )
    assert words(box, row).startswith(nobody('Cascade R-CNN') + 'with masks ResNet-50 has 46.3 box mAP (')
    variant = words('deeplabv3_s50-d8_160k_ade20k-512x512', BACKBONES['s50-mdconv-c3-c5'])
    assert variant.startswith('nobody has published it; without deformable convolutions 45.12 mIoU (')
    assert 'at 8 it has 42.66' in words('deeplabv3_r50-d16_160k_ade20k-512x512', BACKBONES['r50'])


def test_readme_keeps_its_prose_and_says_where_the_list_belongs():
    name = 'deeplabv3_r50-d8_160k_ade20k-512x512'
    text = (files.ROOT / 'deeplabv3' / 'README.md').read_text()
    found = readme('Mine.\n' + text, 'deeplabv3', dict.fromkeys(configs(), '1.5'))
    assert found.startswith('Mine.\n# DeepLabV3')
    assert f'| [{name}]({name}.py) | 1.5 | 42.66 mIoU single-scale' in found
    with pytest.raises(ValueError, match=r'README.md lacks the line'):
        readme('Mine.', 'deeplabv3', {})


@pytest.mark.parametrize(
    ('value', 'expected'),
    [
        ((16,), '(16,)'),
        ([1, 'a', None], "[1, 'a', None]"),
        ({'': Code('_base_.x'), 'y': dict(z=0.5)}, 'dict(_base_.x, y=dict(z=0.5))'),
        (Tall(x=1), 'dict(\n    x=1,\n)'),
        ({'# Why.': None, 'x': 1}, 'dict(\n    # Why.\n    x=1,\n)'),
        (dict(x=['long' * 10] * 3), 'dict(\n    x=[\n' + f"        '{'long' * 10}',\n" * 3 + '    ],\n)'),
    ],
)
def test_expression_is_written_as_ruff_formats_it(value, expected):
    assert expression(value) == expected


def test_line_is_filled_as_long_as_a_comma_fits_after_it():
    for length, lines in ((119, 1), (120, 3)):
        text = assignment('x', [Code('y' * (length - 6))])
        assert len(text.split('\n')) == lines
    assert len(config(['word ' * 23 + '1' * 5], 'here', []).split('\n')[0]) <= 120
