"""Write the configs that the table gives: ``make configs``."""

from distill.configs._table_.leaves import ROOT, files
from distill.configs._table_.text import write


def main() -> int:
    """Write configs that are missing or say something else."""
    given = files()
    changed = write(given)
    for path in changed:
        print(f'wrote distill/configs/{path.relative_to(ROOT)}')
    print(f'{len(changed)} of {len(given)} files of distill/configs have changed')
    folders = {path.parent for path in given}
    for path in sorted(path for folder in folders for path in folder.glob('*.py') if path not in given):
        print(f'distill/configs/{path.relative_to(ROOT)} is in no row of the table; delete it or add a row')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
