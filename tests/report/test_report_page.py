"""The rendering of the report: the page, in a real browser too, the Markdown, and the command line."""

import json
import os
import re
import runpy
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest
from report_results import enrich, make_results, run_entry, save, suite_entries

from distill.report.write import write_report

ROOT = Path(__file__).parents[2]
FIGURES = ('transfer', 'radar', 'scatter', 'shape_bias', 'severity_corruption', 'heat_map_corruption', 'explain_1_cka')
HOSTILE = '<script>alert(1)</script> | $x$'


@pytest.fixture(scope='module')
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results of six runs and their report; one run has a hostile name, one picture is lost."""
    folder = tmp_path_factory.mktemp('demo')
    results = enrich(make_results(folder), folder)
    results['samples'][0]['predictions'][HOSTILE] = {'label': HOSTILE}
    results['samples'].append({'suite': 'sketch', 'image': 'lost.png', 'target': HOSTILE, 'predictions': {}})
    results['samples'].append({'suite': 'sketch', 'image': 'results.json', 'target': 'a', 'predictions': {}})
    results['runs'] = {HOSTILE: run_entry('robust_alone') | {'teacher': HOSTILE}, **results['runs']}
    results['classification'][HOSTILE] = suite_entries('robust_alone')
    save(folder, results)
    write_report([folder], title=HOSTILE)
    return folder


# The report


@pytest.mark.parametrize('kept', [[], ['detection'], ['samples', 'segmentation'], ['runs', 'classification']])
def test_any_section_may_be_absent(tmp_path, kept):
    results = make_results(tmp_path, ('robust_from_deit',), ('stylized', 'sketch'))
    save(tmp_path, {'schema_version': 1} | {key: results[key] for key in kept})
    _, paths = write_report([tmp_path])
    page = paths['html'].read_text()
    assert ('0.412' in page) == ('detection' in kept)
    assert ('is missing for robust_from_deit' in page) == ('runs' in kept)


def test_pictures_are_found_from_a_folder_that_is_yet_to_be_made(tmp_path):
    results = enrich(make_results(tmp_path / 'in', ('deit_teacher', 'robust_from_deit')), tmp_path / 'in')
    with_pictures = ('schema_version', 'samples', 'explain', 'detection', 'segmentation')
    save(tmp_path / 'in', {section: results[section] for section in with_pictures})
    _, paths = write_report([tmp_path / 'in'], tmp_path / 'new' / 'out')
    assert paths['figures']['explain_1_cka'].is_file()
    assert re.findall('missing picture: [^<]*', paths['html'].read_text()) == [
        'missing picture: ../../in/explain/lost.png'
    ]


def test_same_input_same_bytes(demo):
    def written() -> dict[str, bytes]:
        files = demo / 'report.html', demo / 'report.md', *(demo / 'figures').iterdir()
        return {path.name: path.read_bytes() for path in files}

    before = written()
    assert {f'{name}.png' for name in FIGURES} <= before.keys()
    write_report([demo], title=HOSTILE)
    assert written() == before


def test_page_is_self_contained_and_escaped(demo):
    page = (demo / 'report.html').read_text()
    assert re.findall(r'(?:src|srcset|href)\s*=\s*(?!["\']?(?:data:image/|#))[^>\s]+', page) == []
    assert re.findall(r'url\(|@import|<link|<iframe|<object', page) == []
    assert page.count('<script') == 1
    assert '<h1>&lt;script&gt;alert(1)&lt;/script&gt; | $x$</h1>' in page
    assert 'missing picture: lost.png' in page
    assert 'neither PNG nor JPEG: results.json' in page
    assert page.count('src="data:image/svg+xml;base64,') == len(FIGURES)
    assert 'missing picture: explain/lost.png' in page
    assert '(texture)' in page


def test_markdown_names_files_that_exist(demo):
    report = (demo / 'report.md').read_text()
    images = re.findall(r'!\[[^\n]*?\]\(([^)\n]+)\)', report)
    assert {'samples/0.png', *(f'figures/{name}.png' for name in FIGURES)} <= set(images)
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
    page: location.pathname.split('/').pop(), paper: getComputedStyle(document.body).backgroundColor,
    width: innerWidth, scroll: document.documentElement.scrollWidth, down, up: names(),
    tables: document.querySelectorAll('table').length,
    broken: [...document.images].filter(image => !image.naturalWidth).length,
  }, '*');
});
</script>"""
FRAMES = """<body><script>
const found = [];
addEventListener('message', event => {
  found.push(event.data);
  if (found.length === 3) document.body.textContent = JSON.stringify(found);
});
</script>
<iframe src="probed.html" style="width:360px;height:800px;border:0"></iframe>
<iframe src="probed.html" style="width:1280px;height:800px;border:0"></iframe>
<iframe src="printed.html" style="width:688px;height:800px;border:0"></iframe></body>"""
PAPER_PX = 688
"""What A4 leaves between margins of 14 mm, at 96 px an inch."""
DARK = '--blink-settings=preferredColorScheme=0'


def browse(page: Path, profile: Path, *options: str) -> tuple[str, str]:
    """Load a page without a network; its DOM after the scripts, and the browser's log."""
    chromium = os.environ.get('CHROMIUM') or shutil.which('chromium')
    if not chromium:
        pytest.skip('no Chromium: apt-get install chromium, or set CHROMIUM to its path')
    flags = '--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking'
    flags += ' --disable-component-update --disable-sync --enable-logging=stderr --proxy-server=127.0.0.1:9'
    command = [chromium, *flags.split(), f'--user-data-dir={profile}', '--virtual-time-budget=5000', *options]
    done = subprocess.run(
        [*command, '--dump-dom', page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout, done.stderr


@pytest.mark.slow
def test_page_in_a_browser(demo, tmp_path):
    dom, log = browse(demo / 'report.html', tmp_path / 'profile')
    assert 'CONSOLE' not in log, log
    assert dom.count('<table') >= 8
    assert '<th scope="col" class="number"><button type="button">' in dom  # The page's own script ran.

    page = (demo / 'report.html').read_text()
    probed = re.sub(r"script-src '[^']+'", "script-src 'unsafe-inline'", page).replace('</body>', PROBE + '</body>')
    (tmp_path / 'probed.html').write_text(probed)
    # Print's rules on a screen of paper's width, where what sticks out can be measured.
    (tmp_path / 'printed.html').write_text(probed.replace('@media print', '@media all'))
    (tmp_path / 'frames.html').write_text(FRAMES)
    for options, paper in (((), 'rgb(255, 255, 255)'), ((DARK,), 'rgb(15, 19, 23)')):
        dom, _ = browse(tmp_path / 'frames.html', tmp_path / 'profile', *options)
        found = json.loads(unescape(re.search(r'\[\{.*\}\]', dom)[0]))
        assert sorted((frame['page'], frame['width']) for frame in found) == [
            ('printed.html', PAPER_PX),
            ('probed.html', 360),
            ('probed.html', 1280),
        ]
        for frame in found:
            assert frame['scroll'] <= frame['width'], frame['page']
            assert frame['broken'] == 0
            assert frame['paper'] == paper
            # Stylized: 58.2, 49.4, 46.6, 41.2, 40.6, and twice 38.0
            assert frame['down'][:5] == [
                'deit_teacher',
                'robust_teacher',
                'robust_from_deit',
                'deit_alone',
                'deit_from_robust',
            ]
            assert frame['up'][2:] == frame['down'][:5][::-1]
