"""Every command and every piece of Python of the documentation runs, or says why it cannot."""

import os
import shutil
from pathlib import Path

import pytest
import run_page
from filelock import FileLock
from pages import LANGUAGES, REASONS, Block, blocks, missing_engine, pages, stand_ins

PAGES = [page for page in pages() if any(block.language in ('sh', 'python') for block in blocks(page))]
STAGE = """
robust-backbones data data/shapes
robust-backbones train deit-mini_shapes --work-dir work_dirs/deit-mini_shapes
robust-backbones train deit-mini_robust-resnet-tiny_shapes --work-dir work_dirs/deit-mini_robust-resnet-tiny_shapes
"""
"""What every page may use: the embedded data, a teacher and a student, as docs/start.md makes them."""


@pytest.fixture(scope='session')
def stage(tmp_path_factory) -> Path:
    """The folder in which each page begins, in a copy. Processes of pytest-xdist share it."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if 'PYTEST_XDIST_WORKER' in os.environ else shared
    root, before = shared / 'documentation', Path.cwd()
    with FileLock(f'{root}.lock'):
        if not root.exists():
            partial = root.with_suffix('.part')
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            os.chdir(partial)
            try:
                run_page.run_block(Block('stage', 1, 'sh', STAGE, ''))
            finally:
                os.chdir(before)
            partial.rename(root)
    return root


@pytest.mark.slow
@pytest.mark.parametrize('page', PAGES)
def test_commands_of(page, stage, tmp_path, monkeypatch):
    if lacking := missing_engine(page):
        pytest.skip(lacking)
    folder = tmp_path / 'page'
    if any(block.reason is None and block.language in ('sh', 'python') for block in blocks(page)):
        shutil.copytree(stage, folder)
        monkeypatch.chdir(folder)
        for path, other in stand_ins(page).items():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(other, path) if Path(other).is_dir() else shutil.copy(other, path)
    names: dict = {'__name__': '__main__'}
    for block in blocks(page):
        if block.file is not None:
            Path(block.file).parent.mkdir(parents=True, exist_ok=True)
            Path(block.file).write_text(block.text)
        elif block.language == 'sh':
            (run_page.read_block if block.reason else run_page.run_block)(block)
        elif block.language == 'python':
            code = compile(block.text, str(block), 'exec')
            if block.reason is None:
                exec(code, names)


@pytest.mark.parametrize('page', pages())
def test_blocks_of(page):
    """No command hides in a block of no language, and no block is left out without a reason."""
    for block in blocks(page):
        assert block.language in LANGUAGES or block.language.startswith('{'), f'{block}: {block.language!r}'
        if block.reason is not None:
            assert block.reason in REASONS, f'{block}: {block.reason}'
        else:
            known = not block.mark or block.mark == 'fails' or block.file or block.mark.startswith('stand-in: ')
            assert known, f'{block}: {block.mark}'


def test_a_wrong_command_is_found():
    for line in ('robust-backbones train no-such-config', 'robust-backbones train deit-mini_shapes --epochs 3'):
        with pytest.raises((AssertionError, FileNotFoundError)):
            run_page.read_block(Block('page', 1, 'sh', line, 'not run: needs ImageNet'))
    options = 'robust-backbones train deit-mini_shapes --cfg-options optim_wraper.optimizer.lr=1'
    with pytest.raises(ValueError, match='did you mean optim_wrapper'):
        run_page.read_block(Block('page', 1, 'sh', options, 'not run: needs ImageNet'))
