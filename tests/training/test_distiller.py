"""Teacher and student in one model: the teacher leaves no trace in it, and both see one view."""

import copy

import pytest
import timm
import torch
from mmengine.model import ExponentialMovingAverage
from mmengine.optim import OptimWrapper
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from backbones.checkpoint import build_model, read_weights, save_model
from backbones.layers.average_pool import AvgPool2d
from backbones.record import ModelRecord
from distill.base.forward import layer_channels, predict
from distill.teachers.live import LiveTeacher
from distill.training.distiller import Distiller
from distill.training.optim import TimmOptimWrapperConstructor

STUDENT = dict(
    model='robust_resnet_dw_small',
    dims=(8, 16, 32, 64),
    depths=(1, 1, 1, 1),
    kernel_size=3,
    patch_size=4,
    num_classes=10,
)
TEACHER = dict(
    model='deit_tiny_patch16_224',
    pretrained=False,
    img_size=32,
    patch_size=8,
    embed_dim=32,
    depth=2,
    num_heads=2,
    num_classes=10,
)
LOSSES = [dict(type='cross_entropy', weight=0.5), dict(type='soft_target_kl', weight=0.5, temperature=2.0)]


@pytest.fixture
def distiller() -> Distiller:
    torch.manual_seed(0)
    return Distiller(STUDENT, TEACHER, LOSSES)


def batch(size: int = 32):
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (4, 3, size, size), dtype=torch.uint8, generator=generator)
    return images, torch.tensor([0, 1, 2, 3])


def test_teacher_is_in_no_list_of_the_model(distiller):
    of_teacher = set(map(id, distiller.teacher.network.parameters()))
    assert not of_teacher & set(map(id, distiller.parameters()))
    assert not [key for key in distiller.state_dict() if 'teacher' in key]
    assert all(not module.startswith('teacher') for module, _ in distiller.named_modules())


def test_teacher_stays_frozen_and_in_eval_mode(distiller):
    before = copy.deepcopy(distiller.teacher.network.state_dict())
    distiller.train()
    assert not distiller.teacher.network.training
    data = distiller.data_preprocessor(batch(), True)
    sum(distiller(**data, mode='loss').values()).backward()
    assert all(p.grad is None for p in distiller.teacher.network.parameters())
    assert all(p.grad is not None for p in distiller.student.parameters())
    for key, value in distiller.teacher.network.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)


def test_teacher_is_shared_by_copies_and_follows_the_student(distiller):
    assert copy.deepcopy(distiller).teacher is distiller.teacher
    distiller.to(torch.float64)
    assert {p.dtype for p in distiller.teacher.network.parameters()} == {torch.float64}


def test_losses_add_up_from_one_view(distiller):
    distiller.eval()
    data = distiller.data_preprocessor(batch(), False)
    losses = distiller(**data, mode='loss')
    assert set(losses) == {'loss_cross_entropy', 'loss_soft_target_kl'}
    student, teacher = distiller.student(data['images']), distiller.teacher.network(data['images'])
    log_p, log_q = (student / 2).log_softmax(1), (teacher / 2).log_softmax(1)
    expected = 0.5 * 4 * (log_q.exp() * (log_q - log_p)).sum(1).mean()
    torch.testing.assert_close(losses['loss_soft_target_kl'], expected)


def test_teacher_of_a_fixed_size_gets_the_view_resized(distiller):
    data = distiller.data_preprocessor(batch(size=48), False)
    assert distiller(**data, mode='loss')['loss_soft_target_kl'].isfinite()


TOKEN_STUDENT = {**TEACHER, 'model': 'deit_tiny_distilled_patch16_224'}


def test_distillation_token_learns_from_the_teacher_and_class_token_from_the_label():
    torch.manual_seed(0)
    losses = [dict(type='cross_entropy', weight=0.5), dict(type='hard_label', weight=0.5)]
    distiller = Distiller(TOKEN_STUDENT, TEACHER, losses).train()
    data = distiller.data_preprocessor(batch(), True)
    values = distiller(**data, mode='loss')
    by_class, by_token = distiller.student(data['images'])
    decision = distiller.teacher.network(data['images']).argmax(1)
    cross_entropy = torch.nn.functional.cross_entropy
    torch.testing.assert_close(values['loss_cross_entropy'], 0.5 * cross_entropy(by_class, data['targets']))
    torch.testing.assert_close(values['loss_hard_label'], 0.5 * cross_entropy(by_token, decision))
    prediction = distiller.eval()(**data, mode='predict')[0]['logits']
    torch.testing.assert_close(prediction, (by_class + by_token) / 2)


def test_feature_losses_see_the_layers_that_they_name_of_one_pass():
    torch.manual_seed(0)
    losses = [
        dict(type='cross_entropy'),
        dict(type='attention_transfer', weight=1000.0, layers=[(1, 0), (3, -1)]),
        dict(type='fitnet', layers=[(-1, -1)]),
    ]
    distiller = Distiller(STUDENT, TEACHER, losses).eval()
    passes = []
    distiller.student.stem.register_forward_hook(lambda *_: passes.append(1))
    data = distiller.data_preprocessor(batch(), False)
    values = distiller(**data, mode='loss')
    assert len(passes) == 1

    def attention(features):
        return torch.nn.functional.normalize(features.pow(2).mean(1).flatten(1))

    of_student = distiller.student.forward_intermediates(data['images'], intermediates_only=True)
    tokens = distiller.teacher.network.forward_intermediates(data['images'], intermediates_only=True, output_fmt='NLC')
    of_teacher = [x.transpose(1, 2).reshape(4, 32, 4, 4) for x in tokens]
    pool = torch.nn.functional.adaptive_avg_pool2d
    pairs = [(of_student[1], of_teacher[0]), (of_student[3], of_teacher[1])]
    pairs = [[pool(x, min(s.shape[2], t.shape[2])) for x in (s, t)] for s, t in pairs]
    expected = 1000 * sum((attention(s) - attention(t)).pow(2).mean() for s, t in pairs)
    torch.testing.assert_close(values['loss_attention_transfer'], expected)
    projected = distiller.losses[2].projectors[0](of_student[3])
    hint = pool(of_teacher[1], projected.shape[2:])
    torch.testing.assert_close(values['loss_fitnet'], (projected - hint).pow(2).mean())


@pytest.mark.parametrize(
    'model',
    [
        STUDENT,
        TEACHER,
        dict(TEACHER, model='deit_tiny_distilled_patch16_224'),
        dict(model='wide_resnet28_10', depth=10, widen_factor=1),
        dict(model='resnest14d'),
        dict(model='convnext_atto'),
        dict(model='swin_tiny_patch4_window7_224', img_size=32, window_size=2, embed_dim=16, depths=(1, 1, 1, 1)),
    ],
    ids=lambda model: model['model'],
)
def test_logits_beside_feature_maps_are_those_without(model):
    network = build_model(**model).eval()
    image = torch.randn(1, 3, 32, 32)
    channels = layer_channels(network, 'student')
    logits, maps = predict(network, image, [len(channels) - 1, 0])
    torch.testing.assert_close(logits, predict(network, image)[0])
    assert [x.shape[1] for x in maps] == [channels[-1], channels[0]]


def test_projectors_are_trained_and_saved_for_resuming_but_not_with_the_student():
    distiller = Distiller(STUDENT, TEACHER, [dict(type='cross_entropy'), dict(type='fitnet', layers=[(1, 0)])])
    weight = distiller.losses[1].projectors[0].weight
    assert tuple(weight.shape) == (32, STUDENT['dims'][1] * 4, 1, 1)
    assert torch.equal(distiller.state_dict()['losses.1.projectors.0.weight'], weight)
    assert not [key for key in distiller.student.state_dict() if 'projector' in key]
    wrapper = TimmOptimWrapperConstructor(dict(optimizer=dict(type='SGD', lr=0.1)))(distiller)
    before = weight.detach().clone()
    distiller.train_step(batch(), wrapper)
    assert not torch.equal(weight, before)


def test_optimizers_update_in_one_call_where_they_can(distiller):
    def groups(**optimizer) -> list[dict]:
        return TimmOptimWrapperConstructor(dict(optimizer=optimizer))(distiller).optimizer.param_groups

    for kind in ('AdamW', torch.optim.SGD):
        assert [group['fused'] for group in groups(type=kind, lr=0.1, weight_decay=0.1)] == [True, True]
    assert [group['fused'] for group in groups(type='AdamW', lr=0.1, fused=False)] == [False]
    assert [group['foreach'] for group in groups(type='AdamW', lr=0.1, foreach=True)] == [True]
    assert 'fused' not in groups(type='RMSprop', lr=0.1)[0]
    with pytest.raises(ValueError, match=r"optimizer 'AdamX' is unknown; choose from .*Adam, AdamW"):
        groups(type='AdamX', lr=0.1)


def test_several_teachers_are_one_mean_prediction():
    torch.manual_seed(0)
    losses = [dict(type='soft_target_kl', temperature=2.0)]
    distiller = Distiller(STUDENT, [dict(TEACHER, weight=3.0), dict(STUDENT, pretrained=False)], losses).eval()
    data = distiller.data_preprocessor(batch(), False)
    first, second = (teacher.network(data['images']).softmax(1) for teacher in distiller.teacher.teachers)
    log_q = ((0.75 * first + 0.25 * second).log() / 2).log_softmax(1)
    log_p = (distiller.student(data['images']) / 2).log_softmax(1)
    expected = 4 * (log_q.exp() * (log_q - log_p)).sum(1).mean()
    torch.testing.assert_close(distiller(**data, mode='loss')['loss_soft_target_kl'], expected)
    assert copy.deepcopy(distiller).teacher is distiller.teacher
    assert distiller.teacher.source == [dict(TEACHER, weight=0.75), dict(STUDENT, pretrained=False, weight=0.25)]


class Part(LiveTeacher):
    """A teacher that knows its largest logits only, and has no feature maps."""

    exact = False

    def layer_channels(self) -> list[int]:
        return []


@pytest.mark.parametrize(
    ('loss', 'message'),
    [
        (dict(type='soft_target_kl', temperature=2.0), 'loss_soft_target_kl softens or standardises logits'),
        (dict(type='dkd', temperature=1.0, standardise=True), 'loss_dkd softens or standardises logits'),
        (dict(type='rkd', layers=[(0, 0)]), 'loss_rkd compares feature maps, which only a single teacher'),
    ],
)
def test_teacher_that_knows_only_a_part_is_refused_where_all_is_needed(loss, message, monkeypatch):
    monkeypatch.setattr('distill.training.distiller.build_teacher', lambda config, compile: Part(**config))
    Distiller(STUDENT, TEACHER, [dict(type='soft_target_kl')])
    with pytest.raises(ValueError, match=message):
        Distiller(STUDENT, TEACHER, [loss])


def test_average_of_the_weights_leaves_the_teacher_alone(distiller):
    average = ExponentialMovingAverage(distiller, momentum=0.5)
    before = copy.deepcopy(distiller.teacher.network.state_dict())
    assert average.module.teacher is distiller.teacher
    assert not [key for key in average.state_dict() if 'teacher' in key]
    with torch.no_grad():
        for parameter in distiller.parameters():
            parameter.add_(1)
    average.update_parameters(distiller)
    average.update_parameters(distiller)
    for key, value in distiller.teacher.network.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_accumulated_gradients_are_those_of_the_whole_batch():
    def train(batches, counts: int) -> torch.Tensor:
        torch.manual_seed(0)
        distiller = Distiller(TEACHER, TEACHER, LOSSES)
        optimizer = torch.optim.SGD(distiller.parameters(), lr=0.1)
        wrapper = OptimWrapper(optimizer, accumulative_counts=counts)
        before = distiller.student.head.weight.detach().clone()
        for data in batches:
            assert torch.equal(distiller.student.head.weight, before)
            distiller.train_step(data, wrapper)
        assert not torch.equal(distiller.student.head.weight, before)
        return distiller.student.head.weight

    images, labels = batch()
    whole = train([(images, labels)], 1)
    torch.testing.assert_close(train([(images[:2], labels[:2]), (images[2:], labels[2:])], 2), whole)


def test_shared_batch_norms_keep_their_activations_and_names(monkeypatch):
    monkeypatch.setattr('distill.training.batch_norm.default_device', lambda: 'cuda')
    plain, shared = (Distiller(dict(model='mobilenetv3_small_050'), sync_bn=sync_bn) for sync_bn in (False, True))
    assert {type(m).__name__ for m in shared.modules() if isinstance(m, _BatchNorm)} == {'SyncBatchNormAct'}
    shared.load_state_dict(plain.state_dict())
    data = plain.data_preprocessor(batch(), False)
    torch.testing.assert_close(shared.eval()(data['images']), plain.eval()(data['images']))


def test_padded_average_pools_of_timms_students_have_right_gradients_on_a_card():
    student = Distiller(dict(model='res2net50_26w_4s', layers=(1, 1, 1, 1), base_width=4)).student
    padded = [module for module in student.modules() if isinstance(module, nn.AvgPool2d) and module.padding]
    assert {type(module) for module in padded} == {AvgPool2d}


@pytest.mark.parametrize('features', [False, True])
def test_compiled_models_compute_the_same_under_the_same_names(features):
    losses = [*LOSSES, dict(type='attention_transfer', layers=[(-1, -1)])] if features else LOSSES
    values, names = [], []
    for compile in (False, dict(backend='eager')):
        torch.manual_seed(0)
        distiller = Distiller(STUDENT, TEACHER, losses, compile=compile)
        assert (distiller.predict is distiller.teacher.predict) == (not compile)
        values.append(copy.deepcopy(distiller)(**distiller.data_preprocessor(batch(), True), mode='loss'))
        names.append(list(distiller.state_dict()))
    assert names[0] == names[1]
    torch.testing.assert_close(values[0], values[1])


@pytest.mark.parametrize(
    ('teacher', 'losses', 'message'),
    [
        (None, LOSSES, 'loss_soft_target_kl needs a teacher'),
        (TEACHER, [dict(type='cross_entropy')], 'the teacher|model.teacher serves no loss'),
        ({**TEACHER, 'num_classes': 7}, LOSSES, 'the teacher has 7 classes and the student 10'),
        ({'model': 'deit_tyny_patch16_224'}, LOSSES, "'deit_tyny_patch16_224' is unknown; did you mean deit_tiny"),
        (TEACHER, [dict(type='cwd', layers=[(4, 0)])], 'layer 4 of the student is out of range; choose from 0 … 3'),
        ([TEACHER, TEACHER], [dict(type='rkd', layers=[(0, 0)])], 'loss_rkd compares feature maps'),
        ([TEACHER, {**TEACHER, 'num_classes': 7}], LOSSES, 'the teachers have 10, 7 classes'),
    ],
)
def test_wrong_pairs_are_refused(teacher, losses, message):
    with pytest.raises(ValueError, match=message):
        Distiller(STUDENT, teacher, losses)


def test_saved_model_is_built_from_its_path_alone(tmp_path, distiller):
    kwargs = {k: v for k, v in STUDENT.items() if k != 'model'}
    path = tmp_path / 'student_best.pth'
    save_model(path, distiller.student, ModelRecord.from_json({'model': STUDENT['model'], 'model_kwargs': kwargs}))
    image = torch.randn(1, 3, 32, 32)
    expected = distiller.student.eval()(image)
    torch.testing.assert_close(build_model(checkpoint=path).eval()(image), expected)
    by_timm = timm.create_model(STUDENT['model'], checkpoint_path=str(path), **kwargs).eval()
    torch.testing.assert_close(by_timm(image), expected)
    with pytest.raises(ValueError, match='holds robust_resnet_dw_small and not deit_tiny_patch16_224; change either'):
        build_model('deit_tiny_patch16_224', checkpoint=path)
    path.with_suffix('.json').unlink()
    with pytest.raises(ValueError, match=r'does not fit deit_tiny_patch16_224: \d+ missing .* unexpected'):
        build_model('deit_tiny_patch16_224', checkpoint=path)
    with pytest.raises(ValueError, match='no model is given'):
        build_model(checkpoint=path)


class Bomb:
    """Unpickling this would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, 'w')


def test_checkpoint_that_would_run_code_is_refused(tmp_path):
    torch.save({'state_dict': Bomb(str(tmp_path / 'exploded'))}, tmp_path / 'bomb.pth')
    with pytest.raises(ValueError, match=r'holds Python objects besides tensors and is not loaded'):
        read_weights(tmp_path / 'bomb.pth')
    assert not (tmp_path / 'exploded').exists()


def test_damaged_checkpoint_is_named(tmp_path):
    torch.save({'a': torch.zeros(1000)}, tmp_path / 'x.pth')
    whole = (tmp_path / 'x.pth').read_bytes()
    (tmp_path / 'x.pth').write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"x\.pth' is damaged"):
        read_weights(tmp_path / 'x.pth')
