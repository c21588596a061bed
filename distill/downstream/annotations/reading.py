"""Read a COCO annotation file, with an error for what is none."""

import json
from pathlib import Path
from typing import NoReturn

SECTIONS = ('images', 'annotations', 'categories')
GZIP = b'\x1f\x8b'


def read_coco(path: str | Path, where: str) -> dict:
    """Read an annotation file; its text may be UTF-8, UTF-16 or UTF-32, with or without a byte-order mark.

    Args:
        path: The file.
        where: The file's name in messages, which is another where it lies elsewhere.

    Returns:
        The file's content, whose three sections are lists of objects. A file without annotations, as COCO's own for
        its test images, gets an empty list.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is compressed, empty, no JSON, or no COCO file.
    """
    path = Path(path)
    if not path.is_file():
        beside = sorted(other.name for other in path.parent.glob('*.json'))[:5]
        raise FileNotFoundError(
            f'{where} do not exist; set ann_file to a file' + (f' that does: {", ".join(beside)}' if beside else '')
        )
    data = path.read_bytes()
    if data.startswith(GZIP):
        raise ValueError(f'{where} are compressed with gzip; unpack them')
    try:
        content = json.loads(data)
    except ValueError as error:  # Of JSON or of the text's encoding.
        what = 'empty' if not data.strip() else f'no whole JSON file ({error})'
        raise ValueError(f'{where} are {what}; download or write them again') from error
    return check_sections(content, where)


def check_sections(content, where: str) -> dict:
    """Check that a file's content has COCO's sections, and that these hold objects.

    Args:
        content: What the file holds.
        where: The file's name in messages.

    Raises:
        ValueError: A section is missing or no list of objects.
    """
    if not isinstance(content, dict):
        raise ValueError(
            f'{where} hold a {type(content).__name__}; COCO has an object with the lists {", ".join(SECTIONS)}'
        )
    if content.get('annotations') is None:
        content['annotations'] = []
    content.setdefault('info', {})
    for section in SECTIONS:
        entries = content.get(section)
        if not isinstance(entries, list):
            found = ', '.join(content) or 'nothing'
            raise ValueError(f'{where} have no list {section}; they have {found}: add it, COCO needs {SECTIONS}')
        for place, entry in enumerate(entries):
            if not isinstance(entry, dict):
                refuse(where, section, place, {}, f'is {entry!r:.40}, not an object', 'correct it')
    return content


def refuse(where: str, section: str, place: int, entry: dict, problem: str, advice: str) -> NoReturn:
    """Stop at one entry of a file.

    Args:
        where: The file's name.
        section: The list that the entry stands in.
        place: The entry's place in the list, from 0.
        entry: The entry.
        problem: What is wrong with the entry.
        advice: What to do.

    Raises:
        ValueError: Always.
    """
    named = f' (id {entry["id"]!r:.40})' if 'id' in entry else ''
    raise ValueError(f'{where}: {section}[{place}]{named} {problem}; {advice}')
