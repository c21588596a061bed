"""The command tools/robustness.py on embedded data: scores, files and mistakes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from students import MEAN, MODEL, MODEL_KWARGS, STD

from distill.benchmarks.suite import benchmark_suite
from distill.cli.robustness import build_parser, main, run
from distill.corruptions import KINDS, corrupt
from distill.results.schema import validate
from distill.robustness.runs import load_run
from distill.robustness.suite_table import OWN_SUITES
from distill.robustness.suites import choose_suites
from distill.synthetic.imagenet_like import write_imagenet_like


@pytest.fixture(scope='module')
def results(checkpoints, shapes, tmp_path_factory) -> Path:
    """The folder of an evaluation of both students on all suites."""
    out = tmp_path_factory.mktemp('results')
    arguments = [*map(str, checkpoints), '--data-root', str(shapes), '--out', str(out), '--corruption-limit', '10']
    run(build_parser().parse_args([*arguments, '--batch-size', '7']))
    return out


def test_an_image_that_shows_nothing_is_one_line_from_a_worker(checkpoints, shapes, tmp_path, capsys):
    shutil.copytree(shapes / 'val', tmp_path / 'val')
    Image.new('RGB', (1, 1)).save(tmp_path / 'val' / 'circle' / 'dot.png')
    arguments = ['--data-root', str(tmp_path), '--out', str(tmp_path / 'out'), '--suite', 'clean', '--workers', '1']
    assert main([str(checkpoints[0]), *arguments]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "dot.png' has 1x1 pixels, and the least is 8x8; replace or delete it" in lines[0]


def read(folder: Path) -> tuple[np.ndarray, list[str]]:
    """Images [N, H, W, 3] and class names of a folder of class folders, read without this project's code."""
    paths = sorted(folder.rglob('*.jpg'))
    return np.stack([np.array(Image.open(p)) for p in paths]), [p.parent.name for p in paths]


def predict(checkpoint: Path, images: np.ndarray) -> torch.Tensor:
    """Logits of images [N, H, W, 3], worked out without this project's evaluation."""
    network = timm.create_model(MODEL, checkpoint_path=str(checkpoint), **MODEL_KWARGS).eval()
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        return network((x - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1))


def test_results_fit_the_schema_and_name_every_suite(results):
    content = json.loads((results / 'results.json').read_text())
    validate(content, 'results.json')
    for scores in content['classification'].values():
        assert set(scores) == {suite.key for suite in OWN_SUITES}
        assert set(scores['corruption']['cells']) == set(KINDS)
    for sample in content['samples']:
        assert (results / sample['image']).is_file()
        assert set(sample['predictions']) == {'run0', 'run1'}
    for record in content['runs'].values():
        assert (results / record['checkpoint']).is_file()


def test_scores_are_those_of_a_direct_computation(results, checkpoints, shapes):
    scores = json.loads((results / 'results.json').read_text())['classification']['run1']
    classes = sorted(p.name for p in (shapes / 'val').iterdir())
    images, names = read(shapes / 'val')
    labels = torch.tensor([classes.index(name) for name in names])
    logits = predict(checkpoints[1], images)
    assert scores['clean']['top1_pct'] == pytest.approx(100 * (logits.argmax(1) == labels).float().mean().item())
    in_top5 = (logits.topk(5).indices == labels[:, None]).any(1).float().mean().item()
    assert scores['clean']['top5_pct'] == pytest.approx(100 * in_top5)
    # Rendition has 7 classes: the other logits do not take part in the decision.
    present = sorted(p.name for p in (shapes / 'rendition').iterdir())
    columns = [classes.index(name) for name in present]
    images, names = read(shapes / 'rendition')
    decisions = predict(checkpoints[1], images)[:, columns].argmax(1)
    hits = [present[d] == name for d, name in zip(decisions.tolist(), names, strict=True)]
    assert scores['rendition']['top1_pct'] == pytest.approx(100 * np.mean(hits))
    among = torch.isin(labels, torch.tensor(columns))
    subset = logits[among][:, columns].argmax(1) == torch.tensor([columns.index(k) for k in labels[among].tolist()])
    assert scores['rendition']['clean_subset_top1_pct'] == pytest.approx(100 * subset.float().mean().item())


def test_a_corrupted_cell_is_that_of_a_direct_computation(results, checkpoints, shapes):
    scores = json.loads((results / 'results.json').read_text())['classification']['run0']['corruption']
    stored = np.load(results / 'predictions' / 'run0' / 'corruption.npz')
    assert scores['images'] == 10
    assert len(set(stored['labels'].tolist())) == 10
    images = np.stack([np.array(Image.open(shapes / 'val' / path)) for path in stored['paths']])
    for kind, severity in (('gaussian_noise', 1), ('jpeg_compression', 4), ('snow', 5)):
        corrupted = corrupt(images, kind, severity, [(0, i) for i in range(10)])
        hits = predict(checkpoints[0], corrupted).argmax(1).numpy() == stored['labels']
        assert scores['cells'][kind][severity - 1] == pytest.approx(100 * hits.mean()), kind


def test_benchmark_of_a_suite(checkpoints, tmp_path):
    root, out = tmp_path / 'imagenet', tmp_path / 'out'
    write_imagenet_like(root, size=32, train=0, val=10, shifted=10)
    result = benchmark_suite(load_run(str(checkpoints[0]), 'cpu'), [root], out, repeats=1)
    images = {suite.name: len(list((root / suite.folders[0]).rglob('*.jpg'))) for suite in OWN_SUITES}
    assert result['predictions'] == sum(images.values()) + 74 * images['corruption']
    assert result['ratio'] == pytest.approx(result['whole_s'] / (result['forward_s'] + result['corruption_s']))
    assert list(result['peak_memory_mib']) == [images['clean']]
    assert len(list(out.rglob('results.json'))) == 1


def test_known_scores_are_not_computed_again_and_other_weights_are_refused(results, checkpoints, shapes, capsys):
    before = (results / 'results.json').read_bytes()
    common = ['--data-root', str(shapes), '--out', str(results), '--corruption-limit', '10']
    assert main([*map(str, checkpoints), *common]) == 0
    assert (results / 'results.json').read_bytes() == before
    assert main([f'run0={checkpoints[1]}', *common]) == 1
    assert "holds results of other weights_sha256 for 'run0'; choose another --out" in capsys.readouterr().err
    assert main([str(checkpoints[0]), *common, '--seed', '1']) == 1
    assert "holds results of other seed for 'run0' on 'corruption'" in capsys.readouterr().err
    assert main([str(checkpoints[0]), *common[:-1], '9']) == 1
    assert "holds results of other data for 'run0' on 'corruption'" in capsys.readouterr().err
    assert main([str(checkpoints[0]), *common, '--input-size', '48']) == 1
    assert "holds results of other input_size for 'run0'" in capsys.readouterr().err
    assert (results / 'results.json').read_bytes() == before


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--suite', 'stylised'], "suite 'stylised' is unknown; choose from clean, v2"),
        (['--suite', 'sketch'], 'needs the folder'),
        ([], 'has 1 that are no class of suite clean (blob)'),
    ],
)
def test_mistakes_are_one_line(checkpoints, shapes, tmp_path, capsys, arguments, message):
    shutil.copytree(shapes / 'val', tmp_path / 'val')
    (tmp_path / 'val' / 'blob').mkdir()
    shutil.copy(next((shapes / 'val' / 'circle').iterdir()), tmp_path / 'val' / 'blob')
    out = tmp_path / 'out'
    assert main([str(checkpoints[0]), '--data-root', str(tmp_path), '--out', str(out), *arguments]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert not (out / 'results.json').exists()


def test_a_suite_of_imagenet_does_not_fit_other_classes(shapes):
    with pytest.raises(ValueError, match="suite 'v2' is unknown for these classes; choose from clean, stylized"):
        choose_suites(['v2'], str(shapes), ['circle', 'star'])
