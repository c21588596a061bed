"""What a classifier says is what the judge of `distill.robustness` says of the same image."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from distill.predict import load_predictor
from distill.robustness.evaluate import evaluate
from distill.robustness.jobs import Settings
from distill.robustness.predictions import Predictions
from distill.robustness.runs import load_run
from distill.robustness.suites import choose_suites


@pytest.fixture(scope='module')
def predictor(checkpoint):
    return load_predictor(checkpoint, device='cpu')


def test_probabilities_are_those_of_the_judge_bit_for_bit(shapes, tmp_path):
    """Through a whole evaluation: the same classes in the same order, with the same probability."""
    from backbones.checkpoint import save_model
    from backbones.record import ModelRecord

    classes = sorted(folder.name for folder in (shapes / 'val').iterdir())
    torch.manual_seed(1)
    path = tmp_path / 'student_best.pth'
    record = ModelRecord('test_resnet', {'num_classes': 10}, classes=classes, input_size=[3, 32, 32])
    save_model(path, timm.create_model('test_resnet', num_classes=10), record)
    run = load_run(str(path), 'cpu')
    settings = Settings(data_root=str(shapes), out=tmp_path / 'out', batch_size=8, workers=0)
    evaluate([run], choose_suites(['clean'], str(shapes), run.classes)[0], settings)
    judged = Predictions.load(next((tmp_path / 'out' / 'predictions').rglob('clean.npz')))
    files = [shapes / 'val' / name for name in judged.paths]
    found = load_predictor(path, device='cpu').predict(files, batch_size=8)
    assert [[one.index for one in each.top] for each in found] == judged.predicted[0].tolist()
    assert np.array_equal(np.float32([each.top[0].probability for each in found]), judged.confidence[0])


def test_a_batch_gives_what_single_images_give(predictor, photos):
    files = sorted(photos.rglob('*.*'))
    one, many = predictor.predict(files, batch_size=1), predictor.predict(files, batch_size=8, workers=1)
    for single, batched in zip(one, many, strict=True):
        assert single.path == batched.path
        np.testing.assert_allclose(single.probabilities, batched.probabilities, atol=1e-6)


def test_paths_images_and_arrays_are_the_same_images(predictor, photos):
    path = photos / 'b.png'
    image = Image.open(path)
    found = predictor.predict([path, str(path), image, np.asarray(image)])
    assert len({each.probabilities.tobytes() for each in found}) == 1
    assert [each.path for each in found] == [str(path), str(path), None, None]
    assert len(predictor.predict(image)) == 1
    assert len(predictor.predict(photos)) == 5
    assert len(predictor.predict(np.stack([np.asarray(image)] * 3))) == 3


def test_the_top_classes_have_names_and_fall(predictor, photo):
    found = predictor.predict(photo)[0]
    assert len(found.top) == 5
    assert [one.name for one in found.top] == [f'kind {one.index}' for one in found.top]
    probabilities = [one.probability for one in found.top]
    assert probabilities == sorted(found.probabilities.tolist(), reverse=True)[:5]
    assert found.probabilities.sum() == pytest.approx(1, abs=1e-6)
    assert [entry['class'] for entry in found.to_json()['top']] == [one.name for one in found.top]


def test_more_than_all_classes_are_all(checkpoint, photo):
    assert len(load_predictor(checkpoint, device='cpu', topk=99).predict(photo)[0].top) == 10


def test_classes_of_imagenet_are_assumed_from_their_number_and_that_is_said(photo):
    torch.manual_seed(0)
    network = timm.create_model('test_resnet', num_classes=1000)
    predictor = load_predictor(network, device='cpu')
    top = predictor.predict(photo)[0].top[0]
    assert top.name.startswith('n0') or top.name.startswith('n1')
    assert top.title != top.name
    assert 'assumed' in predictor.model.describe()['model']['classes_from']


def test_classes_without_names_are_numbers(photo):
    predictor = load_predictor(timm.create_model('test_resnet', num_classes=7), device='cpu')
    assert predictor.classes[6] == 'class 6'
    named = load_predictor(timm.create_model('test_resnet', num_classes=2), device='cpu', classes=['cat', 'dog'])
    assert {one.name for one in named.predict(photo)[0].top} == {'cat', 'dog'}


def test_names_of_another_number_are_refused(checkpoint):
    with pytest.raises(ValueError, match='has 10'):
        load_predictor(checkpoint, device='cpu', classes=['cat', 'dog'])


def test_what_is_given_wins_over_the_record(checkpoint, photo):
    plain, larger = (load_predictor(checkpoint, device='cpu', input_size=size) for size in (None, 64))
    assert plain.model.describe()['preprocessing']['input_size'] == [3, 32, 32]
    assert larger.model.describe()['preprocessing']['input_size'] == [3, 64, 64]
    assert not np.array_equal(plain.predict(photo)[0].probabilities, larger.predict(photo)[0].probabilities)


@pytest.mark.parametrize('size', [(1, 1), (20000, 1), (1, 20000), (3000, 3)])
def test_no_size_of_an_image_is_too_odd(predictor, size):
    found = predictor.predict(Image.new('RGB', size, 'red'))[0]
    assert found.shown.size == size
    assert max(found.draw().size) < 4000


def test_of_a_strip_the_middle_is_shown_as_the_centre_crop_does(predictor):
    strip = Image.new('RGB', (3200, 32))
    strip.paste(Image.effect_mandelbrot((32, 32), (-2, -1, 1, 1), 50).convert('RGB'), (1584, 0))
    whole = torch.as_tensor(predictor.model.transform(strip))
    from distill.predict.photos import Photo

    assert torch.equal(predictor.model.prepare(Photo(strip)), whole)


def test_a_broken_image_is_an_error_that_names_it(predictor, photos):
    (photos / 'b.png').write_text('no image')
    with pytest.raises(ValueError, match=r"image '.*b.png' cannot be decoded"):
        predictor.predict(photos)


def test_logits_that_are_not_finite_decide_nothing(photo):
    network = timm.create_model('test_resnet', num_classes=3)
    network.get_classifier().weight.data.fill_(float('inf'))
    found = load_predictor(network, device='cpu').predict(photo)[0]
    assert not found.is_finite
    assert found.to_json()['top'] == []
    assert 'no decision' in found.summary()
    found.draw()


def test_a_prediction_shows_itself_in_a_notebook(predictor, photos):
    found = predictor.predict(photos / 'b.png')[0]
    assert found._repr_png_().startswith(b'\x89PNG')
    assert '<img src="data:image/png;base64,' in found._repr_html_()
    with pytest.raises(ValueError, match='the same image'):
        found.draw(Image.new('RGB', (5, 5)))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'topk': 0}, 'topk'),
        ({'score_threshold': 2}, 'score_threshold'),
        ({'device': 'toaster'}, 'toaster'),
        ({'num_clases': 3}, 'num_clases'),
    ],
)
def test_arguments_out_of_range_are_value_errors(checkpoint, arguments, message):
    with pytest.raises(ValueError, match=message):
        load_predictor(checkpoint, **{'device': 'cpu', **arguments})


def test_an_onnx_file_says_what_its_network_says(tmp_path, photo):
    onnx = pytest.importorskip('onnx')
    pytest.importorskip('onnxruntime')
    weight = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    helper, kinds = onnx.helper, onnx.TensorProto
    graph = helper.make_graph(
        [
            helper.make_node('GlobalAveragePool', ['images'], ['pooled']),
            helper.make_node('Flatten', ['pooled'], ['flat']),
            helper.make_node('MatMul', ['flat', 'weight'], ['logits']),
        ],
        'mean',
        [helper.make_tensor_value_info('images', kinds.FLOAT, ['B', 3, 32, 32])],
        [helper.make_tensor_value_info('logits', kinds.FLOAT, ['B', 4])],
        [onnx.numpy_helper.from_array(weight, 'weight')],
    )
    path = tmp_path / 'mean.onnx'
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=9), path)
    predictor = load_predictor(path, device='cpu', mean=[0, 0, 0], std=[1, 1, 1], classes=list('abcd'))
    found = predictor.predict(photo)[0]
    shown = predictor.model.transform(photo)
    logits = (torch.as_tensor(shown).float() / 255).mean(dim=(1, 2)) @ torch.from_numpy(weight)
    np.testing.assert_allclose(found.probabilities, logits.softmax(0).numpy(), atol=1e-6)
