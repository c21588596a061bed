"""The processor that this process runs on."""

import os
import platform
from pathlib import Path

INSTRUCTION_SETS = ('avx2', 'fma', 'avx_vnni', 'avx512f', 'avx512_vnni', 'avx512_bf16', 'amx_int8', 'amx_bf16',
                    'asimddp', 'i8mm', 'bf16', 'sve')  # fmt: skip
"""Those that decide how fast fp32, bf16 and int8 are, as Linux calls them."""
DOT_PRODUCTS = ('avx_vnni', 'avx512_vnni')
"""Those of x86 that sum products of 8 bits in 32 bits."""


def processor() -> dict:
    """``name``, ``cores`` that this process may use, and ``instruction_sets``, None if nothing tells them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        return {'name': platform.processor() or platform.machine(), 'cores': cores, 'instruction_sets': None}
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(':') for line in lines)}
    flags = set((facts.get('flags') or facts.get('Features') or '').split())
    return {
        'name': facts.get('model name') or platform.machine(),
        'cores': cores,
        'instruction_sets': [name for name in INSTRUCTION_SETS if name in flags],
    }


def sums_saturate() -> bool:
    """Whether sums of products of 8 bits may be cut off: x86 without VNNI adds each two of them in 16 bits.

    Where nothing tells the instruction sets, an x86 processor is taken for one without.
    """
    if platform.machine().lower() not in ('x86_64', 'amd64', 'i386', 'i686'):
        return False
    return not set(DOT_PRODUCTS) & set(processor()['instruction_sets'] or ())
