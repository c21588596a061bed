"""The report: intervals and differences by hand, the schema, merging, and the page in a real browser."""

import hashlib
import json
import os
import re
import runpy
import shutil
import subprocess
from collections.abc import Sequence
from html import unescape
from pathlib import Path

import pytest
from PIL import Image

from distill.report.collect import collect
from distill.report.contents import sections
from distill.report.schema import validate
from distill.report.scores import CORRUPTIONS, ood_score, transfers, wilson_score
from distill.report.tables import summary_table, transfer_table
from distill.report.write import write_report

ROOT = Path(__file__).parents[1]
HOSTILE = '<script>alert(1)</script> | $x$'

CNN = ('robust_resnet_dw_small', {'dims': [32, 64, 96, 128]})
WIDE_CNN = ('robust_resnet_dw_small', {'dims': [64, 128, 192, 256]})
VIT = ('deit_tiny_patch16_224', {'img_size': 48})
WIDE_VIT = ('deit_small_patch16_224', {'img_size': 48})
RUNS = {
    # run: model, teacher, top-1 on clean, stylized, corruption, rendition, sketch, adversarial; shape bias
    'deit_teacher': (WIDE_VIT, None, (96.4, 58.2, 71.0, 80.3, 66.8, 52.7), 61.0),
    'robust_teacher': (WIDE_CNN, None, (95.2, 49.4, 66.0, 77.1, 63.4, 49.3), 52.0),
    'robust_alone': (CNN, None, (91.0, 38.0, 60.5, 70.0, 55.2, 41.3), 41.0),
    'robust_from_deit': (CNN, 'deit_teacher', (92.2, 46.6, 64.2, 74.9, 60.4, 44.0), 49.5),
    'deit_alone': (VIT, None, (89.6, 41.2, 61.0, 69.1, 54.0, 40.7), 45.0),
    'deit_from_robust': (VIT, 'robust_teacher', (90.4, 40.6, 62.1, 69.7, 52.2, 40.0), 44.1),
}
SUITES = ('clean', 'stylized', 'corruption', 'rendition', 'sketch', 'adversarial')


def run_entry(name: str) -> dict:
    (model, kwargs), teacher, *_ = RUNS[name]
    return {
        'model': model,
        'model_kwargs': kwargs,
        'teacher': teacher,
        'params': 612330,
        'checkpoint': f'{name}/student_best.pth',
        'weights_sha256': hashlib.sha256(name.encode()).hexdigest(),
        'input_size': [3, 48, 48],
        'mean': [0.485, 0.456, 0.406],
        'std': [0.229, 0.224, 0.225],
    }


def suite_entries(name: str) -> dict:
    _, _, values, bias = RUNS[name]
    entries = {suite: {'top1_pct': value, 'images': 500} for suite, value in zip(SUITES, values, strict=True)}
    entries['stylized']['shape_bias_pct'] = bias
    for suite in ('rendition', 'adversarial'):
        entries[suite].update(clean_subset_top1_pct=values[0], classes=7)
    mean = values[2]
    entries['corruption'].update(
        mean_error_pct=100 - mean,
        source='on-the-fly',
        cells={kind: [mean + 10, mean + 5, mean, mean - 5, mean - 10] for kind in CORRUPTIONS},
    )
    return entries


def make_results(folder: Path, runs: Sequence[str] = tuple(RUNS), suites: Sequence[str] = SUITES) -> dict:
    """Plausible results of some runs, with their pictures, written into a folder."""
    for name, color in (('samples/0.png', 'red'), ('samples/1.png', 'blue'), ('pictures/0.png', 'green')):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (32, 24), color).save(folder / name)
    right = {run: {'label': 'star', 'confidence': 0.9} for run in runs}
    texture = {run: {'label': 'ring'} for run in runs}
    downstream = {'images': 100, 'config': 'a.py', 'checkpoint': 'a.pth', 'backbone': 'robust_from_deit'}
    downstream['pictures'] = ['pictures/0.png']
    results = {
        'schema_version': 1,
        'runs': {run: run_entry(run) for run in runs},
        'classification': {run: {suite: suite_entries(run)[suite] for suite in suites} for run in runs},
        'samples': [
            {'suite': 'clean', 'image': 'samples/0.png', 'target': 'star', 'predictions': right},
            {
                'suite': 'stylized',
                'image': 'samples/1.png',
                'target': 'star',
                'texture': 'ring',
                'predictions': texture,
            },
        ],
        'detection': {'bbox_mAP': 0.412, 'bbox_mAP_s': -1.0, **downstream},
        'segmentation': {'mIoU': 0.613, 'per_class_IoU': {'star': 0.7, 'ring': None}, **downstream},
        'provenance': {'command': 'make demo', 'seed': 0, 'versions': {'torch': '2.14.1'}},
    }
    save(folder, results)
    return results


def save(folder: Path, results: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'results.json').write_text(json.dumps(results))


def put(results: dict, place: str, value: object) -> None:
    """Set what stands at a dotted key path."""
    *keys, last = place.split('.')
    holder = results
    for key in keys:
        holder = holder[int(key) if key.isdigit() else key]
    holder[last] = value


def texts(row: list) -> list[str]:
    return [cell.text for cell in row]


@pytest.fixture(scope='module')
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results of six runs and their report; one run has a hostile name, one picture is lost."""
    folder = tmp_path_factory.mktemp('demo')
    results = make_results(folder)
    results['samples'][0]['predictions'][HOSTILE] = {'label': HOSTILE}
    results['samples'].append({'suite': 'sketch', 'image': 'lost.png', 'target': HOSTILE, 'predictions': {}})
    results['samples'].append({'suite': 'sketch', 'image': 'results.json', 'target': 'a', 'predictions': {}})
    results['runs'] = {HOSTILE: run_entry('robust_alone') | {'teacher': HOSTILE}, **results['runs']}
    results['classification'][HOSTILE] = suite_entries('robust_alone')
    save(folder, results)
    write_report([folder], title=HOSTILE)
    return folder


# Numbers


def test_intervals_equal_published_ones():
    # Newcombe, Statistics in Medicine 17 (1998): 81/263 from pp. 857-872, 56/70 - 48/80 by method 10 from pp. 873-890.
    score = wilson_score(100 * 81 / 263, 263)
    assert (score.low, score.high) == pytest.approx((25.53, 36.62), abs=0.01)
    change = wilson_score(80, 70) - wilson_score(60, 80)
    assert (change.value, change.low, change.high) == pytest.approx((20, 5.24, 33.39), abs=0.01)
    assert change.sign == 1
    assert (wilson_score(60, 80) - wilson_score(61, 80)).sign == 0
    assert wilson_score(0, 10).low == 0
    assert wilson_score(100, 10).high == 100


def test_transfer_table_by_hand(tmp_path):
    table = transfer_table(make_results(tmp_path))
    cnn, vit = table.groups
    assert texts(cnn[0]) == ['deit_teacher', '96.4', '58.2', '71.0', '80.3', '66.8', '52.7', '65.8', '61.0']
    assert texts(cnn[1])[0] == 'robust_alone'
    assert texts(cnn[2])[0] == 'robust_from_deit'
    # 92.2 - 91.0, 46.6 - 38.0, ...; OOD: 290.1 / 5 - 265.0 / 5 = 5.02
    assert texts(cnn[3]) == ['transferred', '+1.2', '+8.6', '+3.7', '+4.9', '+5.2', '+2.7', '+5.0', '+8.5']
    assert [cell.mark for cell in cnn[3]] == ['', '', 'gain', '', '', '', '', 'gain', '']
    assert texts(vit[3]) == ['transferred', '+0.8', '−0.6', '+1.1', '+0.6', '−1.8', '−0.7', '−0.3', '−0.9']
    assert not any(cell.mark for cell in vit[3])


def test_summary_marks_the_best_and_warns_of_uneven_counts(tmp_path):
    results = make_results(tmp_path)
    results['classification']['deit_alone']['sketch']['images'] = 400
    del results['classification']['robust_alone']['adversarial']
    table = summary_table(results)
    best = {
        column.label: [row[0].text for row in table.groups[0] if row[i].mark == 'best']
        for i, column in enumerate(table.columns)
    }
    assert best['Stylized'] == best['Mean error'] == ['deit_teacher']
    assert any('Sketch has different image counts' in note for note in table.notes)
    # No mean over fewer suites than the others have.
    assert ood_score(results, 'robust_alone') is None
    assert ood_score(results, 'deit_alone').value == pytest.approx(53.2)


def test_reference_is_the_same_model_that_teaches_nobody(tmp_path):
    runs = {name: run_entry(name) for name in RUNS}
    runs['robust_teacher'] |= {'model_kwargs': CNN[1]}
    by_student = {pair.student: pair for pair in transfers({'runs': runs})}
    assert by_student['robust_from_deit'].reference == 'robust_alone'
    del runs['robust_alone']
    assert transfers({'runs': runs})[0].reference == 'robust_teacher'
    runs['robust_from_deit']['model_kwargs'] = {'dims': [1, 2, 3, 4]}
    assert transfers({'runs': runs})[0].reference is None


@pytest.mark.parametrize(
    ('clean_gain', 'words'),
    [
        (10, ('in 1 of 1 distillations', 'rose by 10.0 points', 'led by 20.0 points; 50 % of that')),
        (-10, ('in 0 of 1 distillations, and measurably lost', 'fell by 10.0 points', 'none of that')),
        (0, ('in 0 of 1 distillations.', 'changed by 0.0 points, not distinguishable')),
    ],
)
def test_headline_says_what_the_numbers_say(clean_gain, words):
    names = ('deit_teacher', 'robust_alone', 'robust_from_deit')
    scores = (60, 40, 40 + clean_gain)
    results = {
        'runs': {name: run_entry(name) for name in names},
        'classification': {
            name: {'sketch': {'top1_pct': score, 'images': 1000}} for name, score in zip(names, scores, strict=True)
        },
    }
    said = ' '.join(getattr(block, 'text', '') for block in sections(results, ())[0].blocks)
    for word in words:
        assert word in said


def test_clean_accuracy_alone_claims_no_robustness(tmp_path):
    results = make_results(tmp_path, ('deit_teacher', 'robust_alone', 'robust_from_deit'), ('clean',))
    assert texts(transfer_table(results).groups[0][3]) == ['transferred', '+1.2']
    said = [getattr(block, 'text', '') for block in sections(results, ())[0].blocks]
    assert 'Student and reference were not both judged on all shifted suites: no OOD mean to compare.' in said


# Schema


def test_the_fixture_is_valid(tmp_path):
    validate(make_results(tmp_path))


@pytest.mark.parametrize(
    ('place', 'value', 'message'),
    [
        ('schema_version', 2, 'schema_version: expected 1, found 2'),
        ('runs.deit_alone.params', 'many', "params: expected a whole number of at least 1, found 'many'"),
        ('runs.deit_alone.mean', [0.5], 'runs.deit_alone.mean: expected a list of 3, found [0.5]'),
        ('runs.deit_alone.weights_sha256', 'abc', "weights_sha256: expected 64 hexadecimal digits, found 'abc'"),
        (
            'classification.deit_alone.clean.top1_pct',
            101,
            'deit_alone.clean.top1_pct: expected a number from 0 to 100, found 101',
        ),
        ('classification.deit_alone.clean.top1_pct', float('nan'), 'expected a number from 0 to 100, found nan'),
        (
            'classification.deit_alone.clean.images',
            True,
            'clean.images: expected a whole number of at least 1, found True',
        ),
        (
            'classification.deit_alone.corruption.top1_pct',
            70,
            'corruption.top1_pct: expected 61.00, the mean of the cells, found 70',
        ),
        ('classification.deit_alone.corruption.mean_error_pct', 61, 'mean_error_pct: expected 39.00, found 61'),
        ('classification.nobody', {}, "classification: expected a run listed under 'runs' (deit_teacher, "),
        ('detection.bbox_mAP', 41.2, 'detection.bbox_mAP: expected a number from -1 to 1, found 41.2'),
        ('segmentation', {'images': 1}, 'segmentation.mIoU: expected a value, found nothing'),
        (
            'samples.0.predictions.deit_alone',
            'star',
            "samples[0].predictions.deit_alone: expected an object, found 'star'",
        ),
    ],
)
def test_what_breaks_the_schema_is_named(tmp_path, place, value, message):
    results = make_results(tmp_path)
    put(results, place, value)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        validate(results, 'some/results.json')
    assert str(error.value).startswith('some/results.json: ')
    assert '\n' not in str(error.value)


# Merging


def test_merging_rewrites_paths_and_unites_samples(tmp_path):
    first, second, out = tmp_path / 'a', tmp_path / 'b', tmp_path / 'reports' / 'both'
    make_results(first, ('deit_teacher', 'robust_alone'), ('clean', 'stylized'))
    other = make_results(second, ('deit_teacher', 'robust_from_deit'), ('clean', 'stylized'))
    other['detection']['bbox_mAP'] = 0.3
    save(second, other)
    before = [(folder / 'results.json').read_bytes() for folder in (first, second)]
    _, paths = write_report([first, second], out)

    merged = json.loads(paths['results'].read_text())
    validate(merged)
    assert list(merged['runs']) == ['deit_teacher', 'robust_alone', 'robust_from_deit']
    assert merged['runs']['robust_from_deit']['checkpoint'] == '../../b/robust_from_deit/student_best.pth'
    assert [set(sample['predictions']) for sample in merged['samples']] == [set(merged['runs'])] * 2
    assert [sample['image'] for sample in merged['samples']] == ['../../a/samples/0.png', '../../a/samples/1.png']
    assert [entry['bbox_mAP'] for entry in merged['detection']['others']] == [0.3]
    assert (out / merged['detection']['others'][0]['pictures'][0]).is_file()
    assert len(merged['provenance']['merged_from']) == 2
    assert before == [(folder / 'results.json').read_bytes() for folder in (first, second)]
    assert 'missing picture' not in paths['html'].read_text()

    # A merged file reads like any other, and merging again may replace it, but nothing else.
    assert collect([out], out) == merged
    write_report([first, second], out)
    with pytest.raises(ValueError, match='is not overwritten; give another --out'):
        write_report([first, second])
    assert not (first / 'report.html').exists()


@pytest.mark.parametrize(
    ('place', 'value', 'message'),
    [
        ('runs.deit_alone.weights_sha256', 'f' * 64, "run 'deit_alone' has weights 1bd4a57"),
        ('runs.deit_alone.model', 'vit', "runs.deit_alone.model is 'deit_tiny_patch16_224' and 'vit'"),
        ('classification.deit_alone.clean.top1_pct', 12, 'clean.top1_pct is 89.6 and 12'),
        ('classification.deit_alone.corruption.source', 'disk', "corruption.source is 'on-the-fly' and 'disk'"),
    ],
)
def test_contradictions_are_refused(tmp_path, place, value, message):
    results = make_results(tmp_path / 'a', ('deit_alone',))
    put(results, place, value)
    save(tmp_path / 'b', results)
    expected = hashlib.sha256(b'deit_alone').hexdigest()[:7]
    with pytest.raises(ValueError, match=re.escape(message.replace('1bd4a57', expected))):
        collect([tmp_path / 'a', tmp_path / 'b'], tmp_path)


def test_sources_of_corruptions_are_never_mixed(tmp_path):
    results = make_results(tmp_path, ('deit_alone', 'robust_alone'))
    results['classification']['deit_alone']['corruption']['source'] = 'disk'
    save(tmp_path, results)
    with pytest.raises(ValueError, match=r"'disk' \(run 'deit_alone'\), 'on-the-fly' \(run 'robust_alone'\)"):
        collect([tmp_path], tmp_path)


# The report


@pytest.mark.parametrize('kept', [[], ['detection'], ['samples', 'segmentation'], ['runs', 'classification']])
def test_any_section_may_be_absent(tmp_path, kept):
    results = make_results(tmp_path, ('robust_from_deit',), ('stylized', 'sketch'))
    save(tmp_path, {'schema_version': 1} | {key: results[key] for key in kept})
    _, paths = write_report([tmp_path])
    page = paths['html'].read_text()
    assert ('0.412' in page) == ('detection' in kept)
    assert ('is missing for robust_from_deit' in page) == ('runs' in kept)


def test_same_input_same_bytes(demo):
    written = [demo / 'report.html', demo / 'report.md', *sorted((demo / 'figures').iterdir())]
    assert len(written) == 5
    before = [path.read_bytes() for path in written]
    write_report([demo], title=HOSTILE)
    assert [path.read_bytes() for path in written] == before


def test_page_is_self_contained_and_escaped(demo):
    page = (demo / 'report.html').read_text()
    assert re.findall(r'(?:src|srcset|href)\s*=\s*(?!["\']?(?:data:image/|#))[^>\s]+', page) == []
    assert re.findall(r'url\(|@import|<link|<iframe|<object', page) == []
    assert page.count('<script') == 1
    assert '<h1>&lt;script&gt;alert(1)&lt;/script&gt; | $x$</h1>' in page
    assert 'missing picture: lost.png' in page
    assert 'neither PNG nor JPEG: results.json' in page
    assert page.count('src="data:image/svg+xml;base64,') == 3
    assert '(texture)' in page


def test_markdown_names_files_that_exist(demo):
    report = (demo / 'report.md').read_text()
    images = re.findall(r'!\[[^\n]*?\]\(([^)\n]+)\)', report)
    assert {'figures/transfer.png', 'figures/severity.png', 'figures/heat_map.png', 'samples/0.png'} <= set(images)
    assert all((demo / image).is_file() for image in images)
    assert r'\<script\>' in report
    assert '<script>' not in report
    rows = [line for line in report.splitlines() if line.startswith('| deit\\_alone (student alone)')]
    assert [len(re.findall(r'(?<!\\)\|', row)) for row in rows] == [10]


def test_command_line(tmp_path, capsys):
    main = runpy.run_path(str(ROOT / 'tools' / 'report.py'))['main']
    folder = tmp_path / 'one'
    for make, message in (
        (lambda: None, f'folder {folder} does not exist'),
        (folder.mkdir, f'{folder} holds no results.json'),
        (lambda: (folder / 'results.json').write_text('{'), 'is not valid JSON (Expecting property name'),
        (lambda: save(folder, []), 'results.json: the file: expected an object, found []'),
    ):
        make()
        assert main([str(folder)]) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count('\n') == 1
    make_results(folder, ('deit_alone', 'robust_alone'), ('clean', 'sketch'))
    before = (folder / 'results.json').read_bytes()
    assert main([str(folder)]) == 0
    shown = capsys.readouterr().out
    assert 'deit_alone' in shown
    assert str(folder / 'report.html') in shown
    assert (folder / 'results.json').read_bytes() == before


# A real browser

PROBE = """<script>
addEventListener('load', () => {
  const table = document.querySelector('table.sortable');
  const names = () => [...table.tBodies[0].rows].map(row => row.cells[0].textContent);
  const button = table.tHead.rows[0].cells[2].querySelector('button');
  button.click(); const down = names(); button.click();
  parent.postMessage({
    width: innerWidth, scroll: document.documentElement.scrollWidth, down, up: names(),
    tables: document.querySelectorAll('table').length,
    broken: [...document.images].filter(it => !it.naturalWidth).length,
  }, '*');
});
</script>"""
FRAMES = """<body><script>
const found = [];
addEventListener('message', event => {
  found.push(event.data);
  if (found.length === 2) document.body.textContent = JSON.stringify(found);
});
</script>
<iframe src="probed.html" style="width:360px;height:800px;border:0"></iframe>
<iframe src="probed.html" style="width:1280px;height:800px;border:0"></iframe></body>"""


def browse(page: Path, profile: Path) -> tuple[str, str]:
    """Load a page without a network; its DOM after the scripts, and the browser's log."""
    chromium = os.environ.get('CHROMIUM') or shutil.which('chromium')
    if not chromium:
        pytest.skip('no Chromium: apt-get install chromium, or set CHROMIUM to its path')
    flags = '--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking'
    flags += ' --disable-component-update --disable-sync --enable-logging=stderr --proxy-server=127.0.0.1:9'
    command = [chromium, *flags.split(), f'--user-data-dir={profile}', '--virtual-time-budget=5000', '--dump-dom']
    done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, done.stderr


def test_page_in_a_browser(demo, tmp_path):
    dom, log = browse(demo / 'report.html', tmp_path / 'profile')
    assert 'CONSOLE' not in log, log
    assert dom.count('<table') >= 8
    assert '<th scope="col" class="number"><button type="button">' in dom  # The page's own script ran.

    page = (demo / 'report.html').read_text()
    probed = re.sub(r"script-src '[^']+'", "script-src 'unsafe-inline'", page).replace('</body>', PROBE + '</body>')
    (tmp_path / 'probed.html').write_text(probed)
    (tmp_path / 'frames.html').write_text(FRAMES)
    dom, _ = browse(tmp_path / 'frames.html', tmp_path / 'profile')
    found = json.loads(unescape(re.search(r'\[\{.*\}\]', dom)[0]))
    assert sorted(it['width'] for it in found) == [360, 1280]
    for it in found:
        assert it['scroll'] <= it['width']
        assert it['broken'] == 0
        # Stylized: 58.2, 49.4, 46.6, 41.2, 40.6, and twice 38.0
        assert it['down'][:5] == [
            'deit_teacher',
            'robust_teacher',
            'robust_from_deit',
            'deit_alone',
            'deit_from_robust',
        ]
        assert it['up'][2:] == it['down'][:5][::-1]
