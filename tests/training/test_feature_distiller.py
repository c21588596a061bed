"""The model that trains a student with teachers of features."""

import copy

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from mmengine.optim import OptimWrapper

from backbones.sources import own
from backbones.sources.own import OwnModel
from distill.losses.embeddings import cosine, radio
from distill.training.feature_distiller import FeatureDistiller
from distill.training.shares import Shares

STUDENT = dict(model='robust_resnet_dw_small', depths=(1, 1, 1, 1), dims=(8, 8, 16, 16), kernel_size=3)
VIT = dict(pretrained=False, embed_dim=32, depth=2, num_heads=2)
DINO = dict(name='dino', model='vit_small_patch14_dinov2', size=28, pooling='cls', **VIT)
CLASSIFIER = dict(name='clip', model='vit_tiny_patch16_224', img_size=32, num_classes=5, **VIT)
COSINE = [dict(type='cosine', head='mlp')]
ALL = [
    dict(type='cosine', head='mlp'),
    dict(type='radio', on='grid', student_layer=-2, weight=2.0),
    dict(type='pseudo_classes', queue=8),
]


def distiller(*teachers: dict, **options) -> FeatureDistiller:
    torch.manual_seed(0)
    return FeatureDistiller(options.pop('student', STUDENT), list(teachers), **options)


def batch(count: int = 4, size: int = 32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)
    number = torch.arange(count)
    return [images, torch.full((count,), -1), number, torch.zeros_like(number), number]


def losses_of(model: FeatureDistiller, data: list[torch.Tensor], training: bool = False) -> dict[str, torch.Tensor]:
    return model.train(training)(**model.data_preprocessor(data, training), mode='loss')


def test_teacher_is_in_no_list_of_the_model_and_is_left_as_it_is():
    model = distiller(dict(DINO, losses=ALL))
    network = model.teachers[0].network
    assert not {*map(id, network.parameters())} & {*map(id, model.parameters())}
    assert {name.split('.')[0] for name in model.state_dict()} == {'student', 'terms'}
    before = copy.deepcopy(network.state_dict())
    sum(losses_of(model, batch(), training=True).values()).backward()
    assert not network.training
    assert all(one.grad is None for one in network.parameters())
    assert all(one.grad is not None for one in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert copy.deepcopy(model).teachers[0] is model.teachers[0]
    model.to(torch.float64)
    assert {one.dtype for one in network.parameters()} == {torch.float64}


def test_terms_are_of_one_pass_through_each_network():
    model = distiller(dict(DINO, weight=3.0, losses=ALL[:2], statistics='none'))
    passes = []
    model.student.stem.register_forward_hook(lambda *_: passes.append(1))
    model.teachers[0].network.patch_embed.register_forward_hook(lambda *_: passes.append(2))
    data = model.data_preprocessor(batch(), False)
    found = losses_of(model, batch())
    assert sorted(passes) == [1, 2]
    student, heads = model.student, model.terms[0].heads
    features = model.teachers[0](model.data_preprocessor.view_batch(data['images']))
    pooled = student.forward_head(student.forward_features(data['images']), pre_logits=True)
    expected = 3 * cosine(heads['pooled_mlp'](pooled), features.pooled)
    torch.testing.assert_close(found['loss_dino_pooled_cosine'], expected)
    grid = student.forward_intermediates(data['images'], indices=[2], intermediates_only=True)[0]
    # 2×2 cells on both sides, or the student's are brought to the teacher's.
    assert features.grid.shape[2:] == (2, 2)
    projected = heads['grid_2_linear'](grid.permute(0, 2, 3, 1))
    expected = 6 * radio(projected, features.grid.permute(0, 2, 3, 1))
    torch.testing.assert_close(found['loss_dino_grid_radio'], expected)
    assert list(found) == ['loss_dino_pooled_cosine', 'loss_dino_grid_radio']


@pytest.mark.parametrize('size', [28, 84])
def test_the_head_runs_on_the_coarser_grid(size):
    """A linear head gives the same on either side of the resampling; it runs where there is less to do."""
    model = distiller(dict(DINO, size=size, losses=[dict(type='mse', on='grid', student_layer=1)]))
    seen = []
    model.terms[0].heads['grid_1_linear'].register_forward_hook(lambda head, x, y: seen.append(tuple(x[0].shape[1:3])))
    assert losses_of(model, batch(size=64))['loss_dino_grid_mse'].isfinite()
    cells = size // 14
    assert seen == [min((4, 4), (cells, cells))]


def test_terms_of_one_head_share_it_and_others_have_their_own():
    losses = [dict(type='cosine'), dict(type='mse'), dict(type='smooth_l1', head='mlp'), dict(type='rkd'),
              dict(type='mse', on='grid'), dict(type='gram', on='grid'), dict(type='cosine', on='grid')]  # fmt: skip
    model = distiller(dict(DINO, losses=losses))
    assert list(model.terms[0].heads) == ['pooled_linear', 'pooled_mlp', 'pooled_none', 'grid_linear', 'grid_none']
    assert len(losses_of(model, batch(8))) == 7
    twice = distiller(dict(DINO, losses=[dict(type='cosine'), dict(type='cosine', head='mlp')]))
    assert list(losses_of(twice, batch())) == ['loss_dino_pooled_cosine', 'loss_dino_pooled_cosine_2']


def test_several_teachers_have_own_sizes_heads_weights_and_logits():
    losses = [dict(type='soft_target_kl', on='logits'), dict(type='mse', on='grid')]
    model = distiller(dict(DINO, losses=ALL), dict(CLASSIFIER, weight=0.5, losses=losses))
    found = losses_of(model, batch(), training=True)
    assert list(found)[-2:] == ['loss_clip_logits_soft_target_kl', 'loss_clip_grid_mse']
    # Several teachers are brought to one scale by PHI-S, of which one alone has no need.
    assert [terms.statistics['grid'].kind for terms in model.terms] == ['phi_s', 'phi_s']
    assert distiller(dict(DINO, losses=ALL)).terms[0].statistics['grid'].kind == 'mean_std'
    heavier = distiller(dict(DINO, losses=ALL), dict(CLASSIFIER, weight=1.0, losses=losses))
    for name, value in losses_of(heavier, batch(), training=True).items():
        torch.testing.assert_close(found[name], value * (0.5 if name.startswith('loss_clip') else 1.0))


def test_balance_by_size_gives_each_teacher_its_weight_and_logs_what_the_losses_were():
    teachers = [dict(DINO, losses=COSINE), dict(CLASSIFIER, weight=0.5, losses=[dict(type='mse', weight=100.0)])]
    model, plain = distiller(*teachers, balance='size'), distiller(*teachers)
    found, raw = losses_of(model, batch(), training=True), losses_of(plain, batch(), training=True)
    assert found['loss_dino_pooled_cosine'].item() == pytest.approx(1.0, rel=1e-5)
    assert found['loss_clip_pooled_mse'].item() == pytest.approx(0.5, rel=1e-5)
    assert found['clip_pooled_mse'].item() == pytest.approx(raw['loss_clip_pooled_mse'].item() * 2)
    # A loss that halves adds less than its weight, until the mean has followed.
    value = model.balance([torch.tensor(0.5), torch.tensor(7.0)])[0] * 0.5
    assert 0.3 < value.item() / 1.0 < 1.0
    with pytest.raises(ValueError, match="balance 'equal' is unknown; choose from weights, size"):
        distiller(*teachers, balance='equal')


def test_shares_part_the_batch_by_keys_alone():
    shares = Shares({'a': 0.5, 'b': 0.25, 'c': 1.0, 'd': 0.25})
    keys = torch.tensor([[image, 0] for image in range(8)])
    a, b, c, d = shares.places(keys, 8)
    assert c is None
    assert [len(a), len(b), len(d)] == [4, 2, 2]
    assert sorted([*a.tolist(), *b.tolist(), *d.tolist()]) == list(range(8))
    # In another order of the batch the same images go to the same teacher; in another view they are others.
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    moved = shares.places(keys[order], 8)[0]
    assert {*keys[order][moved][:, 0].tolist()} == {*keys[a][:, 0].tolist()}
    others = [shares.places(keys + torch.tensor([0, view]), 8)[0].tolist() for view in range(1, 20)]
    assert len({tuple(one) for one in others}) > 10
    # Each image has its turn about as often as the share says.
    counts = torch.bincount(torch.tensor(others).flatten(), minlength=8)
    assert counts.min() >= 4
    assert counts.max() <= 15
    # However small a share is, a teacher sees an image of each batch, so that its head has a gradient.
    assert len(Shares({'a': 0.01}).places(keys, 8)[0]) == 1


def test_a_teacher_with_a_share_learns_from_its_images_alone():
    share = dict(CLASSIFIER, share=0.5, losses=[dict(type='cosine')])
    model, whole = distiller(share), distiller({**share, 'share': 1.0})
    data = batch(8)
    places = model.shares.places(torch.stack(data[2:4], dim=1), 8)[0]
    assert len(places) == 4
    found = losses_of(model, data)['loss_clip_pooled_cosine']
    torch.testing.assert_close(found, losses_of(whole, [one[places] for one in data])['loss_clip_pooled_cosine'])
    with pytest.raises(ValueError, match="teacher 'clip' is shown a part of each batch, by keys, and the images have"):
        losses_of(model, data[:2])


def test_predictions_are_the_students_embeddings():
    model = distiller(dict(DINO, losses=COSINE)).eval()
    data = model.data_preprocessor(batch(), False)
    expected = model.student(data['images'])
    assert expected.shape == (4, model.student.num_features)
    torch.testing.assert_close(model(**data), expected)
    found = model(**data, mode='predict')[0]
    torch.testing.assert_close(found['features'], expected)
    assert torch.equal(found['targets'], data['targets'])


def test_average_of_the_weights_leaves_the_teacher_alone():
    model = distiller(dict(DINO, losses=ALL)).train()
    average = ExponentialMovingAverage(model, momentum=0.1, update_buffers=True)
    assert average.module.teachers[0] is model.teachers[0]
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    for _ in range(2):
        model.train_step(batch(), wrapper)
        average.update_parameters(model)
    assert all(value.isfinite().all() for value in average.state_dict().values())
    assert losses_of(average.module, batch())['loss_dino_pooled_cosine'].isfinite()


def test_accumulated_gradients_are_those_of_the_whole_batch():
    def train(batches: list, counts: int) -> torch.Tensor:
        # A student without batch norm, whose statistics would be those of a part.
        student, losses = dict(model='vit_tiny_patch16_224', img_size=32, **VIT), [*COSINE, dict(type='mse', on='grid')]
        model = distiller(dict(DINO, losses=losses, statistics='none'), student=student)
        before = model.student.blocks[0].mlp.fc1.weight.detach().clone()
        wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), accumulative_counts=counts)
        for data in batches:
            model.train_step(data, wrapper)
        assert not torch.equal(model.student.blocks[0].mlp.fc1.weight, before)
        return model.student.blocks[0].mlp.fc1.weight

    data = batch()
    parts = [[one[:2] for one in data], [one[2:] for one in data]]
    torch.testing.assert_close(train(parts, 2), train([data], 1))


def test_mixed_precision_compiling_and_other_layouts_compute_the_same():
    plain = losses_of(distiller(dict(DINO, losses=ALL)), batch(), training=True)
    compiled = distiller(dict(DINO, losses=ALL), compile=dict(backend='eager'))
    torch.testing.assert_close(losses_of(copy.deepcopy(compiled), batch(), training=True), plain)
    rows = dict(type='ViewPreprocessor', channels_last=False)
    torch.testing.assert_close(
        losses_of(distiller(dict(DINO, losses=ALL), data_preprocessor=rows), batch(), True), plain
    )
    with torch.autocast('cpu', dtype=torch.bfloat16):
        halved = losses_of(distiller(dict(DINO, losses=ALL)), batch(), training=True)
    assert {value.dtype for value in halved.values()} == {torch.float32}
    torch.testing.assert_close(halved, plain, rtol=0.2, atol=0.05)


@pytest.mark.parametrize(
    'student',
    [
        dict(model='resnet10t'),
        dict(model='mobilenetv3_small_050'),
        dict(model='swin_tiny_patch4_window7_224', img_size=32, window_size=2, embed_dim=16, depths=(1, 1, 1, 1)),
        dict(model='vit_tiny_patch16_224', img_size=32, embed_dim=32, depth=2, num_heads=2),
    ],
    ids=lambda student: student['model'],
)
def test_students_of_other_kinds_have_embeddings_and_maps(student):
    losses = [dict(type='cosine'), dict(type='mse', on='grid'), dict(type='mse', on='grid', student_layer=0)]
    model = distiller(dict(DINO, losses=losses), student=student)
    found = losses_of(model, batch(), training=True)
    assert len(found) == 3
    assert sum(found.values()).isfinite()


def test_a_network_of_a_users_own_is_taught_by_what_it_gives():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 12, 8, 8), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    network.num_classes = 12
    with own.kept(OwnModel(network, (0.5,) * 3, (0.5,) * 3, 12)) as name:
        model = distiller(dict(DINO, losses=COSINE), student=dict(model=name))
        assert model.student is network
        sum(losses_of(model, batch(), training=True).values()).backward()
        assert network[0].weight.grad.abs().sum() > 0
        with pytest.raises(ValueError, match='loss mse is on grid, which the student does not give; set on to pooled'):
            distiller(dict(DINO, losses=[dict(type='mse', on='grid')]), student=dict(model=name))


@pytest.mark.parametrize(
    ('teachers', 'message'),
    [
        ([dict(DINO, losses=COSINE)] * 2, "two teachers are called 'dino'"),
        ([], r'model.teachers is \[\]; give a list of dicts'),
        (dict(DINO, losses=COSINE), 'model.teachers is {.*; give a list of dicts'),
        ([dict(DINO, name='a.b', losses=COSINE)], "model.teachers.0.name is 'a.b'; give a name of letters"),
        ([dict(DINO, name=None, losses=COSINE)], 'model.teachers.0.name is None'),
        ([dict(DINO, name='lossy', losses=COSINE)], "a teacher is called 'lossy', and all that has 'loss' in its name"),
        ([DINO], "teacher 'dino' serves no loss; add one"),
        ([dict(DINO, losses=[dict(on='grid')])], "teacher 'dino' has the loss {'on': 'grid'} without a type"),
        ([dict(DINO, losses=COSINE, warmup=0)], "teacher 'dino' has a warmup of 0 steps; give a whole number"),
        ([dict(DINO, share=1.5, losses=COSINE)], "teacher 'dino' has the share 1.5 of each batch; give a number in"),
        ([dict(DINO, weight='1', losses=COSINE)], "teacher 'dino' has the weight '1'; give a number"),
        ([dict(DINO, losses=[dict(type='cosin')])], "loss 'cosin' is unknown; choose from cosine, mse"),
        ([dict(DINO, losses=[dict(type='gram')])], "loss 'gram' is no loss on pooled; set on='grid', or choose from"),
        ([dict(DINO, losses=[dict(type='cosine', on='patches')])], "is on 'patches'; choose from pooled, grid, logits"),
        (
            [dict(DINO, losses=[dict(type='cosine', head='conv')])],
            "the head 'conv', which is unknown; choose from linear",
        ),
        ([dict(DINO, losses=[dict(type='cosine', head='none')])], 'compares 64 channels of the student with 32 of'),
        (
            [dict(DINO, losses=[dict(type='cosine', temperature=2.0)])],
            "loss cosine has no option 'temperature'; choose",
        ),
        ([dict(DINO, losses=[dict(type='cosine', student_layer=1)])], 'is on pooled and has student_layer=1'),
        ([dict(DINO, losses=[dict(type='cosine', queue=8)])], 'loss cosine has no queue; drop queue=8'),
        ([dict(DINO, losses=[dict(type='mse', on='grid', student_layer=9)])], 'layer 9 of the student is out of range'),
        ([dict(DINO, losses=[dict(type='soft_target_kl', on='logits')])], "which teacher 'dino' does not give; set on"),
        (
            [dict(DINO, losses=COSINE, statistics='zca')],
            "has the statistics 'zca', which are unknown; choose from mean_std",
        ),
        ([dict(DINO, losses=COSINE, cache='nowhere')], 'nowhere'),
        ([dict(DINO, losses=COSINE, layer=7)], "layer 7 of the teacher 'dino' is out of range; choose from 0 … 1"),
    ],
)
def test_mistakes_are_refused_in_one_line(teachers, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        distiller(*teachers) if isinstance(teachers, list) else FeatureDistiller(STUDENT, teachers)
    assert '\n' not in str(error.value)
