"""The command lines, one module a command, which `tools` calls.

A module of a command is cheap to import: at its top are the standard library and light modules of this project, so
that ``--help`` and a mistake in arguments or paths answer at once. Whatever needs torch is imported by ``run``, after
``check``.
"""
