"""What is measured on a card, with the same code on the CPU: forward passes, loaders, decoders; and what follows."""

import pytest

from distill.benchmarks import forward, loading
from distill.cli.benchmark import main as benchmark
from distill.data.views import Views


def test_forward_passes_are_measured_with_both_kinds_of_convolutions():
    small = dict(dims=(8, 16, 24, 32), depths=(1, 1, 2, 1), kernel_size=11)
    result = forward.benchmark_forward(['robust_resnet_dw_small'], 'cpu', 2, 3, 2, 32, small)
    first, *others = result['rows']
    assert (first['convolutions'], first['ratio']) == ('torch', 1.0)
    assert [row['convolutions'] for row in others] == ['ours']
    for row in result['rows']:
        assert row['images_per_s'] > 0
        assert 0 < row['latency_ms']['p50'] <= row['latency_ms']['p95']
        assert row['peak_mib'] > 10
    assert others[0]['ratio'] == pytest.approx(others[0]['images_per_s'] / first['images_per_s'])
    assert result['settings']['dtype'] == 'float32'
    assert 'p95 ms' in forward.forward_table(result)


def test_there_is_no_card_to_measure_on(tmp_path, capsys):
    pytest.importorskip('torch')
    import torch

    if torch.cuda.is_available():
        pytest.skip('there is a card')
    assert benchmark(['inference', '--device', 'cuda', '--out', str(tmp_path / 'x.json')]) == 1
    assert '--device cuda finds no card' in capsys.readouterr().err


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp('loading')
    sizes = dict(workers=(1,), seconds=0.01, images=10, batch_size=4, side_px=48, names=2)
    speeds = {form: loading.benchmark_loading(folder, form=form, **sizes) for form in loading.FORMS}
    return folder, speeds


def test_loaders_of_all_forms_give_the_same_images(images):
    folder, speeds = images
    assert all(speed['images_per_s']['1'] > 0 for speed in speeds.values())
    sets = [
        Views(str(folder / 'images'), 'train'),
        Views(str(folder / 'tar'), 'train'),
        Views(str(folder / 'wds'), 'train', name='wds/'),
    ]
    labels = [sorted(one.reader[i][1] for i in range(len(one))) for one in sets]
    assert len(labels[0]) == 20
    assert labels[0] == labels[1] == labels[2]


def test_decoders_are_measured_alone(images):
    paths = sorted((images[0] / 'images' / 'train').rglob('*.jp*g'))
    speeds = loading.decoding_speeds(paths, 'cpu')
    assert speeds.keys() == {'pillow', 'opencv', 'torchvision'}
    assert min(speeds.values()) > 0


def test_enough_processes_lie_on_the_line_between_two_measurements():
    speeds = {'8': 600.0, '1': 100.0, '4': 400.0}
    assert loading.enough_processes(speeds, 500.0) == 6.0
    assert loading.enough_processes(speeds, 50.0) == 0.5
    assert loading.enough_processes(speeds, 600.0) == 8.0
    assert loading.enough_processes(speeds, 601.0) is None
    told = loading.loading_table({'images_per_s': speeds, 'enough_processes': {'500.0': 6.0, '700': None}})
    assert '500 images/s: 6.0 processes' in told
    assert '700 images/s: more processes than were measured' in told
