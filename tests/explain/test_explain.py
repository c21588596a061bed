"""Explanations of models: CKA, effective receptive fields, Grad-CAM and rollout by hand, and the command line."""

import json
import math
import runpy
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace

import pytest
import timm
import torch
from PIL import Image
from torch import nn

from backbones.checkpoint import save_model
from backbones.record import ModelRecord
from distill.explain.attribution import GRAD_CAM, NONE, ROLLOUT, attention_rollout, attribute, recorded_attention
from distill.explain.cka import MinibatchCKA, linear_cka, u_centred_gram
from distill.explain.images import class_name
from distill.explain.receptive_field import ReceptiveField, square_side
from distill.explain.stages import spread, stage_features, stage_names
from distill.report.write import write_report
from distill.results.schema import SECTIONS


class Stages(nn.Module):
    """Layers in a row with the parts of timm's interface that are needed here."""

    def __init__(self, *layers: nn.Module, head: nn.Module | None = None):
        super().__init__()
        self.layers, self.head = nn.ModuleList(layers), head

    def forward_intermediates(self, x, indices=None, intermediates_only=False):
        found = []
        for layer in self.layers:
            x = layer(x)
            found.append(x)
        chosen = found[-indices:] if isinstance(indices, int) else [found[i] for i in indices or range(len(found))]
        return chosen if intermediates_only else (x, chosen)

    def forward_head(self, x):
        return self.head(x)


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ones_conv(channels: int = 1) -> nn.Conv2d:
    conv = nn.Conv2d(channels, 1, 3, padding=1, bias=False)
    nn.init.ones_(conv.weight)
    return conv


# CKA


def test_hsic_by_hand():
    # x = 0, 0, 1, 1: the Gram matrix without its diagonal has two ones, between images 2 and 3; row sums 0, 0, 1, 1.
    # Centred at 0-1: 0 - 0 - 0 + 2 / 6 = 1/3; at 0-2: 0 - 1/2 + 1/3 = -1/6; at 2-3: 1 - 1/2 - 1/2 + 1/3 = 1/3.
    gram = u_centred_gram(torch.tensor([[0.0], [0.0], [1.0], [1.0]]))
    expected = torch.tensor([[0, 2, -1, -1], [2, 0, -1, -1], [-1, -1, 0, 2], [-1, -1, 2, 0]]) / 6
    assert torch.allclose(gram, expected.double(), atol=1e-7)


def test_cka_of_two_by_two_stages_by_hand():
    # U-centred, in sixths: a = (0,0,1,1) pairs 01 and 23; b = (0,1,0,1) pairs 02 and 13, with the same pattern.
    # <a, a> = 4 · (2² + ... ) / 36: four entries of 2 and eight of -1: (16 + 8) / 36 = 2/3.
    # <a, b>: the four 2s of a meet -1, four -1s of a meet 2, the other four -1 meet -1: (-8 - 8 + 4) / 36 = -1/3.
    a, b = (torch.tensor(values)[:, None] for values in ([0.0, 0, 1, 1], [0.0, 1, 0, 1]))
    cka = MinibatchCKA()
    cka.add([a, b], [a, b])
    assert torch.allclose(cka.result(), torch.tensor([[1, -0.5], [-0.5, 1]]).double(), atol=1e-6)


def test_cka_ignores_rotation_scale_and_shift_and_sees_independence():
    x = randn(64, 8)
    rotation = torch.linalg.qr(randn(8, 8, seed=1)).Q
    assert linear_cka(x, x) == pytest.approx(1, abs=1e-12)
    assert linear_cka(x, 3 * x @ rotation + 5) == pytest.approx(1, abs=1e-9)
    assert abs(linear_cka(x, randn(64, 8, seed=2))) < 0.1
    # Not any linear map: stretching one direction matters.
    assert linear_cka(x, x * torch.tensor([10.0] + [1.0] * 7)) < 0.8


def test_unbiased_hsic_is_zero_on_average_where_the_biased_one_is_not():
    pairs = [(randn(6, 50, seed=2 * i), randn(6, 50, seed=2 * i + 1)) for i in range(200)]
    cka = MinibatchCKA()
    for x, y in pairs:
        cka.add([x], [y])
    # Six images of fifty features: the biased estimate of independent noise is near 0.9 at any number of batches.
    assert abs(cka.result().item()) < 0.05
    with pytest.raises(ValueError, match='at least 4 images a batch, found 3'):
        u_centred_gram(randn(3, 2))


# Effective receptive field


def test_field_of_convolutions():
    network = Stages(ones_conv(3), ones_conv(), ones_conv())
    field = ReceptiveField(network, [0, 1, 2])
    field.add(torch.randn(2, 3, 16, 16))
    first, second, third = field.result()
    block = torch.zeros(16, 16, dtype=torch.float64)
    block[7:10, 7:10] = math.sqrt(3)  # Over three colours of gradient 1.
    assert torch.allclose(first, block, atol=1e-6)
    # Each further convolution convolves the weights once more: 1, 2, 3, 2, 1 and 1, 3, 6, 7, 6, 3, 1 along each side.
    for found, weights in ((second, [1, 2, 3, 2, 1]), (third, [1, 3, 6, 7, 6, 3, 1])):
        line = torch.tensor(weights).double()
        reach = len(weights) // 2
        part = found[8 - reach : 9 + reach, 8 - reach : 9 + reach]
        assert torch.allclose(part, math.sqrt(3) * line.outer(line), atol=1e-5)
        assert found.sum() == pytest.approx(part.sum().item())
    assert field.centres[0] == (8, 8)
    assert [square_side(found, (8, 8), 1.0) for found in (first, second, third)] == [3, 5, 7]
    assert square_side(second, (8, 8), 0.5) == 3  # 49 of 81
    assert square_side(torch.zeros(4, 4), (2, 2), 0.5) == 0


def test_field_survives_a_layer_norm_and_knows_the_middle_of_a_patch():
    patches = nn.Sequential(nn.Conv2d(3, 32, 4, 4), timm.layers.LayerNorm2d(32))
    field = ReceptiveField(Stages(patches), [0])
    field.add(torch.randn(2, 3, 16, 16))
    (found,) = field.result()
    inside = found[8:12, 8:12]
    assert inside.min() > 1e-3
    assert found.sum() == pytest.approx(inside.sum().item())
    assert field.centres == [(9.5, 9.5)]
    assert square_side(found, field.centres[0], 1.0) == 4


# Attribution


def test_grad_cam_finds_the_pixel_that_decides():
    # Two feature maps of which the head looks at one for each class; a bright pixel lies in each.
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2, bias=False))
    head[2].weight.data = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    network = Stages(nn.Conv2d(3, 2, 1, bias=False), head=head)
    network.layers[0].weight.data = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])[..., None, None]
    images = torch.zeros(2, 3, 6, 6)
    images[0, 0, 1, 4], images[0, 1, 5, 0] = 9, 3  # Red decides.
    images[1, 0, 1, 4], images[1, 1, 5, 0] = 3, 9  # Green decides.
    found = attribute(network, images)
    assert found.method == GRAD_CAM
    assert found.classes.tolist() == [0, 1]
    expected = torch.zeros(2, 6, 6)
    expected[0, 1, 4] = expected[1, 5, 0] = 9 / 36  # The gradient of a mean over 36 places, times 9.
    assert torch.allclose(found.maps, expected)


def test_rollout_by_hand():
    # Both heads of the first block look at token 1, those of the second are split between 0 and 1.
    first = torch.tensor([[0.0, 1.0], [0.0, 1.0]]).expand(1, 2, 2, 2)
    second = torch.stack([torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, 1.0]])])[None]
    # [[.75, .25], [.25, .75]] @ [[.5, .5], [0, 1]]
    assert torch.allclose(attention_rollout([first, second])[0], torch.tensor([[0.375, 0.625], [0.125, 0.875]]))


def test_rollout_follows_the_class_token():
    torch.manual_seed(0)
    network = timm.create_model('deit_tiny_patch16_224', img_size=32, patch_size=8, depth=2, num_classes=5).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = network(images)
        with recorded_attention(network) as attention:
            network(images)
        assert [tuple(block.shape) for block in attention] == [(2, 3, 17, 17)] * 2
        assert torch.allclose(attention[0].sum(dim=-1), torch.ones(2, 3, 17))
        assert torch.equal(network(images), before)
        assert len(attention) == 2  # Nothing is left in the model.
    found = attribute(network, images)
    assert found.method == ROLLOUT
    assert torch.allclose(found.maps, attention_rollout(attention)[:, 0, 1:].reshape(2, 4, 4))
    assert torch.allclose(found.confidence, before.softmax(dim=1).amax(dim=1))


@pytest.mark.parametrize(
    ('name', 'arguments', 'method', 'stages'),
    [
        ('resnet18', {}, GRAD_CAM, ['act1', 'layer1', 'layer2', 'layer3', 'layer4']),
        ('efficientnet_lite0', {}, GRAD_CAM, [f'blocks.{i}' for i in (0, 1, 2, 4, 6)]),
        ('robust_resnet_dw_small', {'dims': [8, 8, 8, 8]}, GRAD_CAM, [f'stages.{i}' for i in range(4)]),
        (
            'swin_tiny_patch4_window7_224',
            {'img_size': 64, 'window_size': 2, 'embed_dim': 24, 'depths': (1, 1, 1, 1)},
            GRAD_CAM,
            [f'layers.{i}' for i in range(4)],
        ),
        (
            'deit_tiny_patch16_224',
            {'img_size': 64, 'depth': 2, 'global_pool': 'avg'},
            GRAD_CAM,
            ['blocks.0', 'blocks.1'],
        ),
        ('xcit_nano_12_p16_224', {'depth': 2}, NONE, ['blocks.0', 'blocks.1']),
    ],
)
def test_any_timm_model(name, arguments, method, stages):
    network = timm.create_model(name, num_classes=3, **arguments).eval()
    images = torch.randn(2, 3, 64, 64)
    assert stage_names(network, images) == stages
    features = stage_features(network, images)
    assert len(features) == len(stages)
    found = attribute(network, images)
    assert found.method == method
    assert found.maps.shape == (2, *features[-1].shape[2:])
    with torch.no_grad():
        confidence, classes = network(images).softmax(dim=1).max(dim=1)
    assert found.classes.tolist() == classes.tolist()
    assert torch.allclose(found.confidence, confidence, atol=1e-5)
    field = ReceptiveField(network, spread(len(stages), 4))
    field.add(images)
    assert field.result().amax(dim=(1, 2)).min() > 0


def test_a_spread_ends_with_the_last():
    assert spread(12, 4) == [2, 5, 8, 11]
    assert spread(5, 4) == [0, 1, 3, 4]
    assert spread(2, 4) == [0, 1]


def test_classes_for_people():
    run = SimpleNamespace(classes=None, network=SimpleNamespace(num_classes=1000))
    assert class_name(run, 1) == 'goldfish'
    run.classes = ['n01443537', 'star']
    assert [class_name(run, index) for index in (0, 1)] == ['goldfish', 'star']
    run.classes, run.network.num_classes = None, 7
    assert class_name(run, 3) == 'class 3'


# The command line


@pytest.fixture(scope='module')
def models(tmp_path_factory) -> list[Path]:
    """A tiny transformer and a tiny CNN, untrained, as checkpoints of this project."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp('models')
    described = {
        'vit': ('deit_tiny_patch16_224', {'img_size': 32, 'patch_size': 8, 'depth': 2, 'embed_dim': 24}),
        'cnn': ('robust_resnet_dw_small', {'dims': [8, 8, 16, 16], 'depths': [1, 1, 1, 1]}),
    }
    for run, (name, arguments) in described.items():
        arguments = {**arguments, 'num_classes': 10}
        network = timm.create_model(name, **arguments)
        description = {'model': name, 'model_kwargs': arguments, 'input_size': [3, 32, 32]}
        save_model(folder / f'{run}.pth', network, ModelRecord.from_json(description))
    return [folder / 'vit.pth', folder / 'cnn.pth']


def explain(*arguments: object) -> int:
    main = runpy.run_path(str(Path(__file__).parents[2] / 'tools' / 'explain.py'))['main']
    return main([*map(str, arguments), '--device', 'cpu', '--workers', '0'])


@pytest.mark.slow
def test_pictures_and_numbers_of_a_pair(shapes, models, tmp_path, capsys):
    out = tmp_path / 'out'
    command = [*models, '--images', shapes / 'val', '--out', out, '--count', 10, '--batch-size', 6, '--shown', 2]
    assert explain(*command) == 0
    results = json.loads((out / 'results.json').read_text())
    SECTIONS['explain'](results['explain'], 'explain')
    (entry,) = results['explain']
    assert (entry['a']['name'], entry['b']['name'], entry['images']) == ('vit', 'cnn', 10)
    assert [len(row) for row in entry['cka']] == [4, 4]
    assert entry['a']['attribution'] == ROLLOUT
    assert entry['b']['attribution'] == GRAD_CAM
    for path in entry['figures'].values():
        with Image.open(out / path) as image:
            assert min(image.size) > 200
        ElementTree.parse((out / path).with_suffix('.svg'))

    _, paths = write_report([out])
    page = paths['html'].read_text()
    assert page.count('src="data:image/svg+xml;base64,') == 3
    assert {'explain_1_cka', 'explain_1_attribution', 'explain_1_receptive_field'} <= paths['figures'].keys()
    assert 'vit and cnn: effective receptive field' in page

    # The same again gives the same; other results are kept.
    assert explain(*command) == 0
    assert json.loads((out / 'results.json').read_text())['explain'] == results['explain']
    (out / 'results.json').write_text(json.dumps({'schema_version': 1, 'runs': {}}))
    assert explain(*command) == 1
    assert 'holds runs and is not overwritten; give another --out' in capsys.readouterr().err


def test_mistakes_are_one_line(shapes, models, tmp_path, capsys):
    (tmp_path / 'few').mkdir()
    for arguments, message in (
        ([*models, '--images', tmp_path / 'none'], "none' does not exist; give a folder with images"),
        ([*models, '--images', tmp_path / 'few'], "few' has 0 images and 64 were asked for; give 4 or more"),
        ([*models, '--images', shapes / 'val', '--count', 3], 'images and 3 were asked for; give 4 or more'),
        ([*models, '--images', shapes / 'val', '--shown', 0], '--shown is 0; give 1 or more'),
        ([models[0], models[0], '--images', shapes / 'val'], "both models are called 'vit'; name one with NAME=MODEL"),
    ):
        assert explain(*arguments, '--out', tmp_path / 'out') == 1
        error = capsys.readouterr().err.strip()
        assert message in error
        assert '\n' not in error
    assert not (tmp_path / 'out').exists()
