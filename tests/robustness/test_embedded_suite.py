"""The embedded suite ranks as it was built, and a model errs on our corruptions as it does on their peer's."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch.nn.functional import avg_pool2d, cross_entropy

from backbones.checkpoint import build_model, save_model
from backbones.record import ModelRecord
from distill.cli.robustness import main
from distill.corruptions import DETERMINISTIC, EXTRA_KINDS, KINDS, corrupt
from distill.results.schema import validate
from distill.results.statistics import Score, wilson_score
from distill.robustness import metrics
from distill.synthetic.imagenet_like import INDEPENDENT, render_image, write_imagenet_like
from distill.synthetic.shapes import CLASSES

pytestmark = pytest.mark.slow
MODEL = 'robust_resnet_dw_small'
MODEL_KWARGS = dict(dims=(16, 32, 64, 64), depths=(1, 1, 2, 1), kernel_size=5, patch_size=4, num_classes=10)
AGREEMENTS = {'correlated': 0.9, 'independent': INDEPENDENT}
EPOCHS, BATCH = 8, 100


def prepare(images: torch.Tensor) -> torch.Tensor:
    """Normalised images in the memory format that a small network trains fastest with."""
    return ((images.float() / 255 - 0.5) / 0.25).contiguous(memory_format=torch.channels_last)


def render(split: str, count: int, size: int, agreement: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Images uint8 [N, 3, H, W] and labels [N]."""
    drawn = [render_image(0, split, index, size, agreement) for index in range(count)]
    images = torch.from_numpy(np.stack([np.array(image) for image, _, _ in drawn]))
    return images.permute(0, 3, 1, 2), torch.tensor([label for _, label, _ in drawn])


def train(path: Path, agreement: float) -> None:
    """Train a small student on images whose texture agrees with the class this often: seconds."""
    torch.manual_seed(0)
    images, labels = render('train', 1500, 32, agreement)
    images = prepare(images)
    network = timm.create_model(MODEL, **MODEL_KWARGS).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
    steps = EPOCHS * len(images) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, steps)
    for _ in range(EPOCHS):
        for indices in torch.randperm(len(images)).split(BATCH):
            batch = images[indices].roll(tuple(torch.randint(-2, 3, (2,)).tolist()), (2, 3))
            optimizer.zero_grad()
            cross_entropy(network(batch), labels[indices], label_smoothing=0.1).backward()
            optimizer.step()
            schedule.step()
    description = dict(classes=sorted(CLASSES), input_size=[3, 32, 32], mean=[0.5] * 3, std=[0.25] * 3)
    save_model(path, network, ModelRecord(MODEL, MODEL_KWARGS, **description))


@pytest.fixture(scope='module')
def students(tmp_path_factory) -> dict[str, Path]:
    """A model trained on images whose texture tells the class, and one on images whose texture does not."""
    assert tuple(sorted(CLASSES)) == tuple(CLASSES)
    paths = {name: tmp_path_factory.mktemp('students') / f'{name}.pth' for name in AGREEMENTS}
    for name, path in paths.items():
        train(path, AGREEMENTS[name])
    return paths


def test_a_model_that_learnt_textures_loses_on_stylized_and_one_that_could_not_does_not(students, tmp_path):
    entries = {}
    for name, agreement in AGREEMENTS.items():
        root, out = tmp_path / name, tmp_path / f'{name}-results'
        write_imagenet_like(root, size=32, train=0, val=400, shifted=400, texture_agreement=agreement)
        arguments = ['--data-root', str(root), '--out', str(out), '--suite', 'clean', 'stylized', '--workers', '0']
        assert main([str(students[name]), *arguments]) == 0
        results = json.loads((out / 'results.json').read_text())
        validate(results)
        entries[name] = results['classification'][name]
    clean, stylized = entries['correlated']['clean'], entries['correlated']['stylized']
    assert clean['top1_ci95_pct'][0] > stylized['top1_ci95_pct'][1] + 10
    clean, stylized = entries['independent']['clean'], entries['independent']['stylized']
    assert clean['top1_ci95_pct'][0] < stylized['top1_ci95_pct'][1]
    assert clean['top1_pct'] > 40
    assert shape_bias(entries['independent']).low > shape_bias(entries['correlated']).high


def shape_bias(entries: dict) -> Score:
    entry = entries['stylized']
    decided = entry['shape_bias_counts']['shape'] + entry['shape_bias_counts']['texture']
    return wilson_score(entry['shape_bias_pct'], decided)


@pytest.mark.skipif(importlib.util.find_spec('imagecorruptions') is None, reason="pip install '.[frost]' for the peer")
def test_a_model_errs_on_random_corruptions_as_on_those_of_the_peer(students):
    from imagecorruptions import corrupt as peer

    network = build_model(checkpoint=students['independent']).eval()
    images, labels = render('val', 1000, 64, INDEPENDENT)
    images = images.permute(0, 2, 3, 1).contiguous().numpy()
    np.random.seed(0)  # the peer draws from the global generator

    def error_pct(shown: np.ndarray) -> float:
        with torch.inference_mode():
            # Corrupted at twice the size that the model knows: below 41 pixels the peer's motion blur darkens.
            halved = avg_pool2d(torch.from_numpy(shown).permute(0, 3, 1, 2).float(), 2)
            decisions = network(prepare(halved)).argmax(dim=1)
        return 100 - metrics.accuracy_pct((decisions == labels).numpy())

    assert error_pct(images) < 70
    for kind in sorted({*KINDS, *EXTRA_KINDS} - set(DETERMINISTIC)):
        own = error_pct(corrupt(images, kind, 2, range(1000), definition='imagecorruptions'))
        peers = error_pct(np.stack([peer(image, 2, kind) for image in images]))
        interval = wilson_score(peers, 1000)
        assert interval.low <= own <= interval.high, f'{kind}: {own} is not within {interval}'
