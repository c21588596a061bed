"""The suites of real ImageNet's layout, with networks that read the class off an image's colour."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

from backbones.checkpoint import save_model
from backbones.record import ModelRecord
from distill.base.images import read_image
from distill.cli.robustness import main, problem_lines
from distill.results.schema import validate
from distill.robustness import imagenet
from distill.robustness.corruptions import EXTRA_KINDS, KINDS, SEVERITIES
from distill.robustness.evaluate import Settings, evaluate
from distill.robustness.runs import Run, load_run
from distill.robustness.suite_table import plain_suite
from distill.robustness.suites import choose_suites, open_suite, suites_for

REPO = Path(__file__).parents[2]
WNIDS = list(imagenet.synsets())
CATEGORIES = imagenet.categories()


class Reader(nn.Module):
    """Logits of 1,000 classes from a plain image, whose red tells the class's tens of 32, and green its rest.

    Args:
        shadow: A class outside of ImageNet-A and -R that gets the largest logit of all.
    """

    num_classes = 1000

    def __init__(self, shadow: int | None = None, nan_at: int | None = None):
        super().__init__()
        self.shadow, self.nan_at = shadow, nan_at
        self.sizes = set()

    def forward(self, x):
        self.sizes.add(tuple(x.shape[2:]))
        red, green = (x[:, channel].mean(dim=(1, 2)).mul(255 / 8).round() for channel in (0, 1))
        index = (32 * red + green).long().clamp(0, 999)
        logits = nn.functional.one_hot(index, 1000).float() * 10
        if self.shadow is not None:
            logits[:, self.shadow] = 20
        if self.nan_at is not None:
            logits[index == self.nan_at] = torch.nan
        return logits


def plain(index: int, size: int = 40) -> Image.Image:
    return Image.new('RGB', (size, size), (index // 32 * 8, index % 32 * 8, 128))


def write(folder: Path, names: dict[str, int], size: int = 40) -> None:
    """One image of each class, its folder's name and its index given."""
    for name, index in names.items():
        (folder / name).mkdir(parents=True)
        plain(index, size).save(folder / name / f'{name}_1.png')


def link(source: Path, folder: Path, names: dict[str, str]) -> None:
    """Class folders that are links to some of another set's."""
    folder.mkdir()
    for name, target in names.items():
        (folder / name).symlink_to(source / target)


@pytest.fixture(scope='module')
def tree(tmp_path_factory) -> Path:
    """All suites of ImageNet, one image a class; the 75 cells of -C are links to one folder."""
    root = tmp_path_factory.mktemp('imagenet')
    index_of = {name: index for index, name in enumerate(WNIDS)}
    write(root / 'val', index_of)
    write(root / 'stylized', index_of, 224)
    link(root / 'val', root / 'imagenet-sketch', {name: name for name in WNIDS})
    numbers = {str(index): name for index, name in enumerate(WNIDS)}
    link(root / 'val', root / 'imagenetv2-matched-frequency-format-val', numbers)
    for letter in 'ar':
        link(root / 'val', root / f'imagenet-{letter}', {name: name for name in imagenet.synsets(letter)})
    for kind in KINDS + EXTRA_KINDS:
        group = 'extra' if kind in EXTRA_KINDS else 'all'
        (root / 'imagenet-c' / group / kind).mkdir(parents=True)
        for severity in SEVERITIES:
            (root / 'imagenet-c' / group / kind / str(severity)).symlink_to(root / 'stylized')
    names = list(CATEGORIES)
    for k, (name, columns) in enumerate(CATEGORIES.items()):
        folder = root / 'cue-conflict' / name
        folder.mkdir(parents=True)
        plain(columns[-1], 224).save(folder / f'{name}1-{names[(k + 1) % 16]}2.png')
        plain(CATEGORIES[names[(k + 2) % 16]][0], 224).save(folder / f'{name}2-{names[(k + 2) % 16]}1.png')
    return root


def reader_run(name: str = 'reader', size: int = 32, **kwargs) -> Run:
    transform = dict(input_size=(size, size), interpolation='bicubic', crop_pct=1.0)
    record = {
        'model': 'reader',
        'model_kwargs': {},
        'teacher': None,
        'params': 1,
        'checkpoint': None,
        'weights_sha256': f'{json.dumps(kwargs).encode().hex():0<64}'[:64],
        'input_size': [3, size, size],
        'mean': [0.0] * 3,
        'std': [1.0] * 3,
    }
    return Run(name, Reader(**kwargs), WNIDS, [0.0] * 3, [1.0] * 3, transform, record)


def evaluate_on(root: Path, out: Path, runs: list[Run], names: list[str] | None, **settings) -> dict:
    suites, _ = choose_suites(names, str(root), runs[0].classes)
    results = evaluate(runs, suites, Settings(str(root), out, **{'workers': 0, 'samples': 2, **settings}))
    validate(results)
    return results


def test_label_spaces():
    assert len(imagenet.synsets('a')) == len(imagenet.synsets('r')) == 200
    assert set(imagenet.synsets('a')) | set(imagenet.synsets('r')) < set(WNIDS)
    assert len(CATEGORIES) == 16
    flat = [index for columns in CATEGORIES.values() for index in columns]
    assert len(flat) == len(set(flat)) == 207
    # Some of the ids that Geirhos et al. list.
    for name, wnid in (('knife', 'n03041632'), ('oven', 'n04111531'), ('cat', 'n02125311'), ('dog', 'n02113978')):
        assert WNIDS.index(wnid) in CATEGORIES[name]


@pytest.mark.slow
def test_every_suite_finds_every_class(tree, tmp_path):
    run = reader_run()
    results = evaluate_on(tree, tmp_path, [run], None, corruption_limit=3)
    scores = results['classification']['reader']
    stored = {'stylized', 'corruption', 'cue_conflict'}
    assert set(scores) == stored | {'clean', 'v2', 'rendition', 'sketch', 'adversarial'}
    expected = dict.fromkeys(scores, 100.0) | {'cue_conflict': 50.0}
    assert {suite: entry['top1_pct'] for suite, entry in scores.items()} == expected
    # Sets that are stored at 224 pixels are shown so, whatever the model's size.
    sizes = {suite: entry['input_size'] for suite, entry in scores.items()}
    assert sizes == {key: [224, 224] if key in stored else [32, 32] for key in scores}
    assert run.network.sizes == {(32, 32), (224, 224)}
    # Half of the cue conflicts were decided for the shape and half for the texture.
    assert scores['cue_conflict']['shape_bias_pct'] == 50
    assert scores['cue_conflict']['shape_bias_by_class'] == dict.fromkeys(CATEGORIES, 50.0)
    # A mean probability is no confidence that could be calibrated.
    assert 'ece_pct' in scores['clean']
    assert 'ece_pct' not in scores['cue_conflict']
    confident = {sample['suite'] for sample in results['samples'] if 'confidence' in sample['predictions']['reader']}
    assert confident == set(scores) - {'cue_conflict'}
    assert scores['corruption']['source'] == 'disk'
    assert scores['corruption']['mce_pct'] == scores['corruption']['mean_error_pct'] == 0
    assert scores['corruption']['mce_normaliser'] == 'AlexNet'


def test_a_and_r_are_cut_to_their_classes_before_the_decision(tree, tmp_path):
    outside = next(k for k, name in enumerate(WNIDS) if name not in {*imagenet.synsets('a'), *imagenet.synsets('r')})
    results = evaluate_on(tree, tmp_path, [reader_run(shadow=outside)], ['clean', 'rendition', 'adversarial'])
    scores = results['classification']['reader']
    assert scores['clean']['top1_pct'] == 0.1
    assert scores['clean']['top5_pct'] == 100
    for suite in ('rendition', 'adversarial'):
        assert (scores[suite]['top1_pct'], scores[suite]['clean_subset_top1_pct']) == (100, 100)
        assert scores[suite]['classes'] == 200


def test_clean_accuracy_on_200_classes_is_there_for_a_set_that_comes_later(tree, tmp_path):
    root, out = tmp_path / 'imagenet', tmp_path / 'out'
    root.mkdir()
    (root / 'val').symlink_to(tree / 'val')
    evaluate_on(root, out, [reader_run()], ['clean'])
    (root / 'imagenet-a').symlink_to(tree / 'imagenet-a')
    results = evaluate_on(root, out, [reader_run()], ['adversarial'])
    assert results['classification']['reader']['adversarial']['clean_subset_top1_pct'] == 100


def test_order_of_classes_does_not_reorder_the_images(tree):
    suite = suites_for(WNIDS)['sketch']
    forwards, backwards = (open_suite(suite, tree, classes) for classes in (WNIDS, WNIDS[::-1]))
    assert forwards.paths == backwards.paths
    assert (forwards.labels == 999 - backwards.labels).all()


def test_probabilities_of_a_category_are_averaged(tree):
    from distill.robustness.recorder import Recorder

    suite = suites_for(WNIDS)['cue_conflict']
    recorder = Recorder(open_suite(suite, tree, WNIDS), {})
    probabilities = torch.full((1, 1000), 1e-9)
    # The dogs have more together, a cat the most of any class, but elephants on average.
    probabilities[0, CATEGORIES['dog']] = 0.5 / len(CATEGORIES['dog'])
    probabilities[0, CATEGORIES['cat'][0]] = 0.3
    probabilities[0, CATEGORIES['elephant']] = 0.1
    categories = recorder.probabilities(probabilities.log())[0]
    assert list(CATEGORIES)[categories.argmax()] == 'elephant'
    share = probabilities[0] / probabilities.sum()
    assert categories[list(CATEGORIES).index('cat')] == pytest.approx(share[CATEGORIES['cat']].mean().item())


def test_extra_kinds_stand_beside_the_benchmark(tree, tmp_path):
    names = ['corruption_disk']
    results = evaluate_on(tree, tmp_path, [reader_run()], names, corruption_limit=2, extra_corruptions=True)
    entry = results['classification']['reader']['corruption']
    assert set(entry['cells']) == set(KINDS)
    assert set(entry['extra_cells']) == set(EXTRA_KINDS)
    with pytest.raises(ValueError, match='corruption and corruption_disk do not compare; choose one'):
        choose_suites(['corruption', 'corruption_disk'], str(tree), WNIDS)


def test_class_folders_are_checked_before_anything_runs(tree, tmp_path):
    root = tmp_path / 'imagenet'
    shutil.copytree(tree / 'imagenet-a', root / 'imagenet-a')
    names = imagenet.synsets('a')
    shutil.rmtree(root / 'imagenet-a' / names[3])
    (root / 'imagenet-a' / names[5]).rename(root / 'imagenet-a' / 'blob')
    message = (
        rf'lacks 2 of 200 class folders \({names[3]}, {names[5]}\) and has 1 that are no class of suite adversarial'
    )
    with pytest.raises(ValueError, match=message):
        evaluate_on(root, tmp_path / 'out', [reader_run()], ['adversarial'])
    assert not (tmp_path / 'out').exists()
    (root / 'imagenet-c').mkdir()
    (root / 'imagenet-c' / 'gaussian_noise').symlink_to(tree / 'imagenet-c' / 'all' / 'gaussian_noise')
    with pytest.raises(ValueError, match='lacks shot_noise/1; unpack that part of the set as well'):
        evaluate_on(root, tmp_path / 'out', [reader_run()], ['corruption_disk'])


def test_cells_of_a_stored_set_have_the_same_number_of_images(tree, tmp_path):
    folder = tmp_path / 'imagenet-c'
    for kind in KINDS:
        (folder / kind).mkdir(parents=True)
        for severity in SEVERITIES:
            (folder / kind / str(severity)).symlink_to(tree / 'stylized')
    open_suite(suites_for(WNIDS)['corruption_disk'], tmp_path, WNIDS)
    (folder / 'fog' / '3').unlink()
    link(tree / 'stylized', folder / 'fog' / '3', {name: name for name in WNIDS[1:]})
    (folder / 'fog' / '3' / WNIDS[0]).mkdir()
    with pytest.raises(ValueError, match=f"fog/3/{WNIDS[0]}' has 0 images and '.*{WNIDS[0]}' 1; unpack both again"):
        open_suite(suites_for(WNIDS)['corruption_disk'], tmp_path, WNIDS)


def test_stored_sets_are_not_resized(tree, tmp_path):
    root = tmp_path / 'imagenet'
    shutil.copytree(tree / 'val', root / 'stylized')
    with pytest.raises(ValueError, match='has 40x40 pixels; suite stylized is stored at 224x224 and shown as it is'):
        evaluate_on(root, tmp_path / 'out', [reader_run()], ['stylized'])
    # A model that takes no other size is the exception, and the fingerprint says so.
    run = reader_run(size=64)
    run.fixed_size = (64, 64)
    results = evaluate_on(tree, tmp_path / 'fixed', [run], ['stylized'])
    entry = results['classification']['reader']['stylized']
    assert (entry['input_size'], entry['fingerprint']['resized_from']) == ([64, 64], 224)


def test_logits_that_are_not_finite_are_wrong_and_counted(tree, tmp_path):
    results = evaluate_on(tree, tmp_path, [reader_run(nan_at=0), reader_run('other')], ['clean', 'adversarial'])
    entry = results['classification']['reader']['clean']
    assert entry['problems'] == {'nan_logits': 1}
    said = 'reader, clean: 1 predictions from logits that are not finite, counted as wrong'
    assert problem_lines(results, ['reader', 'other']) == [said]
    assert entry['top1_pct'] == pytest.approx(99.9)
    stored = np.load(tmp_path / 'predictions' / 'reader' / 'clean.npz')
    assert stored['labels'][0] == 0
    assert (stored['predicted'][0, 0] == -1).all()
    assert 'problems' not in results['classification']['reader']['adversarial']
    comparison = results['comparisons'][0]
    assert comparison['difference_pct'] == pytest.approx(-0.1)
    assert comparison['agreement_pct'] == pytest.approx(99.9)
    picked = [sample for sample in results['samples'] if sample.get('disagreement')]
    assert [sample['predictions']['reader']['label'] for sample in picked] == ['none: logits were not finite']


def test_stored_modes(tree, tmp_path):
    root = tmp_path / 'imagenet'
    shutil.copytree(tree / 'imagenet-a', root / 'imagenet-a')
    first, second, *_ = imagenet.synsets('a')
    plain(0).convert('L').save(root / 'imagenet-a' / first / f'{first}_1.png')
    (root / 'imagenet-a' / second / f'{second}_1.png').unlink()
    plain(0).convert('CMYK').save(root / 'imagenet-a' / second / 'cmyk.jpg')
    results = evaluate_on(root, tmp_path / 'out', [reader_run()], ['adversarial'])
    problems = results['classification']['reader']['adversarial']['problems']
    assert problems == {'grayscale_images': 1, 'cmyk_images': 1}


@pytest.mark.parametrize(
    ('image', 'message'),
    [
        (Image.new('RGB', (1, 1)), 'x.png. has 1x1 pixels, and the least is 8x8; replace or delete it'),
        (Image.new('I;16', (40, 40)), 'x.png. is stored as I;16, which does not fit 8 bits a channel; convert it'),
    ],
)
def test_images_that_show_nothing(tmp_path, image, message):
    image.save(tmp_path / 'x.png')
    with pytest.raises(ValueError, match=message):
        read_image(tmp_path / 'x.png')


def test_baselines_and_effective_robustness(tree, tmp_path):
    runs = [reader_run('a', nan_at=1), reader_run('b', shadow=2), reader_run('c')]
    results = evaluate_on(tree, tmp_path, runs, ['clean', 'sketch'], baselines=['a', 'b'])
    fit = results['baseline_fit']['sketch']
    assert fit == {
        'slope': pytest.approx(1),
        'intercept': pytest.approx(0, abs=1e-9),
        'space': 'logit',
        'runs': ['a', 'b'],
    }
    entries = results['classification']
    assert entries['c']['sketch']['effective_robustness_pct'] == pytest.approx(0, abs=0.02)
    with pytest.raises(ValueError, match="baseline 'z' is no run; choose from a, b, c"):
        evaluate_on(tree, tmp_path, runs, ['clean'], baselines=['z'])


class Stop(Exception):
    """In place of a power cut."""


def test_a_stopped_suite_goes_on_with_what_is_left(tree, tmp_path):
    options = dict(corruption_limit=10, save_every_s=-1)
    whole = evaluate_on(tree, tmp_path / 'whole', [reader_run()], ['corruption'], **options)
    seen = []

    def advance(count: int) -> None:
        seen.append(count)
        if len(seen) == 3:
            raise Stop

    with pytest.raises(Stop):
        evaluate_on(tree, tmp_path / 'out', [reader_run()], ['corruption'], advance=advance, **options)
    assert seen == [0, 4 * 75, 4 * 75]
    assert not (tmp_path / 'out' / 'results.json').exists()
    seen = []
    results = evaluate_on(tree, tmp_path / 'out', [reader_run()], ['corruption'], advance=seen.append, **options)
    # Eight images had been predicted, of which four were lost, since the stop came before they were saved.
    assert seen == [4 * 75, 4 * 75, 2 * 75]
    assert results['classification'] == whole['classification']
    files = [np.load(tmp_path / name / 'predictions' / 'reader' / 'corruption.npz') for name in ('whole', 'out')]
    for name in files[0].files:
        np.testing.assert_array_equal(files[0][name], files[1][name])
    assert not list((tmp_path / 'out').rglob('*.part*'))


def test_what_another_seed_predicted_is_not_taken_over(tree, tmp_path):
    counts = []

    def stop(count: int) -> None:
        counts.append(count)
        if len(counts) == 3:
            raise Stop

    options = dict(corruption_limit=5, save_every_s=-1)
    with pytest.raises(Stop):
        evaluate_on(tree, tmp_path, [reader_run()], ['corruption'], advance=stop, **options)
    seen = []
    evaluate_on(tree, tmp_path, [reader_run()], ['corruption'], advance=seen.append, seed=1, **options)
    assert seen == [0, 4 * 75, 75]
    with pytest.raises(ValueError, match="holds results of other definition for 'reader' on 'corruption'"):
        evaluate_on(tree, tmp_path, [reader_run()], ['corruption'], seed=1, definition='imagecorruptions', **options)


def test_plain_folders(tree, tmp_path):
    """Some classes, and images without labels."""
    for name in WNIDS[40:43]:
        shutil.copytree(tree / 'val' / name, tmp_path / 'few' / name)
    (tmp_path / 'loose').mkdir()
    for index in (7, 999):
        plain(index).save(tmp_path / 'loose' / f'{index}.png')
    suites = [plain_suite(tmp_path / name) for name in ('few', 'loose')]
    results = evaluate([reader_run()], suites, Settings('', tmp_path / 'out', workers=0))
    validate(results)
    assert results['classification']['reader']['few']['top1_pct'] == 100
    assert results['classification']['reader']['few']['images'] == 3
    assert results['unlabelled']['reader']['loose']['images'] == 2
    stored = np.load(tmp_path / 'out' / 'predictions' / 'reader' / 'loose.npz')
    assert stored['predicted'][0, :, 0].tolist() == [7, 999]
    assert stored['labels'].tolist() == [-1, -1]
    assert 'agreement_pct' not in results['unlabelled']['reader']['loose']
    results = evaluate([reader_run('blind', nan_at=7)], suites[1:], Settings('', tmp_path / 'out', workers=0))
    validate(results)
    assert results['unlabelled']['reader']['loose']['agreement_pct'] == {'blind': 50}
    assert results['unlabelled']['blind']['loose']['agreement_pct'] == {'reader': 50}
    with pytest.raises(ValueError, match='has the name of a suite; rename it, or pass --suite stylized'):
        plain_suite(tree / 'stylized')
    with pytest.raises(ValueError, match=r'two suites are called the same \(few, few\)'):
        evaluate([reader_run()], [suites[0], suites[0]], Settings('', tmp_path / 'out', workers=0))


def test_input_size(tmp_path):
    """A model of one size is resampled to another, where timm can."""
    network = timm.create_model('test_vit', num_classes=10)
    path = tmp_path / 'vit.pth'
    save_model(
        path,
        network,
        ModelRecord.from_json(
            {'model': 'test_vit', 'model_kwargs': {'num_classes': 10}, 'classes': list('abcdefghij')}
        ),
    )
    own, larger = load_run(str(path), 'cpu'), load_run(str(path), 'cpu', 192)
    assert (own.record['input_size'], larger.record['input_size']) == ([3, 160, 160], [3, 192, 192])
    assert own.record['weights_sha256'] == larger.record['weights_sha256']
    assert larger.transform['input_size'] == (192, 192)
    assert larger.predict(torch.zeros(2, 3, 192, 192, dtype=torch.uint8)).shape == (2, 10)


def test_runs_of_other_classes_are_not_mixed(tree):
    run = reader_run('other')
    run.classes = WNIDS[:999]
    with pytest.raises(ValueError, match=r'runs of different classes \(reader 1000, other 999\) are not'):
        evaluate([reader_run(), run], [], Settings(str(tree), Path('unused')))


HAS_ONNX = all(importlib.util.find_spec(name) for name in ('onnx', 'onnxruntime'))


def write_onnx(path: Path, weight: np.ndarray, batch: int | str) -> None:
    """Mean colour, then a linear layer."""
    from onnx import TensorProto, helper, numpy_helper, save

    nodes = [
        helper.make_node('GlobalAveragePool', ['image'], ['pooled']),
        helper.make_node('Flatten', ['pooled'], ['flat']),
        helper.make_node('MatMul', ['flat', 'weight'], ['logits']),
    ]
    ends = [
        helper.make_tensor_value_info('image', TensorProto.FLOAT, [batch, 3, 'height', 'width']),
        helper.make_tensor_value_info('logits', TensorProto.FLOAT, [batch, weight.shape[1]]),
    ]
    graph = helper.make_graph(nodes, 'linear', ends[:1], ends[1:], [numpy_helper.from_array(weight, 'weight')])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=10), path)


@pytest.mark.skipif(not HAS_ONNX, reason="onnx or onnxruntime is missing; pip install '.[onnx]'")
@pytest.mark.parametrize('batch', ['batch', 4])
def test_onnx(tmp_path, batch):
    weight = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    write_onnx(tmp_path / 'linear.onnx', weight, batch)
    run = load_run(str(tmp_path / 'linear.onnx'), 'cpu')
    assert (run.name, run.record['params'], run.record['model']) == ('linear', 15, 'linear')
    images = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8)
    mean, std = (torch.tensor(run.record[key]) for key in ('mean', 'std'))
    expected = ((images.float().mean((2, 3)) / 255 - mean) / std) @ torch.from_numpy(weight)
    torch.testing.assert_close(run.predict(images), expected, atol=1e-5, rtol=1e-5)
    (tmp_path / 'linear.onnx').write_bytes(b'nothing')
    with pytest.raises(ValueError, match='cannot be read as ONNX'):
        load_run(str(tmp_path / 'linear.onnx'), 'cpu')


@pytest.mark.skipif(HAS_ONNX, reason='onnxruntime is installed')
def test_onnx_asks_for_its_packages(tmp_path):
    (tmp_path / 'x.onnx').touch()
    with pytest.raises(ValueError, match=r"needs .*onnxruntime; pip install '\.\[onnx\]'"):
        load_run(str(tmp_path / 'x.onnx'), 'cpu')


@pytest.mark.slow
def test_several_processes_find_what_one_does(shapes, tmp_path):
    kwargs = dict(dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), kernel_size=3, patch_size=4, num_classes=10)
    network = timm.create_model('robust_resnet_dw_small', **kwargs)
    classes = sorted(path.name for path in (shapes / 'val').iterdir())
    description = dict(model='robust_resnet_dw_small', model_kwargs=kwargs, classes=classes, input_size=[3, 32, 32])
    save_model(tmp_path / 'net.pth', network, ModelRecord.from_json(description))
    common = [str(tmp_path / 'net.pth'), '--data-root', str(shapes), '--corruption-limit', '5', '--workers', '0']
    common += ['--suite', 'clean', 'corruption', '--device', 'cpu']
    assert main([*common, '--out', str(tmp_path / 'one')]) == 0
    launch = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2']
    tool = [str(REPO / 'tools' / 'robustness.py'), *common, '--out', str(tmp_path / 'two'), '--launcher', 'pytorch']
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(REPO), os.environ.get('PYTHONPATH', '')])}
    subprocess.run([*launch, *tool], check=True, capture_output=True, env=environment, timeout=300)
    one, two = (json.loads((tmp_path / name / 'results.json').read_text()) for name in ('one', 'two'))
    validate(two)
    assert one['classification'] == two['classification']
    assert one['samples'] == two['samples']
    assert not list((tmp_path / 'two').rglob('*.part*'))
