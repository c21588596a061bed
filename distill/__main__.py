"""``python -m distill``: the console command ``robust-backbones``."""

from distill.cli.main import main

if __name__ == '__main__':
    raise SystemExit(main())
