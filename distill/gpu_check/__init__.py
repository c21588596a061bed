"""Whether this project does on an accelerator what it does on the CPU, and how fast: one part a file, see `plan`."""
