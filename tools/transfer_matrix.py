from distill.cli.transfer import main

if __name__ == '__main__':
    raise SystemExit(main())
