"""Teachers and students that are networks of a user's own."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from api_runs import ALONE, SHORT, TAUGHT, Net, assert_same
from torch import nn

import backbones
import distill
from backbones.checkpoint import read_weights
from backbones.record import ModelRecord
from backbones.sources import own

REPO = Path(__file__).parents[2]


def weights(network: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items()}


def state(network: nn.Module) -> list:
    flags = [(module.training, [p.requires_grad for p in module.parameters()]) for module in network.modules()]
    return [flags, [tensor.data_ptr() for tensor in network.state_dict().values()], sorted(vars(network))]


def test_a_teacher_is_used_as_it_is_and_left_as_it_was(shapes, tmp_path):
    teacher = Net(16, seed=1).train()
    teacher.head.requires_grad_(False)
    before = weights(teacher), state(teacher)
    result = distill.train(TAUGHT, shapes, tmp_path / 'a', teacher=dict(model=teacher, mean=[0.5] * 3, std=[0.2] * 3),
                           **SHORT)  # fmt: skip
    assert_same(before[0], teacher.state_dict())
    assert before[1] == state(teacher)
    record = ModelRecord.read(result.student_best)
    assert record.teacher['model'] == 'own:api_runs.Net'
    assert record.teacher['weights_sha256'] == backbones.checkpoint.weights_sha256(before[0])
    # It teaches: another one, or another normalisation of its images, makes another student.
    for number, other in enumerate((Net(16, seed=2), teacher)):
        again = distill.train(TAUGHT, shapes, tmp_path / f'b{number}', teacher=other, **SHORT)
        assert not torch.equal(*(read_weights(one.student_best)['head.fc.weight'] for one in (result, again))), (
            'the teacher makes no difference'
        )


def test_a_teacher_answers_as_the_same_network_by_its_checkpoint(trained, shapes, tmp_path):
    loaded = trained.student()
    by_file = distill.train(TAUGHT, shapes, tmp_path / 'file', teacher=trained.student_best, **SHORT)
    by_network = distill.train(TAUGHT, shapes, tmp_path / 'network', teacher=loaded, **SHORT)
    ends = [read_weights(one.student_best) for one in (by_file, by_network)]
    for key, value in ends[0].items():
        assert torch.allclose(ends[1][key], value, atol=1e-4), key


def test_the_order_of_a_teachers_classes_is_found_by_their_names(shapes, tmp_path):
    names = sorted(path.name for path in (shapes / 'train').iterdir())
    teacher = Net(seed=1)
    reverse = copy.deepcopy(teacher)
    reverse.head.weight.data, reverse.head.bias.data = teacher.head.weight.data.flip(0), teacher.head.bias.data.flip(0)
    found = [
        distill.train(TAUGHT, shapes, tmp_path / str(number), teacher=dict(model=network, classes=classes), **SHORT)
        for number, (network, classes) in enumerate(((teacher, names), (reverse, names[::-1])))
    ]
    ends = [read_weights(one.student_best) for one in found]
    for key, value in ends[0].items():
        assert torch.allclose(ends[1][key], value, atol=1e-5), key
    with pytest.raises(ValueError, match='both must name the same classes'):
        distill.train(
            TAUGHT, shapes, tmp_path / 'x', teacher=dict(model=teacher, classes=[*names[1:], 'tree']), **SHORT
        )


def test_a_student_is_copied_and_comes_back_trained(shapes, tmp_path):
    student = Net()
    student.stem[0].requires_grad_(False)
    before = weights(student), state(student)
    given = dict(model=student, mean=[0.5] * 3, std=[0.25] * 3)
    settings = {key: value for key, value in SHORT.items() if key != 'model'}
    results = [distill.train(ALONE, shapes, tmp_path / str(number), student=given, **settings) for number in range(2)]
    assert_same(before[0], student.state_dict())
    assert before[1] == state(student)
    assert_same(results[0].student_best, results[1].student_best)  # The second call starts where the first has.
    loaded = results[0].student()
    assert isinstance(loaded.network, Net)
    assert_same(weights(loaded.network), read_weights(results[0].student_best))
    assert torch.equal(loaded.network.stem[0].weight, student.stem[0].weight)
    assert not torch.equal(loaded.network.head.weight, student.head.weight)
    assert (loaded.record.mean, loaded.record.std) == ([0.5] * 3, [0.25] * 3)
    scores = distill.evaluate({'own': loaded}, shapes, 'clean', progress=False).scores
    assert scores['own']['clean'] == pytest.approx(results[0].best['top1_pct'], abs=1e-3)


def test_a_student_without_its_class_is_one_line_with_the_way_out(shapes, tmp_path):
    settings = {key: value for key, value in SHORT.items() if key != 'model'}
    result = distill.train(ALONE, shapes, tmp_path, student=Net(), **settings)
    with pytest.raises(ValueError, match=r'own \(api_runs.Net\).*make it.*network = Net\(…\).*backbones.load\(network'):
        backbones.load(result.student_best)
    with pytest.raises(ValueError, match=r'api_runs\.Net.*place of the name'):
        distill.train(ALONE, shapes, tmp_path, resume=True, student={'model': 'own:api_runs.Net'}, **settings)
    # The config of the work directory, in another process.
    command = [
        sys.executable,
        '-m',
        'distill',
        'train',
        str(tmp_path / f'{ALONE}.py'),
        '--work-dir',
        str(tmp_path / 'x'),
    ]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if 'error' in line]
    assert "'own:api_runs.Net' is a network of a class of your own" in line
    assert 'Traceback' not in done.stderr
    # With the network at hand the run goes on.
    more = distill.train(ALONE, shapes, tmp_path, resume=True, student=Net(), **{**settings, 'epochs': 3})
    assert more.epoch == 3


def test_a_cache_of_an_own_teacher_is_known_by_its_weights(shapes, tmp_path):
    teacher, live = Net(16, seed=1), dict(SHORT, train_dataloader=dict(dataset=dict(seed=0)))
    cache = distill.cache_teacher(TAUGHT, tmp_path / 'cache', shapes, teacher=teacher, dtype='float32', progress=False,
                                  verify=4, **live)  # fmt: skip
    assert (cache.rows, cache.largest_difference) == (160, 0)
    by_network = distill.train(TAUGHT, shapes, tmp_path / 'live', teacher=teacher, **live)
    by_cache = distill.train(TAUGHT, shapes, tmp_path / 'cached', teacher=dict(cache=cache.path), **live)
    assert_same(by_network.student_best, by_cache.student_best)
    distill.train(TAUGHT, shapes, tmp_path / 'both', teacher=dict(model=teacher, cache=cache.path), **live)
    with pytest.raises(ValueError, match='does not fit: weights_sha256 was'):
        distill.train(TAUGHT, shapes, tmp_path / 'x', teacher=dict(model=Net(16, seed=2), cache=cache.path), **live)


class Pair(Net):
    def forward(self, images):
        return super().forward(images), images


def test_networks_that_cannot_be_used_are_said_before_the_work(shapes, tmp_path):
    small = {key: value for key, value in SHORT.items() if key != 'model'}
    cases = [
        (dict(teacher=nn.Linear(3, 4)), 'teacher Linear does not take images'),
        (dict(teacher=Pair()), 'teacher Pair answers images with tuple; wrap it'),
        (dict(teacher=dict(model=Net(), classes=['a', 'b'])), 'gives 10 logits, and classes says 2'),
        (dict(teacher=dict(model=Net(), meen=[0.5] * 3)), "'meen' is nothing that a network is described by; choose"),
        (dict(teacher=dict(model=Net(), mean=[128, 128, 128])), r'three numbers each, of values in \[0, 1\]'),
        (dict(teacher=3), 'give a name, a path, a network, or a dict with a network as model'),
        (dict(student=dict(model=Net(), input_size='big')), "input_size of the student is 'big'"),
        (dict(teacher=nn.Sequential(nn.Flatten(), nn.Linear(3072, 7))), 'teacher has 7 classes and the student 10'),
        (
            dict(teacher=Net(), **{'model.losses': [dict(type='fitnet', layers=[(-1, -1)])]}),
            'teacher Net gives no feature',
        ),
        (dict(model=dict(teacher=Net())), 'give a network as student or teacher'),
    ]
    for given, message in cases:
        with pytest.raises(ValueError, match=message):
            distill.train(TAUGHT, shapes, tmp_path / 'run', **{**small, **given})
    assert not list(tmp_path.rglob('*.pth'))


def test_an_evaluated_network_stays_as_it_was(shapes):
    network = Net().train()
    before = weights(network), state(network)
    names = sorted(path.name for path in (shapes / 'val').iterdir())
    given = dict(model=network, mean=[0.5] * 3, std=[0.2] * 3, classes=names, input_size=32)
    results = distill.evaluate(
        {'mine': given, 'other': dict(given, model=Net(seed=3))}, shapes, 'clean', progress=False
    )
    assert set(results.scores) == {'mine', 'other'}
    assert_same(before[0], network.state_dict())
    assert before[1] == state(network)
    with torch.no_grad():
        assert network.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_a_network_that_was_moved_and_frozen_comes_back_as_it_was():
    """To another type, as to a device: the tensors that it had are put back, and nothing is left of the others."""
    network = Net().train()
    before = weights(network), state(network)

    def move_and_stop() -> None:
        with own.unaltered(network):
            network.double().eval().requires_grad_(False)
            network.num_classes = 10
            assert network.head.weight.dtype == torch.float64
            raise RuntimeError('stopped')

    with pytest.raises(RuntimeError, match='stopped'):
        move_and_stop()
    assert_same(before[0], network.state_dict())
    assert before[1] == state(network)


def test_a_copy_shares_nothing_and_keeps_ties_and_frozen_parameters():
    network = Net()
    network.tied = network.head
    network.stem[0].weight.requires_grad_(False)
    copied = own.copy_on_cpu(network)
    assert_same(network.state_dict(), copied.state_dict())
    assert copied.tied is copied.head
    assert not copied.stem[0].weight.requires_grad
    pointers = [{tensor.data_ptr() for tensor in one.state_dict().values()} for one in (network, copied)]
    assert not pointers[0] & pointers[1]


def test_two_networks_of_a_class_have_two_names():
    described = [own.OwnModel(Net(seed=seed), [0.5] * 3, [0.2] * 3, 10) for seed in range(3)]
    with own.kept(described[0]) as first, own.kept(described[1]) as second, own.kept(described[2]) as third:
        assert [first, second, third] == ['own:api_runs.Net', 'own:api_runs.Net#2', 'own:api_runs.Net#3']
        assert own.find(second) is described[1]
    assert not own.is_kept(first)
