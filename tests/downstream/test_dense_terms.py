"""Terms of a dense distillation: schedules, pairs of maps, and what they say about networks that do not fit."""

import pytest
import torch

pytest.importorskip('mmengine')

from distill.downstream.dense_terms.base import Level, Network, Pass
from distill.downstream.dense_terms.build import build_terms
from distill.losses.features import cwd


class OnePass:
    """Stands where a detector does: its name is all that is asked for."""


def network(role: str, stages: str, levels: str = '', channels: int = 8) -> Network:
    """A network with maps of these strides."""
    made = Network(role, OnePass(), [Level(int(stride), channels) for stride in stages.split()])
    made.neck_strides = [int(stride) for stride in levels.split()]
    made.levels = {stride: Level(stride, channels) for stride in made.neck_strides}
    return made


def maps(strides: str, seed: int, channels: int = 8, size: int = 64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = [-(-size // int(stride)) for stride in strides.split()]
    return [torch.randn(2, channels, side, side, generator=generator) for side in sizes]


def run(stages: str = '', levels: str = '', seed: int = 0, channels: int = 8, size: int = 64) -> Pass:
    given = Pass(None, torch.zeros(2, 3, size, size), [])
    given.stages = dict(enumerate(maps(stages, seed, channels, size)))
    given.levels = dict(zip(map(int, levels.split()), maps(levels, seed, channels, size), strict=True))
    return given


@pytest.mark.parametrize(
    ('schedule', 'expected'),
    [
        ((), {0: 2.0, 99: 2.0}),
        (((0, 0.0), (10, 1.0)), {0: 0.0, 5: 1.0, 10: 2.0, 99: 2.0}),
        (((10, 1.0), (20, 0.0)), {0: 2.0, 10: 2.0, 15: 1.0, 20: 0.0, 99: 0.0}),
        (((0, 0.0), (4, 1.0), (8, 1.0), (12, 0.5)), {2: 1.0, 6: 2.0, 10: 1.5, 12: 1.0}),
    ],
)
def test_a_weight_follows_its_schedule(schedule, expected):
    term = build_terms([dict(type='pkd', weight=2.0, schedule=schedule)])[0]
    assert {step: term.weight(step) for step in expected} == expected


def test_necks_are_paired_by_stride():
    term = build_terms([dict(type='cwd')])[0]
    term.connect(network('student', '4 8', '8 16 32 64 128'), network('teacher', '4 8', '4 8 16 32 64'))
    assert term.pairs == [(8, 8), (16, 16), (32, 32), (64, 64)]
    student, teacher = run(levels='8 16 32 64 128', seed=1), run(levels='4 8 16 32 64', seed=2)
    expected = sum(cwd(student.levels[stride], teacher.levels[stride]) for stride in (8, 16, 32, 64))
    assert term(student, teacher)['loss_cwd'] == pytest.approx(expected.item(), abs=1e-6)


def test_the_last_of_several_stages_of_a_stride_is_compared_and_others_by_their_places():
    by_stride, by_place, last = build_terms(
        [
            dict(type='hcl', on='backbone', strides=(8,)),
            dict(type='hcl', on='backbone', stages=[(1, -2)]),
            dict(type='hcl', on='backbone'),
        ]
    )
    for term in (by_stride, by_place, last):
        term.connect(network('student', '4 8 8 8'), network('teacher', '4 8 16 32'))
    assert (by_stride.pairs, by_place.pairs, last.pairs) == ([(3, 1)], [(1, 2)], [(3, 3)])
    # The dilated map has four times the height and width of the other one.
    student, teacher = run('4 8 8 8', seed=1), run('4 8 16 32', seed=2)
    resized = torch.nn.functional.interpolate(student.stages[3], (2, 2), mode='bilinear')
    expected = last.losses[0](resized, teacher.stages[3])
    assert last(student, teacher)['loss_hcl'].item() == expected.item() > 0


def test_a_larger_teachers_batch_is_cut_to_the_students():
    term = build_terms([dict(type='cwd', strides=(16,))])[0]
    term.connect(network('student', '16', '16'), network('teacher', '16', '16'))
    student, teacher = run(levels='16', seed=1), run(levels='16', seed=2, size=128)
    expected = cwd(student.levels[16], teacher.levels[16][..., :4, :4])
    assert term(student, teacher)['loss_cwd'].item() == expected.item()


def test_widths_that_differ_get_a_trained_convolution():
    same, other = build_terms([dict(type='pkd'), dict(type='pkd')])
    same.connect(network('student', '8', '8'), network('teacher', '8', '8'))
    other.connect(network('student', '8', '8'), network('teacher', '8', '8', channels=12))
    assert not list(same.parameters())
    assert [tuple(p.shape) for p in other.parameters()] == [(12, 8, 1, 1), (12,)]
    assert (same.name, other.name) == ('pkd', 'pkd_2')


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        ([], r'model.losses is \[\]; give a list of terms'),
        ([dict(weight=1.0)], 'give a list of terms'),
        ([dict(type='pdk')], "loss 'pdk' is unknown; choose from pkd, cwd"),
        ([dict(type='pkd', tau=2)], "loss pkd has no option 'tau'"),
        ([dict(type='pkd', on='roof')], "loss pkd is on 'roof'; choose from neck, backbone"),
        ([dict(type='pkd', weight='6')], "loss pkd has the weight '6'; give a number"),
        ([dict(type='pkd', schedule=(500,))], 'give pairs of iteration and factor'),
        ([dict(type='pkd', schedule=((9, 1.0), (4, 0.0)))], 'give each once, in order'),
        ([dict(type='pkd', stages=[(0, 0)])], 'has stages, which are those of a backbone'),
        ([dict(type='pkd', on='backbone', stages=[1])], r'give pairs, such as \[\(-1, -1\)\]'),
        ([dict(type='pkd', per_position=True)], 'does not grow with the map'),
    ],
)
def test_a_term_that_is_described_wrongly_is_an_error_of_one_line(config, message):
    with pytest.raises(ValueError, match=message) as error:
        build_terms(config)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('options', 'student', 'teacher', 'message'),
    [
        (dict(), ('4 8', ''), ('4 8', '4 8'), r"maps of necks and the student \(OnePass\) has none; give it on='backb"),
        (dict(), ('4 8', '4 8'), ('4 8', '16 32'), '16, 32, have none in common; give it on=.backbone'),
        (
            dict(strides=(4, 8)),
            ('8', '8 16'),
            ('4', '4 8'),
            'stride 4, which the neck of the student .* 8, 16; set strides .*: 8',
        ),
        (dict(strides=(16,)), ('8', '8 16'), ('4', '4 8'), 'stride 16, which the neck of the teacher'),
        (dict(on='backbone', stages=[(0, 5)]), ('4', ''), ('4 8', ''), 'stage 5 of the teacher .* from 0 … 1'),
    ],
)
def test_networks_that_cannot_give_a_term_are_an_error_of_one_line(options, student, teacher, message):
    term = build_terms([dict(type='cwd', **options)])[0]
    with pytest.raises(ValueError, match=message) as error:
        term.connect(network('student', *student), network('teacher', *teacher))
    assert '\n' not in str(error.value)
