"""What a tested detector's or segmenter's backbone is said to have started from."""

import pytest

pytest.importorskip('mmengine')

from mmengine.config import Config, ConfigDict

from distill.downstream.backbone_origin import backbone_name

PLAIN = dict(backbone=dict(type='TimmBackbone', model='robust_resnet_dw_small', dims=(8, 16)))
STUDENT = dict(backbone=dict(PLAIN['backbone'], checkpoint='work_dirs/robust-alone/student_best.pth'))


@pytest.mark.parametrize(
    ('model', 'expected'),
    [
        (PLAIN, 'robust_resnet_dw_small (from scratch)'),
        (STUDENT, 'robust-alone'),
        (dict(backbone=dict(model='resnet50.tv_in1k', pretrained=True)), 'resnet50.tv_in1k (pretrained)'),
        (
            dict(backbone=dict(type='ResNet', init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'))),
            'ResNet (torchvision://resnet50)',
        ),
        (dict(pretrained='open-mmlab://v1c', backbone=dict(type='mmseg.ResNetV1c')), 'ResNetV1c (open-mmlab://v1c)'),
        (dict(type='DenseDistiller', student=STUDENT, teacher=dict(checkpoint='t.pth')), 'robust-alone'),
        (dict(type='DetTTAModel', module=STUDENT), 'robust-alone'),
    ],
)
def test_a_backbone_is_named_by_what_it_started_from(model, expected):
    tested = ConfigDict(model=model)
    assert backbone_name(tested, None) == expected
    # A test's own config need not name the weights that training started from.
    meta = dict(cfg=Config(dict(model=model, seed=0)).pretty_text)
    assert backbone_name(ConfigDict(model=PLAIN), meta) == expected


def test_a_detector_that_went_on_from_another():
    def meta(**more) -> dict:
        return dict(cfg=Config(dict(model=PLAIN, load_from='work_dirs/coco/epoch_12.pth', **more)).pretty_text)

    tested = ConfigDict(model=PLAIN)
    assert backbone_name(tested, meta(resume=False)) == 'robust_resnet_dw_small (of coco/epoch_12.pth)'
    assert backbone_name(tested, meta(resume=True)) == 'robust_resnet_dw_small (from scratch)'


def test_a_saved_config_that_is_none_leaves_that_of_the_test(tmp_path):
    tested = ConfigDict(model=STUDENT)
    there = tmp_path / 'there'
    text = f"model = dict(backbone=open({str(there)!r}, 'w'))"
    for cfg in (None, 3, 'model = (', 'x = 1\x00', text):
        assert backbone_name(tested, dict(cfg=cfg)) == 'robust-alone'
    assert not there.exists()
