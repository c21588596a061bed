"""The benchmarks run and write what they promise; their figures are judged on an idle machine."""

import json
from dataclasses import replace

import pytest

from distill.benchmarks import depthwise, distillation
from distill.benchmarks.feature_distillation import FeatureSettings
from distill.cli.benchmark import main as benchmark


@pytest.mark.slow
def test_distillation_is_measured_against_timms(tmp_path, capsys, monkeypatch):
    # The real student, whose weights the peak of memory is compared with, and a small teacher on small images.
    teacher = dict(model='deit_tiny_patch16_224', img_size=32, depth=1, pretrained=False)
    measure = distillation.benchmark_distill
    monkeypatch.setattr(
        distillation,
        'benchmark_distill',
        lambda settings, *args: measure(replace(settings, teacher=teacher, size_px=32, images=10), *args),
    )
    out = tmp_path / 'distill.json'
    assert benchmark(['distill', '--out', str(out), '--repeats', '1', '--batch-size', '2', '--threads', '1']) == 0
    result = json.loads(out.read_text())
    for one in (result, result['features']):
        for name in ('peer', 'online', 'cached'):
            row = one[name]
            assert row['images_per_s'] == pytest.approx(2 / row['times_s'][0])
            assert row['ratio'] == pytest.approx(row['images_per_s'] / one['peer']['images_per_s'])
            step_s = 2 / row['images_per_s']
            assert row['times_sgemm'] == pytest.approx(step_s * one['sgemm_gflops'] / row['gflop'])
            assert len(row['cpu_times_s']) == 1
            # At least weights, gradients and Adam's two moments of 35.5 million parameters, 38.6 with a classifier.
            assert row['peak_mib'] > 4 * 4 * 35.4e6 / 2**20
        assert one['loader']['predictions_per_s'] > one['cached']['images_per_s']
        assert one['settings']['student'] == 'robust_resnet_dw_small'
    assert 'x sgemm' in capsys.readouterr().out


def test_the_arithmetic_of_a_step_is_three_passes_of_the_student_and_one_of_the_teacher(tmp_path):
    # 4.47 GMACs (published) and 4.61 (with attention), twice for operations, 16 images.
    gflop = distillation.count_gflop(distillation.Settings(tmp_path))
    assert gflop['online'] == gflop['peer'] == pytest.approx(576, abs=1)
    assert gflop['cached'] == pytest.approx(429, abs=0.5)
    features = FeatureSettings(tmp_path)
    assert distillation.count_gflop(features)['online'] == pytest.approx(576, abs=1)


def test_depthwise_convolutions_are_measured_against_torchs_and_are_right(tmp_path, capsys, monkeypatch):
    few = (depthwise.Case('small', 4, 9, 5), depthwise.Case('strided', 4, 8, 7, 2))
    monkeypatch.setattr(depthwise, 'CASES', few)
    out = tmp_path / 'depthwise.json'
    assert benchmark(['depthwise', '--device', 'cpu', '--out', str(out), '--threads', '1']) == 0
    result = json.loads(out.read_text())
    assert result['machine']['instruction_set']
    rows = result['rows']
    assert {(row['case'], row['layout']) for row in rows} == {
        (f'16×4×{shape}', layout) for shape in ('9² k5', '8² k7 s2') for layout in ('planes', 'channels_last')
    }
    assert all(max(row['error'].values()) < 1e-5 for row in rows)
    assert 'AVX' in capsys.readouterr().out or 'DEFAULT' in result['machine']['instruction_set']
    assert benchmark(['depthwise', '--device', 'nowhere', '--out', str(out)]) == 1
    assert 'choose cpu' in capsys.readouterr().err
