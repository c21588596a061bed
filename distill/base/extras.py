"""Which extra of this distribution installs a library, for the error of a command that misses it."""

DISTRIBUTION = 'robust-backbones'
EXTRAS = {
    'robustness': ('numpy', 'PIL', 'cv2', 'scipy', 'matplotlib', 'rich'),
    'distill': ('mmengine', 'tensorboard'),
    'openmmlab': ('mmcv', 'mmdet', 'mmseg', 'pycocotools', 'ftfy', 'regex'),
    'fast-coco': ('faster_coco_eval',),
    'onnx': ('onnx', 'onnxscript', 'onnxruntime'),
    'openvino': ('openvino', 'nncf'),
    'mnn': ('MNN',),
    'executorch': ('executorch',),
    'slurm': ('submitit',),
    'ray': ('ray',),
}
"""For each extra the modules that it adds to those of the extras before."""
TRACKERS = ('tensorboard', 'wandb', 'mlflow', 'aim')
"""Experiment trackers by name, which is that of the distribution and of its module too."""
SCREEN_LIBRARIES = ('libGL', 'libgthread', 'libX', 'libxcb')
"""Libraries that OpenCV's usual build needs and a machine without a screen may lack."""
HEADLESS = (
    'pip uninstall -y opencv-python, then pip install --force-reinstall --no-deps opencv-python-headless, '
    'which needs no screen'
)


def how_to_install(module: str) -> str | None:
    """The command that installs a module with the extra that has it.

    Args:
        module: A module that cannot be imported, dotted or not.

    Returns:
        The command, or None for a module that neither an extra nor ``--track`` asks for.
    """
    top = module.partition('.')[0]
    for extra, modules in EXTRAS.items():
        if top in modules:
            return f"pip install '{DISTRIBUTION}[{extra}]'"
    return f'pip install {top}' if top in TRACKERS else None


def missing_extra(error: BaseException) -> str | None:
    """What to install, if an exception comes from a library that is not there.

    Args:
        error: An exception that was caught.

    Returns:
        One line, or None for any other exception.
    """
    if isinstance(error, ModuleNotFoundError):
        command = how_to_install(error.name or '')
        return None if command is None else f"this needs '{error.name}', which is not installed; {command}"
    if isinstance(error, ImportError) and str(error).startswith('Please run "pip install'):  # A backend of mmengine.
        return f'{error}, or take its backend out of the config'
    if isinstance(error, ImportError) and str(error).startswith(SCREEN_LIBRARIES):
        return f'OpenCV does not load ({error}); {HEADLESS}'
    return None
