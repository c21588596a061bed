from distill.cli.gpu_check import main

if __name__ == '__main__':
    raise SystemExit(main())
