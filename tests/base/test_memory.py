"""Freed memory is kept: seen by the pages that must be faulted in again."""

import os
import subprocess
import sys

import pytest

COUNT = """
import resource
from distill.base.memory import keep_freed_memory

def faults():
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        block = bytearray(64 << 20)
        del block
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

without = faults()
keep_freed_memory()
print(without, faults())
"""


@pytest.mark.skipif(sys.platform != 'linux', reason="glibc's allocator")
def test_a_second_step_finds_the_memory_of_the_first():
    environment = {**os.environ, 'CUDA_VISIBLE_DEVICES': ''}
    command = [sys.executable, '-c', COUNT]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    without, kept = map(int, done.stdout.split())
    assert kept < 100 < 10_000 < without
