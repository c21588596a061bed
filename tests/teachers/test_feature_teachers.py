"""Feature teachers give what timm's own functions give, for every kind of network."""

import pytest
import timm
import torch

from distill.data.batch import ViewBatch
from distill.teachers.build import build_feature_teacher
from distill.teachers.features import LiveFeatures
from distill.teachers.protocol import FeatureTeacher

SMALL = dict(embed_dim=32, depth=2, num_heads=2)
MODELS = {
    'cls': dict(model='vit_tiny_patch16_224', size=64, **SMALL),
    'dinov2': dict(model='vit_small_patch14_dinov2', size=56, **SMALL),
    'registers': dict(model='vit_small_patch14_reg4_dinov2', size=(56, 42), **SMALL),
    'dinov3': dict(model='vit_small_patch16_dinov3', size=64, **SMALL),
    'clip': dict(model='vit_base_patch16_clip_224', size=64, **SMALL),
    'siglip': dict(model='vit_base_patch16_siglip_224', size=64, **SMALL),
    'siglip_gap': dict(model='vit_base_patch16_siglip_gap_224', size=64, **SMALL),
    'fc_norm': dict(model='vit_tiny_patch16_224', size=64, global_pool='avg', **SMALL),
    'eva': dict(model='eva02_tiny_patch14_224', size=56, **SMALL),
    'beit': dict(model='beitv2_base_patch16_224', size=64, **SMALL),
    'distilled': dict(model='deit_tiny_distilled_patch16_224', size=64, **SMALL),
    'dynamic': dict(model='vit_tiny_patch16_224', dynamic_img_size=True, **SMALL),
    'cnn': dict(model='resnet18'),
    'convnext': dict(model='convnext_atto'),
    'mobilenet': dict(model='mobilenetv3_small_050'),
    'swin': dict(model='swin_tiny_patch4_window7_224', size=64, embed_dim=16, depths=(1, 1, 1, 1)),
}


def views(size: int = 64, count: int = 2, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)) -> ViewBatch:
    images = torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))
    return ViewBatch(images, torch.tensor(mean).view(1, 3, 1, 1), torch.tensor(std).view(1, 3, 1, 1))


def teacher(**config) -> LiveFeatures:
    torch.manual_seed(0)
    built = build_feature_teacher(dict(name='one', pretrained=False, **config))
    assert isinstance(built, FeatureTeacher)
    return built


@pytest.mark.parametrize('kind', MODELS)
def test_features_are_those_of_timm(kind):
    one = teacher(**MODELS[kind])
    batch = views()
    shown = one.shown(batch)
    found = one(batch, ('pooled', 'grid'))
    with torch.no_grad():
        features = one.network.forward_features(shown)
        expected = one.network.forward_head(features, pre_logits=True)
    torch.testing.assert_close(found.pooled, expected)
    assert found.pooled.shape == (2, one.pooled_chs)
    assert found.grid.shape[:2] == (2, one.grid_chs)
    assert found.logits is None
    assert not found.pooled.requires_grad
    if hasattr(one.network, 'patch_embed') and kind != 'swin':
        stride = one.network.patch_embed.patch_size[0]
        assert found.grid.shape[2:] == tuple(side // stride for side in shown.shape[-2:])
        # The cells lie as the patches do: by timm's own layout of the last block, which goes through the final norm.
        own = one.network.forward_intermediates(shown, indices=1, norm=True, intermediates_only=True)[0]
        if kind in ('fc_norm', 'siglip_gap', 'beit', 'eva'):
            own = one.network.fc_norm(own.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        torch.testing.assert_close(found.grid, own)
    if kind == 'swin':
        torch.testing.assert_close(found.grid, features.permute(0, 3, 1, 2))


def test_asked_tokens_are_pooled_after_the_final_norm():
    for kind, prefix in (('cls', 1), ('registers', 5), ('fc_norm', 1)):
        config = MODELS[kind]
        for pooling in ('cls', 'avg'):
            one = teacher(**config, pooling=pooling)
            batch = views()
            tokens = one.network.forward_features(one.shown(batch))
            expected = tokens[:, 0] if pooling == 'cls' else tokens[:, prefix:].mean(dim=1)
            torch.testing.assert_close(one(batch).pooled, one.network.fc_norm(expected))
        assert isinstance(one.network.fc_norm, torch.nn.LayerNorm) == (kind == 'fc_norm')


def test_an_inner_layer_goes_through_the_final_norm_of_a_transformer_and_is_itself_of_a_cnn():
    one = teacher(**MODELS['dinov2'], layer=-2)
    found = one(views(), ['grid'])
    assert one.layer == 0
    assert found.pooled is None
    images = one.shown(views())
    own = one.network.forward_intermediates(images, indices=[0], norm=True, intermediates_only=True)[0]
    torch.testing.assert_close(found.grid, own)
    assert found.grid.permute(0, 2, 3, 1).mean(dim=3).abs().max() < 1e-5
    cnn = teacher(**MODELS['cnn'], layer=2)
    own = cnn.network.forward_intermediates(views().images, indices=[2], intermediates_only=True)[0]
    found = cnn(views()).grid
    torch.testing.assert_close(found, own)
    assert found.shape[1] == cnn.grid_chs


def test_a_network_whose_end_is_no_map_is_asked_for_a_layer():
    xcit = dict(model='xcit_nano_12_p16_224', embed_dim=32, depth=2, num_heads=2)
    with pytest.raises(ValueError, match=r'what Xcit gives at its end is no map; name one of its layers \(layer=-1\)'):
        teacher(**xcit)(views())
    assert teacher(**xcit, layer=-1)(views()).grid.shape == (2, 32, 4, 4)


def test_a_teacher_is_shown_its_own_size_and_normalisation():
    one = teacher(**MODELS['dinov2'], mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    plain = teacher(**MODELS['dinov2'])
    values = (views().images * views().std + views().mean - 0.5) / 0.5
    resized = torch.nn.functional.interpolate(values, (56, 56), mode='bicubic', antialias=True)
    torch.testing.assert_close(one(views()).pooled, one.network(resized))
    assert not torch.allclose(one(views()).pooled, plain(views()).pooled)
    assert teacher(**MODELS['registers'])(views(80)).grid.shape[2:] == (4, 3)
    assert teacher(**MODELS['dynamic'])(views(80)).grid.shape[2:] == (5, 5)


def test_a_classifier_gives_logits_beside_its_features():
    one = teacher(model='resnet18')
    found = one(views(), {'pooled', 'logits'})
    torch.testing.assert_close(found.logits, one.network(views().images))
    assert one.num_classes == 1000
    assert found.grid is None


def test_local_weights_are_read_and_described(tmp_path):
    torch.manual_seed(1)
    network = timm.create_model('vit_small_patch14_dinov2', num_classes=0, img_size=56, **SMALL)
    torch.save(network.state_dict(), tmp_path / 'dino.pth')
    config = dict(model='vit_small_patch14_dinov2', img_size=56, checkpoint=str(tmp_path / 'dino.pth'), **SMALL)
    one = build_feature_teacher(dict(name='dino', **config))
    images = one.shown(views())
    torch.testing.assert_close(one(views()).pooled, network.eval()(images))
    about = one.describe()
    assert about['model'] == 'vit_small_patch14_dinov2'
    assert about['size'] == [56, 56]
    resized = build_feature_teacher(dict(name='dino', size=28, **config))
    assert resized(views()).grid.shape[2:] == (2, 2)
    # Of the weights in the file, whatever size they are brought to.
    assert resized.describe()['weights_sha256'] == about['weights_sha256']
    assert len(about['weights_sha256']) == 64


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (dict(MODELS['dinov2'], size=60), r"'one' has patches of 14x14 pixels, which do not fit .*60x60; set size=56"),
        (dict(MODELS['cls'], layer=2), "layer 2 of the teacher 'one' is out of range; choose from 0 … 1"),
        (dict(MODELS['cls'], layer='blocks.1'), "layer blocks.1 of the teacher 'one' is out of range"),
        (dict(MODELS['cls'], pooling='max'), "teacher 'one' has pooling 'max'; choose from cls, avg"),
        (dict(MODELS['siglip'], pooling='cls'), 'VisionTransformer without class token; leave pooling out'),
        (dict(MODELS['cnn'], pooling='cls'), 'ResNet and has no patch tokens to pool; leave pooling out'),
        (dict(model='vit_smal_patch14_dinov2'), "'vit_smal_patch14_dinov2' is unknown"),
        (dict(MODELS['cls'], pretrained=None), "'vit_tiny_patch16_224' has random weights; give checkpoint='FILE'"),
        (dict(MODELS['cls'], checkpoint='none.pth', pretrained=None), "checkpoint 'none.pth' does not exist"),
    ],
)
def test_what_a_teacher_cannot_give_is_refused_in_one_line(config, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        build_feature_teacher({'name': 'one', 'pretrained': False, **config})
    assert '\n' not in str(error.value)


def test_views_that_patches_do_not_fit_are_refused():
    one = teacher(**MODELS['dynamic'])
    with pytest.raises(ValueError, match='do not fit images of 40x40; set size=32'):
        one(views(40))

    class Dataset:
        transform_config = dict(input_size=40)

    with pytest.raises(ValueError, match='do not fit images of 40x40; set size=32'):
        one.check_run(Dataset(), None, None)
    with pytest.raises(ValueError, match="teacher 'one' has no classifier"):
        teacher(**MODELS['dinov2'])(views(), ['logits'])
