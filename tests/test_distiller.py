"""Teacher and student in one model: the teacher must leave no trace, the view must be one."""

import copy

import pytest
import timm
import torch

from backbones.checkpoint import build_model, read_weights, save_model
from distill.distiller import Distiller, ViewPreprocessor

STUDENT = dict(
    model='robust_resnet_dw_small',
    dims=(8, 16, 32, 64),
    depths=(1, 1, 1, 1),
    kernel_size=3,
    patch_size=4,
    num_classes=10,
)
TEACHER = dict(
    model='deit_tiny_patch16_224', img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=10
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


def test_teacher_sees_the_students_view_in_its_own_normalisation(distiller):
    images, _ = batch()
    distiller.teacher.mean, distiller.teacher.std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    student = ViewPreprocessor()
    own = ViewPreprocessor(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
    seen = distiller.teacher(student((images, images))['images'], student.mean, student.std)
    torch.testing.assert_close(seen, distiller.teacher.network(own((images, images))['images']), atol=1e-5, rtol=1e-4)


def test_teacher_of_a_fixed_size_gets_the_view_resized(distiller):
    data = distiller.data_preprocessor(batch(size=48), False)
    assert distiller(**data, mode='loss')['loss_soft_target_kl'].isfinite()


def test_mixing_shows_both_the_same_tensor_and_smooths_the_labels():
    mixup = dict(mixup_alpha=1.0, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=10)
    data = ViewPreprocessor(mixup=mixup, random_erasing=0.5)(batch(), True)
    assert data['targets'].shape == (4, 10)
    torch.testing.assert_close(data['targets'].sum(1), torch.ones(4))
    assert data['images'].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ('teacher', 'losses', 'message'),
    [
        (None, LOSSES, 'loss_soft_target_kl needs a teacher'),
        (TEACHER, [dict(type='cross_entropy')], 'the teacher|model.teacher serves no loss'),
        ({**TEACHER, 'num_classes': 7}, LOSSES, 'the teacher has 7 classes and the student 10'),
        ({'model': 'deit_tyny_patch16_224'}, LOSSES, "'deit_tyny_patch16_224' is unknown; did you mean deit_tiny"),
    ],
)
def test_wrong_pairs_are_refused(teacher, losses, message):
    with pytest.raises(ValueError, match=message):
        Distiller(STUDENT, teacher, losses)


def test_saved_model_is_built_from_its_path_alone(tmp_path, distiller):
    kwargs = {k: v for k, v in STUDENT.items() if k != 'model'}
    path = tmp_path / 'student_best.pth'
    save_model(path, distiller.student, {'model': STUDENT['model'], 'model_kwargs': kwargs})
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
