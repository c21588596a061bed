"""The command lines, one module a command, which `tools` calls; `command`, `arguments` and `screen` serve them all.

A module of a command is cheap to import: at its top are the standard library and light modules of this project, so
that ``--help`` and a mistake in arguments or paths answer at once. ``run`` imports the rest after ``check``.
"""
