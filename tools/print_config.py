from distill.cli.print_config import main

if __name__ == '__main__':
    raise SystemExit(main())
