"""The benchmarks of engines run and write what they promise; their figures are judged on an idle machine."""

import json
import statistics

import pytest

from distill.benchmarks.turns import Worker
from distill.cli.benchmark import main as benchmark
from distill.engines import by_name

needs_onnx = pytest.mark.skipif(
    by_name('onnx').missing() is not None, reason='onnx, onnxscript or onnxruntime is missing'
)
QUICK = ['--threads', '1', '--repeats', '2', '--batch-size', '2', '--size', '32']
ORIGINAL = """
from torch import nn

def test_resnet():
    print('a constructor that prints')
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
"""


@needs_onnx
@pytest.mark.slow
def test_models_are_measured_in_engines_against_eager_and_the_original(tmp_path, capsys):
    source, out = tmp_path / 'original.py', tmp_path / 'inference.json'
    source.write_text(ORIGINAL)
    arguments = ['--models', 'test_resnet', '--engines', 'onnx', '--precision', 'fp32', 'int8', 'bf16']
    assert benchmark(['inference', *arguments, *QUICK, '--original', str(source), '--out', str(out)]) == 0
    result, printed = json.loads(out.read_text()), capsys.readouterr().out
    rows = {(row['engine'], row['precision']): row for row in result['rows']}
    assert list(rows) == [('eager', 'fp32'), ('original', 'fp32'), ('onnx', 'fp32'), ('onnx', 'int8')]
    for row in rows.values():
        assert row['images_per_s'] == pytest.approx(2 / statistics.median(row['times_s']))
        assert row['ratio_eager'] == pytest.approx(row['images_per_s'] / rows['eager', 'fp32']['images_per_s'])
        assert row['ratio_original'] == pytest.approx(row['images_per_s'] / rows['original', 'fp32']['images_per_s'])
        assert row['of_sgemm'] == pytest.approx(row['images_per_s'] * 2 * row['gmacs'] / result['sgemm_gflops'])
        assert 0 < row['latency_ms']['p50'] <= row['latency_ms']['p95']
    # A process with an engine alone does not hold torch.
    assert rows['onnx', 'fp32']['peak_mib'] < rows['eager', 'fp32']['peak_mib'] - 50
    assert rows['onnx', 'int8']['file_mb'] < rows['onnx', 'fp32']['file_mb']
    (left_out,) = result['left_out']
    assert (left_out['engine'], left_out['precision']) == ('onnx', 'bf16')
    assert 'which has no bf16' in left_out['reason']
    assert 'a constructor that prints' not in printed
    assert 'left out: test_resnet onnx bf16' in printed


@needs_onnx
@pytest.mark.slow
def test_both_forms_of_pointwise_layers_are_measured(tmp_path, capsys):
    out = tmp_path / 'pointwise.json'
    assert benchmark(['pointwise', '--models', 'test_convnext', '--engines', 'onnx', *QUICK, '--out', str(out)]) == 0
    result = json.loads(out.read_text())
    assert [pair['engine'] for pair in result['pairs']] == ['eager', 'onnx']
    of = {(row['model'], row['engine']): row for row in result['rows']}
    for pair in result['pairs']:
        linear, conv = (of[f'test_convnext-{form}', pair['engine']] for form in ('linear', '1x1'))
        assert pair['ratio'] == pytest.approx(conv['images_per_s'] / linear['images_per_s'])
        assert (pair['linear_ms'], pair['1x1_ms']) == (linear['latency_ms']['p50'], conv['latency_ms']['p50'])
        assert linear['gmacs'] == pytest.approx(conv['gmacs'])
    assert 'test_convnext' in capsys.readouterr().out


def test_mistakes_are_found_before_the_work(tmp_path, capsys):
    out = ['--out', str(tmp_path / 'x.json')]
    cases = [
        (['--models', 'resnot50'], "model 'resnot50' is unknown to timm"),
        (['--original', 'nowhere.py'], "--original 'nowhere.py' does not exist"),
        (['--size', '0'], '--size is 0; give 1 or more'),
    ]
    for arguments, message in cases:
        assert benchmark(['inference', *arguments, *out]) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count('\n') == 1


def _counts(settings: int):
    return lambda question: settings + question


def test_a_worker_answers_and_tells_its_errors():
    worker = Worker(_counts, 40)
    assert worker.ask(2) == 42
    assert 5 < worker.stop() < 4000
    worker = Worker(_counts, 40)
    with pytest.raises(ValueError, match='unsupported operand'):
        worker.ask('two')
