"""What machine and which versions a result is about."""

import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import torch

PACKAGES = ('torch', 'torchvision', 'triton', 'timm', 'numpy', 'opencv-python', 'opencv-python-headless', 'mmengine',
            'mmcv-lite', 'mmdet', 'mmsegmentation')  # fmt: skip


def about(device: str) -> dict:
    """The names of the card and the processor, and the versions that a result depends on."""
    found = {
        'device': torch.cuda.get_device_name() if device == 'cuda' else 'cpu',
        'processor': _processor(),
        'cpus': len(os.sched_getaffinity(0)),
        'python': sys.version.split()[0],
        'packages': _versions(),
    }
    if device == 'cuda':
        capability, memory = torch.cuda.get_device_capability(), torch.cuda.get_device_properties(0).total_memory
        found |= {
            'capability': '.'.join(map(str, capability)),
            'memory_gib': memory / 2**30,
            'cuda': torch.version.cuda,
            'cudnn': torch.backends.cudnn.version(),
            'nccl': '.'.join(map(str, torch.cuda.nccl.version())),
            'nvidia_smi': _nvidia_smi(),
        }
    return found


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        with open('/proc/cpuinfo') as lines:
            return next(one.partition(':')[2].strip() for one in lines if one.startswith('model name'))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _nvidia_smi() -> str:
    if shutil.which('nvidia-smi') is None:
        return ''
    return subprocess.run(['nvidia-smi'], capture_output=True, text=True).stdout
