"""The suites of ImageNet's layout: which classes each has, how each is scored, and what is refused."""

import shutil

import pytest
import torch
from imagenet_tree import evaluate_on, link, plain, reader_run, write_tree

from distill.base.records import EXTRA_KINDS, KINDS, SEVERITIES, cells_of
from distill.results.schema import validate
from distill.robustness import imagenet
from distill.robustness.evaluate import Settings, evaluate
from distill.robustness.predictions import Predictions
from distill.robustness.recorder import Recorder
from distill.robustness.suite_table import plain_suite
from distill.robustness.suites import choose_suites, open_suite, suites_for


def test_label_spaces():
    wnids, categories = imagenet.synsets(), imagenet.categories()
    assert len(wnids) == 1000
    assert len(imagenet.synsets('a')) == len(imagenet.synsets('r')) == 200
    assert set(imagenet.synsets('a')) | set(imagenet.synsets('r')) < set(wnids)
    assert len(categories) == 16
    flat = [index for columns in categories.values() for index in columns]
    assert len(flat) == len(set(flat)) == 207
    # Some of the ids that Geirhos et al. list.
    for name, wnid in (('knife', 'n03041632'), ('oven', 'n04111531'), ('cat', 'n02125311'), ('dog', 'n02113978')):
        assert wnids.index(wnid) in categories[name]


def test_every_suite_finds_every_class_of_the_real_lists(tmp_path):
    write_tree(tmp_path, lambda index, size, path: path.touch())
    wnids, categories, counts = imagenet.synsets(), imagenet.categories(), {}
    for suite in choose_suites(None, str(tmp_path), wnids)[0]:
        image_set = open_suite(suite, tmp_path, wnids)
        counts[suite.name] = len(image_set.paths)
        folders = [path.partition('/')[0] for path in image_set.paths]
        names = [wnids[int(folder)] for folder in folders] if suite.numbered else folders
        assert [image_set.classes[label] for label in image_set.labels] == names
        # One column of the logits for each class that is there, or those of each category.
        columns = [[wnids.index(name)] for name in sorted({*names})] if names[0] in wnids else categories.values()
        assert [group for _, group in image_set.groups] == [*columns]
    some = {'rendition': 200, 'adversarial': 200, 'cue_conflict': 32}
    assert counts == dict.fromkeys(('clean', 'v2', 'stylized', 'sketch', 'corruption_disk'), 1000) | some


def test_every_suite_is_scored(tree, tmp_path):
    run = reader_run()
    results = evaluate_on(tree, tmp_path / 'out', [run], None, corruption_limit=3)
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
    assert scores['cue_conflict']['shape_bias_by_class'] == dict.fromkeys(imagenet.categories(), 50.0)
    # A mean probability is no confidence that could be calibrated.
    assert 'ece_pct' in scores['clean']
    assert 'ece_pct' not in scores['cue_conflict']
    confident = {sample['suite'] for sample in results['samples'] if 'confidence' in sample['predictions']['reader']}
    assert confident == set(scores) - {'cue_conflict'}
    assert scores['corruption']['source'] == 'disk'
    assert scores['corruption']['mce_pct'] == scores['corruption']['mean_error_pct'] == 0
    assert scores['corruption']['mce_normaliser'] == 'AlexNet'


def test_a_and_r_are_cut_to_their_classes_before_the_decision(tree, tmp_path):
    wnids = imagenet.synsets()
    outside = next(k for k, name in enumerate(wnids) if name not in {*imagenet.synsets('a'), *imagenet.synsets('r')})
    results = evaluate_on(tree, tmp_path, [reader_run(shadow=outside)], ['clean', 'rendition', 'adversarial'])
    scores = results['classification']['reader']
    assert scores['clean']['top1_pct'] == pytest.approx(100 / len(wnids))
    assert scores['clean']['top5_pct'] == 100
    for suite, letter in (('rendition', 'r'), ('adversarial', 'a')):
        assert (scores[suite]['top1_pct'], scores[suite]['clean_subset_top1_pct']) == (100, 100)
        assert scores[suite]['classes'] == len(imagenet.synsets(letter)) < len(wnids)


def test_clean_accuracy_on_some_classes_is_there_for_a_set_that_comes_later(tree, tmp_path):
    root, out = tmp_path / 'imagenet', tmp_path / 'out'
    root.mkdir()
    (root / 'val').symlink_to(tree / 'val')
    evaluate_on(root, out, [reader_run()], ['clean'])
    (root / 'imagenet-a').symlink_to(tree / 'imagenet-a')
    results = evaluate_on(root, out, [reader_run()], ['adversarial'])
    assert results['classification']['reader']['adversarial']['clean_subset_top1_pct'] == 100


def test_order_of_classes_does_not_reorder_the_images(tree):
    wnids = imagenet.synsets()
    suite = suites_for(wnids)['sketch']
    forwards, backwards = (open_suite(suite, tree, classes) for classes in (wnids, wnids[::-1]))
    assert forwards.paths == backwards.paths
    assert (forwards.labels == len(wnids) - 1 - backwards.labels).all()


def test_a_model_with_the_classes_in_another_order_gets_the_same_scores(tree, tmp_path):
    """Numbered folders and categories go by ImageNet's list and not by the place in the model's."""
    runs = [reader_run(), reader_run('backwards')]
    runs[1].classes, network = runs[1].classes[::-1], runs[1].network
    runs[1].forward = lambda images: network(images.float() / 255).flip(1)
    names = ['clean', 'v2', 'adversarial', 'cue_conflict', 'corruption_disk']
    results = evaluate_on(tree, tmp_path, runs, names, corruption_limit=2)
    forwards, backwards = (results['classification'][run.name] for run in runs)
    for key, scores in forwards.items():
        assert scores['top1_pct'] == (50 if key == 'cue_conflict' else 100)
        for score in ('top1_pct', 'top5_pct', 'shape_bias_pct', 'clean_subset_top1_pct'):
            assert backwards[key].get(score) == scores.get(score), (key, score)
    assert suites_for(runs[1].classes) == suites_for(runs[0].classes)


def test_what_is_no_image_of_a_class_is_left_out_of_every_suite(tree, tmp_path, caplog):
    wnids = imagenet.synsets()
    root = tmp_path / 'imagenet'
    shutil.copytree(tree / 'val', root / 'val')
    before = open_suite(suites_for(wnids)['clean'], root, wnids)
    for junk in ('.DS_Store', f'{wnids[0]}/Thumbs.db', f'{wnids[1]}/._x.png', '__MACOSX/x/1.png', 'loose.png'):
        (root / 'val' / junk).parent.mkdir(parents=True, exist_ok=True)
        (root / 'val' / junk).touch()
    after = [open_suite(suites_for(wnids)[name], root, wnids) for name in ('clean', 'corruption')]
    assert [image_set.sha256 for image_set in after] == [before.sha256] * 2
    assert len([record for record in caplog.records if 'left out' in record.message]) == 1
    (root / 'val' / wnids[2] / 'day').mkdir()
    image = next((root / 'val' / wnids[2]).glob('*.png'))
    image.rename(image.parent / 'day' / 'IMAGE.PNG')
    nested = open_suite(suites_for(wnids)['clean'], root, wnids)
    assert (nested.paths[2], nested.labels[2]) == (f'{wnids[2]}/day/IMAGE.PNG', 2)


def test_probabilities_of_a_category_are_averaged(tree, monkeypatch):
    monkeypatch.undo()  # The real categories: the 118 classes of dogs matter here.
    categories = imagenet.categories()
    suite = suites_for(imagenet.synsets())['cue_conflict']
    recorder = Recorder(open_suite(suite, tree, imagenet.synsets()), {})
    probabilities = torch.full((1, 1000), 1e-9)
    # The dogs have more together, a cat the most of any class, but elephants on average.
    probabilities[0, categories['dog']] = 0.5 / len(categories['dog'])
    probabilities[0, categories['cat'][0]] = 0.25
    probabilities[0, categories['elephant']] = 0.1
    found = recorder.probabilities(probabilities.log())[0]
    assert list(categories)[found.argmax()] == 'elephant'
    share = probabilities[0] / probabilities.sum()
    assert found[list(categories).index('cat')] == pytest.approx(share[categories['cat']].mean().item())


def test_extra_kinds_stand_beside_the_benchmark(tree, tmp_path):
    names = ['corruption_disk']
    results = evaluate_on(tree, tmp_path, [reader_run()], names, corruption_limit=2, extra_corruptions=True)
    entry = results['classification']['reader']['corruption']
    assert set(entry['cells']) == set(KINDS)
    assert set(entry['extra_cells']) == set(EXTRA_KINDS)
    with pytest.raises(ValueError, match='corruption and corruption_disk do not compare; choose one'):
        choose_suites(['corruption', 'corruption_disk'], str(tree), imagenet.synsets())


def test_cells_of_a_suite_are_in_the_order_of_the_benchmark(tree):
    suites, wnids = suites_for(imagenet.synsets()), imagenet.synsets()
    assert open_suite(suites['clean'], tree, wnids).cells == [None]
    assert open_suite(suites['corruption'], tree, wnids).cells == cells_of(KINDS)
    stored = open_suite(suites['corruption_disk'], tree, wnids, extra=True)
    assert stored.cells == cells_of(KINDS + EXTRA_KINDS)
    for cell, folder in zip(stored.cells, stored.folders, strict=True):
        assert folder.parts[-2:] == (cell.kind, str(cell.severity))


def test_class_folders_are_checked_before_anything_runs(tree, tmp_path):
    root = tmp_path / 'imagenet'
    shutil.copytree(tree / 'imagenet-a', root / 'imagenet-a')
    names = imagenet.synsets('a')
    shutil.rmtree(root / 'imagenet-a' / names[3])
    (root / 'imagenet-a' / names[5]).rename(root / 'imagenet-a' / 'blob')
    message = (
        rf'lacks 2 of {len(names)} class folders \({names[3]}, {names[5]}\) and has 1 that are no class of suite '
        r'adversarial \(blob\)'
    )
    with pytest.raises(ValueError, match=message):
        evaluate_on(root, tmp_path / 'out', [reader_run()], ['adversarial'])
    assert not (tmp_path / 'out').exists()
    (root / 'imagenet-c').mkdir()
    (root / 'imagenet-c' / 'gaussian_noise').symlink_to(tree / 'imagenet-c' / 'all' / 'gaussian_noise')
    with pytest.raises(ValueError, match='lacks shot_noise/1; unpack that part of the set as well'):
        evaluate_on(root, tmp_path / 'out', [reader_run()], ['corruption_disk'])


def test_cells_of_a_stored_set_have_the_same_number_of_images(tree, tmp_path):
    folder, wnids = tmp_path / 'imagenet-c', imagenet.synsets()
    for kind in KINDS:
        (folder / kind).mkdir(parents=True)
        for severity in SEVERITIES:
            (folder / kind / str(severity)).symlink_to(tree / 'stylized')
    open_suite(suites_for(wnids)['corruption_disk'], tmp_path, wnids)
    (folder / 'fog' / '3').unlink()
    link(tree / 'stylized', folder / 'fog' / '3', {name: name for name in wnids[1:]})
    (folder / 'fog' / '3' / wnids[0]).mkdir()
    with pytest.raises(ValueError, match=f"fog/3/{wnids[0]}' has 0 images and '.*{wnids[0]}' 1; unpack both again"):
        open_suite(suites_for(wnids)['corruption_disk'], tmp_path, wnids)


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


def test_plain_folders(tree, tmp_path):
    """Some classes, and images without labels."""
    wnids = imagenet.synsets()
    for name in wnids[40:43]:
        shutil.copytree(tree / 'val' / name, tmp_path / 'few' / name)
    (tmp_path / 'loose').mkdir()
    last = len(wnids) - 1
    for index in (7, last):
        plain(index).save(tmp_path / 'loose' / f'{index:03}.png')
    suites = [plain_suite(tmp_path / name) for name in ('few', 'loose')]
    settings = Settings('', tmp_path / 'out', workers=0)
    results = evaluate([reader_run()], suites, settings)
    validate(results)
    assert results['classification']['reader']['few']['top1_pct'] == 100
    assert results['classification']['reader']['few']['images'] == 3
    assert results['unlabelled']['reader']['loose']['images'] == 2
    stored = Predictions.load(tmp_path / 'out' / 'predictions' / 'reader' / 'loose.npz')
    assert stored.predicted[0, :, 0].tolist() == [7, last]
    assert stored.labels.tolist() == [-1, -1]
    assert 'agreement_pct' not in results['unlabelled']['reader']['loose']
    results = evaluate([reader_run('blind', nan_at=7)], suites[1:], settings)
    validate(results)
    assert results['unlabelled']['reader']['loose']['agreement_pct'] == {'blind': 50}
    assert results['unlabelled']['blind']['loose']['agreement_pct'] == {'reader': 50}
    with pytest.raises(ValueError, match='has the name of a suite; rename it, or pass --suite stylized'):
        plain_suite(tree / 'stylized')
    with pytest.raises(ValueError, match=r'two suites are called the same \(few, few\)'):
        evaluate([reader_run()], [suites[0], suites[0]], settings)
