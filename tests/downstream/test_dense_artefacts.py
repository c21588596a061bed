"""Exported detectors and segmenters: the same as the model in their engines, in a test, in prediction, in a script."""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from downstream_runs import CONFIGS, FOLDER, ROOT, arguments
from PIL import Image
from scene_engine_table import MODELS, QUICK, line, row

pytest.importorskip('onnxscript')
pytest.importorskip('onnxruntime')
pytest.importorskip('openvino')

from distill.cli.export import build_parser
from distill.cli.export import main as export
from distill.cli.export import run as run_export
from distill.cli.test import main as run_test
from distill.downstream.graphs.deployed import scene_graph
from distill.downstream.inference import load_scene_model
from distill.engines import by_name
from distill.engines.artefact import Manifest
from distill.engines.scenes import SceneArtefact
from distill.export import dense_job
from distill.export.compare_scenes import Objects, compare_labels, compare_objects
from distill.export.dense import truth_of
from distill.export.dense_job import ShownImage
from distill.export.files import Wish
from distill.export.quantise.artefact import Options, quantise
from distill.export.scene_metrics import SceneMetrics
from distill.predict import load_predictor

pytestmark = pytest.mark.slow
WHOLE_TABLE = pytest.mark.skipif('ALL_FAMILIES' not in os.environ, reason='ALL_FAMILIES=1 runs the whole table')
BLOCKED = ('torch', 'torchvision', 'timm', 'mmengine', 'mmcv', 'mmdet', 'mmseg', 'cv2', 'distill', 'backbones')
"""What a script that runs an artefact does without."""
WITH_MNN = [] if by_name('mnn').missing() else ['mnn']


@pytest.fixture(scope='module')
def trained(whole_run) -> dict[str, Path]:
    return {'mask': whole_run('mask')[0] / 'epoch_1.pth', 'seg': whole_run('seg')[0] / 'iter_1.pth'}


@pytest.fixture(scope='module')
def exported(trained, data, tmp_path_factory) -> dict[str, Path]:
    """A detector with masks and a segmenter, as the command exports them."""
    out = tmp_path_factory.mktemp('artefacts')
    for task, folder in (('mask', 'coco'), ('seg', 'ade20k')):
        command = [trained[task], '--config', FOLDER / CONFIGS[task], '--out', out, '--name', task, '--uint8']
        command += ['--to', 'onnx', 'openvino', 'torch', *WITH_MNN, '--data-root', data / folder, '--threads', '1']
        run_export(build_parser().parse_args(list(map(str, command))))  # A mistake is then seen in the test's summary.
    return {task: out / f'{task}.onnx' for task in ('mask', 'seg')}


def picture(size: tuple[int, int]) -> Image.Image:
    levels = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(levels).resize(size[::-1])


@pytest.mark.parametrize('suffix', ['.onnx', '.xml', '.pt2'])
@pytest.mark.parametrize('task', ['mask', 'seg'])
def test_files_take_any_size_and_say_what_the_model_says(trained, exported, task, suffix):
    scene = load_scene_model(trained[task], FOLDER / CONFIGS[task], 'cpu')
    artefact = SceneArtefact(exported[task].with_suffix(suffix), threads=1)
    assert artefact.classes == scene.classes
    for size in ((64, 64), (90, 50), (31, 77)):
        sample = scene.sample(np.asarray(picture(size)))
        resized = sample['inputs'].numpy()[::-1].transpose(1, 2, 0)
        assert artefact.resized_size(size) == resized.shape[:2]
        expected, found = scene.predict([sample])[0], artefact.show(resized, size)
        if task == 'seg':
            assert compare_labels([found], [expected]).agreement > 0.999
            continue
        objects = Objects(expected.boxes, expected.scores, expected.labels, expected.masks)
        comparison = compare_objects([found], [objects], [size])
        assert comparison.agreement == 1
        assert comparison.max_difference < 1e-5
        assert comparison.details['mean_mask_iou'] > 0.99
        assert len(expected.scores) > 0


def test_the_manifest_tells_all_that_a_user_needs(exported):
    manifest = Manifest.read(exported['mask'])
    assert (manifest.task, manifest.model, manifest.dtype, manifest.batch) == ('detection', 'CascadeRCNN', 'uint8', 1)
    assert manifest.outputs == ['boxes', 'scores', 'labels', 'masks']
    assert manifest.details['resize'] == {'scale': [128, 128], 'keep_ratio': True}
    assert len(manifest.details['palette']) == len(manifest.classes) == 10
    assert manifest.verification.agreement == 1
    assert manifest.verification.count == 4
    assert any(step.startswith('batch norms folded') for step in manifest.steps)
    for task, names in (('mask', {'bbox_mAP', 'segm_mAP'}), ('seg', {'mIoU'})):
        verified = Manifest.read(exported[task]).details['verified']
        assert verified['scores'].keys() == names
        assert verified['scored_images'] == 4
        assert all(abs(one['difference']) <= 1e-3 for one in verified['scores'].values())


def test_no_constant_is_left_to_the_engine(exported):
    """Without a value it is zero, and MNN's converter takes what the memory holds."""
    import onnx

    nodes = onnx.load(exported['mask']).graph.node
    values = [one.attribute[0].t for one in nodes if one.op_type == 'ConstantOfShape']
    assert values
    assert all(value.dims == [1] for value in values)


def perfect(metrics: SceneMetrics, place: int) -> Objects:
    """What is annotated in an image, as a detector would find it."""
    truth = metrics.dataset[place]['data_samples'].gt_instances
    boxes, labels = truth.bboxes.tensor.numpy(), truth.labels.numpy()
    return Objects(boxes, np.ones(len(boxes), np.float32), labels, truth.masks.to_ndarray().astype(bool))


def test_scores_are_of_the_images_that_were_shown_and_refuse_a_file(trained, data, monkeypatch):
    config, folder = FOLDER / CONFIGS['mask'], data / 'coco' / 'val2017'
    scene = load_scene_model(trained['mask'], config, 'cpu')
    files = [Path('elsewhere.jpg'), *sorted(folder.iterdir())[1:3]]
    truth = truth_of(scene, config, data / 'coco', files)
    assert truth.places[0] is None
    found = [None, *(perfect(truth.metrics, place) for place in truth.known)]
    assert truth.scores(found) == {'bbox_mAP': 1, 'segm_mAP': pytest.approx(1)}
    monkeypatch.setattr(dense_job.Job, '__init__', lambda self, expected: vars(self).update(expected=expected))
    job = dense_job.Job(found)
    job.truth = truth
    assert job._scored(found)['scores']['bbox_mAP'] == {'model': 1, 'file': 1, 'difference': 0}
    assert job._scored(found)['scored_images'] == 2
    lost = [None, *(Objects(one.boxes[1:], one.scores[1:], one.labels[1:], one.masks[1:]) for one in found[1:])]
    with pytest.raises(ValueError, match=r'its bbox_mAP is 0\.\d+ on 2 images, and the model has 1\.0000'):
        job._scored(lost)
    for root, known, why in (
        (data / 'none', files, 'does not exist'),
        (data / 'coco', files[:1], "in the config's test set"),
    ):
        job = dense_job.Job(found)
        job.truth = truth_of(scene, config, root, known)
        assert why in job._scored(found)['not_scored']


@pytest.mark.parametrize('task', ['mask', 'seg'])
def test_a_test_of_the_file_scores_as_a_test_of_the_model(trained, exported, data, tmp_path, task):
    found = {}
    for name, model in (('eager', trained[task]), ('file', exported[task])):
        command = [*arguments(task, data, tmp_path / name), str(model), '--corruptions', 'fog', '--severities', '3']
        assert run_test([*command, '--cfg-options', 'visualizer.vis_backends=[]']) == 0
        section = json.loads((tmp_path / name / 'results.json').read_text())
        found[name] = section['segmentation' if task == 'seg' else 'detection']
    assert found['file']['checkpoint'].endswith(exported[task].name)
    assert found['file']['corruption']['weights_sha256'] == Manifest.read(exported[task]).sha256
    for score in ('mIoU',) if task == 'seg' else ('bbox_mAP', 'segm_mAP'):
        assert found['file'][score] == pytest.approx(found['eager'][score], abs=1e-3)
        corrupted = (one['corruption'][score]['mPC'] for one in found.values())
        assert next(corrupted) == pytest.approx(next(corrupted), abs=1e-3)


@pytest.mark.parametrize('task', ['mask', 'seg'])
def test_prediction_needs_no_config(trained, exported, tmp_path, task):
    picture((80, 100)).save(tmp_path / 'a.png')
    by_model, by_file = (
        load_predictor(source, device='cpu', score_threshold=0).predict(tmp_path / 'a.png')[0]
        for source in (trained[task], exported[task])
    )
    assert by_file.classes == by_model.classes
    if task == 'seg':
        assert (by_file.labels == by_model.labels).mean() > 0.999
    else:
        np.testing.assert_allclose(by_file.boxes, by_model.boxes, atol=1e-2)
        np.testing.assert_allclose(by_file.scores, by_model.scores, atol=1e-4)
    with pytest.raises(ValueError, match='leave the config out'):
        load_predictor(exported[task], FOLDER / CONFIGS[task], device='cpu')


@pytest.mark.parametrize('task', ['mask', 'seg'])
def test_the_script_of_the_documentation_needs_three_packages(exported, tmp_path, task):
    page = (ROOT / 'docs' / 'deploy_dense.md').read_text()
    code = re.search(r'<!-- file: find.py -->\n```python\n(.*?)```', page, re.S)[1]
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    (tmp_path / 'find.py').write_text(f'import sys\nsys.modules.update(dict.fromkeys({BLOCKED!r}))\n{code}')
    picture((80, 100)).save(tmp_path / 'a.png')
    done = subprocess.run(
        [sys.executable, 'find.py', exported[task], 'a.png'], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    expected = load_predictor(exported[task], device='cpu', score_threshold=0.05).predict(tmp_path / 'a.png')[0]
    if task == 'seg':
        assert (np.asarray(Image.open(tmp_path / 'labels.png')) == expected.labels).mean() > 0.98
        return
    scores = [float(line.split()[-5]) for line in done.stdout.splitlines()]
    assert len(scores) == pytest.approx(len(expected.scores), abs=1)
    np.testing.assert_allclose(scores[:3], expected.scores[:3], atol=0.01)


def coordinates(path: Path) -> set[str]:
    """Kinds of the operations that the coordinates of an ONNX detector come from, up to the layers' outputs."""
    import onnx

    graph = onnx.load(path).graph
    made_by = {name: node for node in graph.node for name in node.output}
    left = [one.input[1] for one in graph.node if one.op_type == 'RoiAlign']
    left += [one.input[0] for one in graph.node if one.op_type == 'NonMaxSuppression']
    seen, kinds = set(), set()
    while left:
        node = made_by.get(left.pop())
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        of_layer = node.op_type == 'QuantizeLinear' and made_by[node.input[0]].op_type in ('Conv', 'Gemm')
        kinds.add('layer' if of_layer else node.op_type)
        left += [] if of_layer or node.op_type in ('Shape', 'TopK') else node.input
    return kinds


@pytest.mark.parametrize('task', ['mask', 'seg'])
def test_int8_of_a_whole_model(exported, data, tmp_path, task):
    images = data / ('coco/train2017' if task == 'mask' else 'ade20k/images/training')
    for suffix in ('.onnx', *(['.xml'] if find_spec('nncf') else []), *(['.mnn'] if WITH_MNN else [])):
        path, out = exported[task].with_suffix(suffix), tmp_path / f'int8{suffix}'
        found = quantise(path, out, Options(calibration=images, shift='both', threads=1))
        assert (found.precision, found.calibration['images']) == ('int8', 8)
        assert 'RGB' in found.details['channels']
        assert found.details['quantised']['compared'] == 8
        assert 'verified' not in found.details
        if task == 'seg':
            assert found.details['quantised']['agreement_pct'] > 80
        size = (50, 90)
        assert SceneArtefact(out, threads=1).show(np.asarray(picture(size)), size) is not None
    if WITH_MNN:
        assert 'activations stay in fp32' in found.details['quantised']['method']
        assert found.dynamic == Manifest.read(exported[task]).dynamic
        with pytest.raises(ValueError, match='mnn quantises all layers or none'):
            quantise(exported[task].with_suffix('.mnn'), tmp_path / 'kept.mnn', Options(calibration=images, keep=1))
    if task == 'mask':
        kinds = coordinates(tmp_path / 'int8.onnx')
        assert {'layer', 'Exp', 'Mul'} <= kinds
        assert 'QuantizeLinear' not in kinds


@pytest.mark.parametrize('task', ['mask', 'seg'])
def test_an_accuracy_drop_of_a_whole_model_is_that_of_its_test(exported, data, tmp_path, task):
    root = data / ('ade20k' if task == 'seg' else 'coco')
    settings = dict(calibration=root / ('images/training' if task == 'seg' else 'train2017'), accuracy_drop=100.0)
    options = Options(**settings, config=FOLDER / CONFIGS[task], labelled=root, threads=1)
    found = quantise(exported[task], tmp_path / 'int8.onnx', options).details['quantised']
    command = [*arguments(task, data, tmp_path / 'tested'), str(exported[task])]
    assert run_test([*command, '--cfg-options', 'visualizer.vis_backends=[]']) == 0
    tested = json.loads((tmp_path / 'tested' / 'results.json').read_text())
    section, score = ('segmentation', 'mIoU') if task == 'seg' else ('detection', 'bbox_mAP')
    assert found['accuracy_pct']['fp32'] == pytest.approx(100 * tested[section][score], abs=1e-3)
    assert found['tried'].keys() == {'0'}
    other = FOLDER / CONFIGS['mask' if task == 'seg' else 'seg']
    for options in (Options(**settings), Options(**settings, config=other, labelled=root)):
        with pytest.raises(ValueError, match='config') as caught:
            quantise(exported[task], tmp_path / 'none.onnx', options)
        assert '\n' not in str(caught.value)


@pytest.mark.parametrize(('task', 'layer'), [('mask', 'network.roi_head.bbox_head.1'), ('seg', 'network.decode_head')])
def test_the_first_layer_that_differs_is_named(trained, data, tmp_path, monkeypatch, task, layer):
    import onnx

    monkeypatch.setitem(dense_job.AGREEMENT, 'segmentation', 1.1)  # After one iteration each pixel has the same label.

    scene = load_scene_model(trained[task], FOLDER / CONFIGS[task], 'cpu')
    files = sorted((data / ('coco/val2017' if task == 'mask' else 'ade20k/images/validation')).iterdir())
    shown = [ShownImage.of(scene, files[0])]
    about = {'checkpoint': '', 'resize': None, 'images': data}
    job = dense_job.Job(scene, scene_graph(scene, True), shown, Wish(('onnx',)), about)
    path = job._onnx(tmp_path)
    model = onnx.load(path)
    tensor = next(one for one in model.graph.initializer if one.name.startswith(layer) and one.name.endswith('.weight'))
    told = f"the first of its layers that differs is '{tensor.name.removesuffix('.weight')}'"
    tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * 1.5, tensor.name))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match='it finds something else than the model') as caught:
        job._verify(by_name('onnx'), path)
    assert told in str(caught.value)


def test_what_differs_is_not_left_behind(trained, data, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(dense_job.AGREEMENT, 'segmentation', 1.1)
    command = [trained['seg'], '--config', FOLDER / CONFIGS['seg'], '--out', tmp_path / 'out', '--to', 'onnx']
    command += ['--images', data / 'ade20k' / 'images' / 'validation', '--count', '1']
    assert export(list(map(str, command))) == 1
    assert 'finds something else than the model' in capsys.readouterr().err
    assert not list((tmp_path / 'out').iterdir())


def test_mistakes_are_one_line(trained, exported, data, tmp_path, capsys):
    config = str(FOLDER / CONFIGS['mask'])

    def line_of(main, *words: object) -> str:
        assert main(list(map(str, words))) == 1
        lines = capsys.readouterr().err.strip().splitlines()
        assert len([line for line in lines if 'error: ' in line]) == 1
        return lines[-1]

    out = ['--out', tmp_path / 'out']
    assert 'does not exist' in line_of(export, tmp_path / 'none.pth', '--config', config, *out)
    assert 'lacks' in line_of(export, trained['seg'], '--config', config, '--images', data / 'coco' / 'val2017', *out)
    assert 'choose from onnx' in line_of(export, trained['mask'], '--config', config, *out, '--to', 'executorch')
    calibrated = ['--int8', '--calibration', data / 'coco' / 'train2017']
    refused = line_of(export, trained['mask'], '--config', config, *out, '--to', 'torch', *calibrated)
    assert '--int8 is not of torch' in refused
    tested = arguments('mask', data, tmp_path / 'work')
    assert 'of the task segmentation' in line_of(run_test, *tested, exported['seg'])
    for name in ('damaged.onnx', 'alone.onnx'):
        shutil.copy(exported['mask'], tmp_path / name)
    shutil.copy(Manifest.path_beside(exported['mask']), tmp_path / 'damaged.onnx.json')
    (tmp_path / 'damaged.onnx').write_bytes(exported['mask'].read_bytes()[:-100])
    assert 'export it again' in line_of(run_test, *tested, tmp_path / 'damaged.onnx')
    assert "no 'alone.onnx.json' beside it" in line_of(run_test, *tested, tmp_path / 'alone.onnx')


@pytest.mark.skipif(bool(by_name('mnn').missing()), reason='MNN is not installed')
@pytest.mark.parametrize('name', [one if one in QUICK else pytest.param(one, marks=WHOLE_TABLE) for one in MODELS])
def test_the_engines_take_what_the_table_says(name):
    """Files are verified where they are written."""
    assert line(row(name)) in (ROOT / 'docs' / 'deploy_dense.md').read_text()


def test_objects_have_one_partner_each():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10.5], [50, 50, 60, 60]], np.float32)
    one = Objects(boxes, np.array([0.9, 0.8, 0.7], np.float32), np.array([1, 1, 2]))
    other = Objects(boxes[[1, 0]], np.array([0.85, 0.8], np.float32), np.array([1, 1]))
    found = compare_objects([one], [other], [(100, 50)])
    assert found.agreement == pytest.approx(4 / 5)
    assert found.max_difference == pytest.approx(0.1)
    assert compare_objects([one], [Objects(boxes[:0], *(np.zeros(0),) * 2)], [(100, 50)]).agreement == 0
