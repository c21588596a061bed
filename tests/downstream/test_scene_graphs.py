"""The graphs that are exported find what mmdet's and mmseg's own prediction finds, branch or no branch."""

import functools

import numpy as np
import pytest
import torch
from random_scenes import config, picture, scene_of
from torch import nn

from distill.downstream.graphs.cascade_rcnn import CascadeGraph
from distill.downstream.graphs.deployed import inference_network, resize_of, scene_graph, takes_any_size
from distill.downstream.graphs.preprocess import preprocess_of
from distill.downstream.graphs.segmenter import SegmenterGraph
from distill.downstream.inference import SceneModel
from distill.engines.scenes import as_input, objects_of

OWN_BOXES = {
    'reg_class_agnostic': False,
    'reg_decoded_bbox': True,
    'type': 'Shared4Conv1FCBBoxHead',
    'conv_out_channels': 16,
    'fc_out_channels': 32,
    'norm_cfg': {'type': 'BN'},
    'loss_bbox': {'type': 'GIoULoss'},
}
"""Swin's and ConvNeXt's box heads: a box for each class."""
SIZES = ((64, 64), (50, 90), (33, 21))


@functools.cache
def plain_scene(task: str, own_boxes: bool = False) -> SceneModel:
    settings = config(task)
    if own_boxes:
        heads = settings.model.roi_head.bbox_head
        settings.model.roi_head.bbox_head = [{**head, **OWN_BOXES} for head in heads]
    return scene_of(settings)


def plain_graph(scene: SceneModel, dtype: str = 'uint8') -> nn.Module:
    """The graph of the model as it is."""
    kind = CascadeGraph if scene.task == 'detection' else SegmenterGraph
    return kind(scene.network, preprocess_of(scene.network, dtype)).eval()


def run(scene: SceneModel, graph: nn.Module, size: tuple[int, int]) -> tuple:
    """What the model and what its graph find in a picture."""
    sample, preprocess = scene.sample(picture(size)), graph.preprocess
    mean, std = (one.flatten().tolist() for one in (preprocess.mean, preprocess.std))
    image = as_input(sample['inputs'].numpy()[::-1].transpose(1, 2, 0), preprocess.dtype, mean, std)
    with torch.no_grad():
        found = graph(torch.from_numpy(image), torch.tensor(size))
    return scene.predict([sample])[0], found


@pytest.mark.parametrize('own_boxes', [False, True])
@pytest.mark.parametrize('size', SIZES)
def test_a_cascade_finds_what_mmdet_finds(size, own_boxes):
    scene = plain_scene('mask', own_boxes)
    graph = plain_graph(scene)
    expected, found = run(scene, graph, size)
    objects = objects_of(graph.outputs, [one.numpy() for one in found], size, 0.5)
    assert len(objects.scores) == len(expected.scores) > 10
    np.testing.assert_allclose(objects.boxes, expected.boxes, rtol=1e-6, atol=1e-5)
    assert np.array_equal(objects.scores, expected.scores)
    assert np.array_equal(objects.labels, expected.labels)
    assert (objects.masks != expected.masks).mean() < 1e-3
    assert expected.masks.any()


def test_where_nothing_is_sure_all_entries_are_empty():
    settings = config('mask')
    settings.model.test_cfg.rcnn.score_thr = 0.999
    scene = scene_of(settings)
    expected, (boxes, scores, labels, masks) = run(scene, plain_graph(scene), (64, 64))
    assert len(expected.scores) == 0
    assert not scores.any()
    assert (labels == -1).all()
    assert boxes.shape == (1, 50, 4)
    assert masks.shape == (1, 50, 28, 28)


def test_proposals_that_are_not_there_are_not_found():
    """Fewer anchors than proposals: the rest is filled up, and none of it scores."""
    settings = config('det')
    settings.model.test_cfg.rpn.update(nms_pre=4, max_per_img=300)
    settings.model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=5000)
    scene = scene_of(settings)
    expected, (_, scores, _) = run(scene, plain_graph(scene), (40, 40))
    assert 0 < len(expected.scores) < 5000
    assert int((scores > 0).sum()) == len(expected.scores)


@pytest.mark.parametrize('dtype', ['uint8', 'float32'])
@pytest.mark.parametrize('size', SIZES)
def test_a_segmenter_labels_as_mmseg_labels(size, dtype):
    scene = plain_scene('seg')
    expected, found = run(scene, plain_graph(scene, dtype), size)
    assert found.dtype == torch.uint8
    assert np.array_equal(found[0].numpy(), expected)
    assert len(np.unique(expected)) > 1


def test_channels_come_as_rgb_whatever_the_network_wants():
    settings = config('seg')
    settings.model.data_preprocessor.update(bgr_to_rgb=False, mean=[10.0, 100.0, 200.0], std=[50.0, 60.0, 70.0])
    scene = scene_of(settings)
    for dtype in ('uint8', 'float32'):
        graph = plain_graph(scene, dtype)
        assert graph.preprocess.mean.flatten().tolist() == [200.0, 100.0, 10.0]
        expected, found = run(scene, graph, (50, 90))
        assert np.array_equal(found[0].numpy(), expected)


def test_the_inference_form_holds_no_batch_norm_and_equals_the_model():
    scene = plain_scene('seg')
    before = {key: value.clone() for key, value in scene.network.state_dict().items()}
    network, steps = inference_network(scene.network, (64, 64))
    assert any(step.startswith('batch norms folded') for step in steps)
    assert not [m for m in network.decode_head.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    assert all(torch.equal(value, before[key]) for key, value in scene.network.state_dict().items())


def test_what_cannot_be_exported_is_named():
    settings = config('mask')
    settings.model.test_cfg.rcnn.nms.type = 'soft_nms'
    with pytest.raises(ValueError, match="detector's nms"):
        plain_graph(scene_of(settings))
    settings = config('seg')
    settings.model.test_cfg = dict(mode='slide', crop_size=(32, 32), stride=(16, 16))
    with pytest.raises(ValueError, match="mode 'slide'"):
        plain_graph(scene_of(settings))
    scene = plain_scene('seg')
    with pytest.raises(ValueError, match='RandomFlip'):
        resize_of(scene.config, [*scene.steps, {'type': 'RandomFlip', 'prob': 0.5}])


def test_a_transformer_is_exported_for_a_largest_size():
    scene = plain_scene('deeplabv3/upernet_swin_tiny_shapes-ade20k.py')
    assert not takes_any_size(scene.network)
    graph = scene_graph(scene, uint8=True, largest=(70, 90))
    assert graph.largest == (96, 96)
    image = torch.from_numpy(picture((96, 96)).transpose(2, 0, 1)[None].copy())
    expected, found = run(scene, graph.network, (96, 96))
    assert (found[0].numpy() == expected).mean() > 0.999
    with torch.no_grad(), pytest.raises(RuntimeError, match='negative'):
        graph.network(torch.cat([image, image], 2), torch.tensor([192, 96]))
