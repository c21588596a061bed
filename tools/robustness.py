from distill.cli.robustness import main

if __name__ == '__main__':
    raise SystemExit(main())
