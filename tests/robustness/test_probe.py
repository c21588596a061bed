"""The judge of frozen features: through the call and the command, on the embedded shapes."""

import json
import shutil

import numpy as np
import pytest
import timm
import torch
from torch import nn

import distill
from distill.cli.main import main
from distill.results.schema import validate
from distill.robustness.probe.features import Embedding
from distill.synthetic.imagenet_like import write_imagenet_like

SMALL = dict(dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), kernel_size=3, patch_size=4, num_classes=0)


class Colours(nn.Module):
    """A network of a user's own whose features are the mean colours of a grid of cells, or noise about them."""

    def __init__(self, noise: float = 0.0):
        super().__init__()
        self.noise, self.calls = noise, 0
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images):
        self.calls += len(images)
        features = nn.functional.adaptive_avg_pool2d(images, 4).flatten(1)
        generator = torch.Generator().manual_seed(0)
        return self.scale * features + self.noise * torch.randn(features.shape, generator=generator)


def given(network: nn.Module) -> dict:
    return dict(model=network, mean=[0.5] * 3, std=[0.5] * 3, input_size=32)


def test_features_are_what_the_classifier_is_shown():
    images = torch.randn(2, 3, 32, 32)
    for name, options in (
        ('robust_resnet_dw_small', SMALL),
        ('resnet10t', dict(num_classes=10)),
        ('deit_tiny_patch16_224', dict(img_size=32, depth=2, num_classes=5)),
        ('deit_tiny_distilled_patch16_224', dict(img_size=32, depth=2, num_classes=5)),
    ):
        network = timm.create_model(name, **options).eval()
        with torch.no_grad():
            features = Embedding(network)(images)
            bare = network.forward_head(network.forward_features(images), pre_logits=True)
        assert torch.equal(features, bare)
        assert features.shape == (2, network.head_hidden_size or network.num_features)
    with pytest.raises(ValueError, match=r'Conv2d gives features \(2, 4, 32, 32\); expected \[B, D\]'):
        Embedding(nn.Conv2d(3, 4, 1))(images)


@pytest.mark.slow
def test_learned_features_beat_random_ones_on_clean_and_shifted_images(tmp_path):
    """A network that was trained on the shapes, against the same one before: with all labels and with a tenth."""
    torch.manual_seed(0)
    root = tmp_path / 'imagenet'
    write_imagenet_like(root, size=32, train=1000, val=200, shifted=200)
    options = dict(dims=(16, 24, 32, 64), depths=(1, 1, 1, 1), kernel_size=3, patch_size=4, num_classes=10)
    result = distill.train(
        'robust-resnet-tiny_shapes',
        data_root=root,
        work_dir=tmp_path / 'run',
        epochs=6,
        lr=1e-2,
        batch_size=20,
        cfg_options={'model.student': dict(model='robust_resnet_dw_small', **options), 'visualizer.vis_backends': []},
    )
    untrained = timm.create_model('robust_resnet_dw_small', **{**options, 'num_classes': 0})
    models = {'learned': str(result.student_best), 'random': given(untrained)}
    results = distill.probe(
        models, root, ['clean', 'stylized'], out=tmp_path / 'out', labels=[1.0, 0.1], seeds=[0, 1], workers=0
    )
    scores = results.scores
    for method in ('knn', 'linear', 'knn-10pct-seed0', 'linear-10pct-seed1'):
        for suite in ('clean', 'stylized'):
            assert scores[f'learned.{method}'][suite] > scores[f'random.{method}'][suite], (method, suite, scores)
    difference = next(one for one in results.content['comparisons'] if one['a'] == 'learned.linear')
    assert (difference['b'], difference['suite']) == ('random.linear', 'clean')
    assert difference['ci95_pct'][0] > 0
    head, rows = results.rows()
    assert head == ['top-1 %', 'clean', 'stylized']
    assert [row[0] for row in rows][:2] == ['learned: k-NN', 'learned: linear']
    assert rows[2][0] == 'learned: k-NN, 10 % of labels (2 seeds)'
    assert '±' in rows[2][1]


@pytest.fixture(scope='module')
def judged(shapes, tmp_path_factory):
    """Two own networks, judged twice."""
    out = tmp_path_factory.mktemp('probe')
    networks = {'plain': Colours(), 'noisy': Colours(2.0)}

    def judge(**options):
        models = {name: given(network) for name, network in networks.items()}
        found = distill.probe(
            models, shapes, ['clean', 'corruption'], out=out, corruption_limit=4, workers=0, **options
        )
        return found, [network.calls for network in networks.values()]

    return judge(), judge(), out


def test_the_file_has_what_any_classifier_has_and_how_each_has_learnt(judged, shapes):
    (results, calls), (again, calls_again), out = judged
    content = json.loads((out / 'results.json').read_text())
    validate(content)
    run = content['runs']['plain.linear']
    assert {key: run['probe'][key] for key in ('method', 'share', 'seed', 'images')} == {
        **dict(method='linear', share=1.0, seed=0, images=80)
    }
    assert run['learnt']['strength'] > 0
    assert content['runs']['plain.knn']['probe']['neighbours'] == 20
    entry = content['classification']['plain.knn']['corruption']
    assert len(entry['cells']) == 15
    assert entry['fingerprint']['probe'] == content['runs']['plain.knn']['probe']
    low, high = content['classification']['plain.knn']['clean']['top1_ci95_pct']
    assert low < results['plain.knn']['clean']['top1_pct'] < high
    # Both networks on the same images, by the same method alone.
    assert {(one['a'], one['b']) for one in content['comparisons']} == {
        *(('plain.knn', 'noisy.knn'), ('plain.linear', 'noisy.linear'))
    }
    # Each image is run once a network and cell, for all classifiers, and nothing is computed again.
    probing = calls[0] - 80 - 40 - 4 * 75
    assert 0 <= probing <= 2
    assert calls_again[0] - calls[0] == probing
    assert again.scores == results.scores
    features = np.load(out / 'features' / 'plain.npz')['features']
    assert features.shape == (80, 48)


def test_other_labels_are_other_results(judged, shapes):
    *_, out = judged
    with pytest.raises(ValueError, match=r"holds results of other probe for 'plain.knn' on 'clean'; choose another"):
        distill.probe({'plain': given(Colours())}, shapes, 'clean', out=out, neighbours=5, workers=0)


def test_the_command(shapes, tmp_path, capsys):
    students = tmp_path / 'student_best.pth'
    from backbones.checkpoint import save_model
    from backbones.record import ModelRecord

    network = timm.create_model('robust_resnet_dw_small', **SMALL)
    shown = dict(input_size=[3, 32, 32], mean=[0.5] * 3, std=[0.5] * 3)
    save_model(students, network, ModelRecord('robust_resnet_dw_small', SMALL, **shown))
    arguments = ['probe', f'mine={students}', '--data-root', str(shapes), '--suite', 'clean', '--workers', '0']
    more = ['--methods', 'ridge', 'knn', '--labels', '0.5']
    assert main([*arguments, '--out', str(tmp_path / 'out'), *more]) == 0
    shown = capsys.readouterr().out
    assert 'mine: ridge, 50 % of labels' in shown
    # Class folders elsewhere, tested on a plain folder.
    shutil.copytree(shapes / 'val', tmp_path / 'mine')
    train = ['probe', f'mine={students}', '--train', str(shapes / 'train'), '--images', str(tmp_path / 'mine')]
    assert main([*train, '--out', str(tmp_path / 'other'), '--workers', '0', '--methods', 'knn']) == 0
    for options, message in (
        (['--labels', '0'], '--labels is 0.0; give a share above 0 and up to 1'),
        (['--labels', '1', '1'], '--labels is [1.0, 1.0]; give one or more, each once'),
        (['--train', 'none'], "training folder 'none' does not exist"),
        (['--neighbours', '0'], '--neighbours is 0; give 1 or more'),
        (['--temperature', '-1'], '--temperature is -1.0; give a number above 0'),
    ):
        assert main([*arguments, '--out', str(tmp_path / 'x'), *options]) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count('\n') == 1
    shutil.copytree(shapes / 'val', tmp_path / 'root' / 'val')
    assert main(['probe', str(students), '--data-root', str(tmp_path / 'root'), '--out', str(tmp_path / 'x')]) == 1
    assert "has no folder 'train' to learn from; pass --train, a folder of class folders" in capsys.readouterr().err


def test_exported_files_and_broken_networks_are_refused(shapes, tmp_path):
    (tmp_path / 'model.onnx').write_bytes(b'x')
    with pytest.raises(ValueError, match='is an exported file, which gives no features; give the model it was made of'):
        distill.probe(str(tmp_path / 'model.onnx'), shapes, 'clean')

    class Broken(Colours):
        def forward(self, images):
            return super().forward(images) / 0

    with pytest.raises(ValueError, match="'Broken' gives features that are not finite"):
        distill.probe(given(Broken()), shapes, 'clean', workers=0)
