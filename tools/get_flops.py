from distill.cli.flops import main

if __name__ == '__main__':
    raise SystemExit(main())
