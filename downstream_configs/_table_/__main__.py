"""Write the files that the table gives: ``make configs``."""

import sys

from distill.configs._table_.text import write
from downstream_configs._table_.files import FOLDERS, ROOT, count_millions, files, fragments, leaves, read_millions
from downstream_configs._table_.recipes import configs


def main() -> int:
    """Write fragments and configs, count parameters off what they build, and write what tells them."""
    changed = write(fragments()) + write(leaves({name: read_millions(name) for name in configs()}))
    millions = {}
    for number, name in enumerate(configs(), 1):
        if sys.stdout.isatty():
            end = '\n' if number == len(configs()) else ''
            print(f'\rparameters of config {number} of {len(configs())}', end=end, flush=True)
        millions[name] = count_millions(name)
    given = files(millions)
    changed = sorted({*changed, *write(given)})
    for path in changed:
        print(f'wrote {path.relative_to(ROOT.parent)}')
    print(f'{len(changed)} of {len(given)} files of downstream_configs have changed')
    for path in sorted(path for folder in FOLDERS for path in (ROOT / folder).glob('*.py') if path not in given):
        print(f'{path.relative_to(ROOT.parent)} is in no row of the table; delete it or add a row')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
