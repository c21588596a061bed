"""Large depthwise convolutions, as far as this project has kernels of its own for a card."""

from distill.gpu_check.rows import Check, Setting


def checks(setting: Setting) -> list[Check]:
    """The checks of `distill.benchmarks.kernels`, which is asked for none where it does not exist."""
    import importlib.util

    if importlib.util.find_spec('distill.benchmarks.kernels') is None:
        return []
    from distill.benchmarks import kernels

    return [Check(name, function) for name, function in kernels.checks(setting.device, setting.small).items()]
