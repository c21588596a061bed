"""Freed memory is kept: seen by the pages that must be faulted in again."""

import os
import subprocess
import sys

import pytest

COUNT = """
import resource
from distill.memory import keep_freed_memory
if {keep}:
    keep_freed_memory()
for step in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = bytearray(64 << 20)
    del block
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != 'linux', reason="glibc's allocator")
def test_a_second_step_finds_the_memory_of_the_first():
    def faults(keep: bool) -> int:
        command = [sys.executable, '-c', COUNT.format(keep=keep)]
        environment = {**os.environ, 'CUDA_VISIBLE_DEVICES': ''}
        return int(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)

    assert faults(keep=True) < 100 < 10_000 < faults(keep=False)
