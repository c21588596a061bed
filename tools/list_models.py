from distill.cli.models import main

if __name__ == '__main__':
    raise SystemExit(main())
