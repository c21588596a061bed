"""The pages of the documentation: their fenced blocks, and what the comments above these say to the tests.

A block of ``sh`` is run, and one of ``python`` too, in the order of the page. A comment directly above changes that::

    <!-- not run: needs ImageNet -->        one of `REASONS`; the command lines are only read
    <!-- file: my_detector.py -->           the block is the content of this file, which later blocks use
    <!-- fails -->                          the command ends in one line of error, which is the point
    <!-- stand-in: data/mine = data/shapes/coco -->   (anywhere) what plays the part of the reader's own data
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from distill.engines import MODULES, SUFFIXES, by_name
from distill.engines.installed import missing_modules

REPO = Path(__file__).parents[2]
REASONS = (
    *(f'needs {data}' for data in ('ImageNet', 'COCO', 'ADE20K', 'CIFAR-10', 'BCCD', 'CamVid')),
    *('needs several GPUs', 'needs a GPU', 'needs Slurm', 'needs a network', 'needs a clone'),
    *('installs packages', 'takes minutes', 'is a measurement', 'is a sketch'),
)
"""Why a block may be left out."""
LANGUAGES = {'sh', 'python', 'text', 'json', 'mermaid', 'html', 'bibtex'}
"""What a fence may say, besides a directive in braces."""
FENCE = re.compile(
    r'(?:^[ ]*<!-- (?P<mark>[^\n]*?) -->\n\n?)?^(?P<indent>[ ]*)(?P<ticks>`{3,})(?P<language>[^\n`]*)\n'
    r'(?P<text>.*?)^(?P=indent)(?P=ticks)[ ]*$',
    re.M | re.S,
)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: The page, from the repository's root.
        line: Number of the line at which it begins.
        language: What the fence says.
        text: What is inside.
        mark: What the comment above says, or an empty text.
    """

    page: str
    line: int
    language: str
    text: str
    mark: str

    @property
    def reason(self) -> str | None:
        """Why the block is not run; None if it is."""
        return self.mark.removeprefix('not run: ') if self.mark.startswith('not run: ') else None

    @property
    def file(self) -> str | None:
        """The file whose content the block is, or None."""
        return self.mark.removeprefix('file: ') if self.mark.startswith('file: ') else None

    def command_lines(self) -> list[list[str]]:
        """The words of each command line; continued lines are joined, comments left out."""
        lines = self.text.replace('\\\n', ' ').splitlines()
        return [words for words in (shlex.split(line, comments=True) for line in lines) if words]

    def __str__(self) -> str:
        return f'{self.page}:{self.line}'


def pages() -> list[str]:
    """All pages, from the repository's root."""
    found = [path for path in sorted((REPO / 'docs').rglob('*.md')) if '_build' not in path.parts]
    return [path.relative_to(REPO).as_posix() for path in [REPO / 'README.md', *found]]


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page."""
    text = (REPO / page).read_text()
    return [
        Block(
            page,
            text.count('\n', 0, found.start('ticks')) + 1,
            found['language'].strip(),
            re.sub(rf'^{found["indent"]}', '', found['text'], flags=re.M),
            found['mark'] or '',
        )
        for found in FENCE.finditer(text)
    ]


def stand_ins(page: str) -> dict[str, str]:
    """The paths that a page uses as the reader's own, and what stands in for each."""
    return dict(re.findall(r'<!-- stand-in: (\S+) = (\S+) -->', (REPO / page).read_text()))


def missing_engine(page: str) -> str | None:
    """What an engine lacks that the commands of a page use, in a line; None if nothing is missing.

    Engines are known by their names as words of a command line, and by the endings of files.
    """
    for block in blocks(page):
        if block.language == 'sh' and block.reason is None:
            for words in block.command_lines():
                files = [SUFFIXES[Path(word).suffix] for word in words if Path(word).suffix in SUFFIXES]
                for name in dict.fromkeys([*(word for word in words if word in MODULES), *files]):
                    lacking = by_name(name).missing()
                    if name == 'openvino' and 'quantise' in words:
                        lacking = lacking or missing_modules('nncf', 'nncf')
                    if lacking:
                        return f'{block}: {name} needs {lacking}'
    return None
