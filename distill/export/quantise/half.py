"""Write artefacts in half precision, where an engine has it."""

import os
from collections.abc import Callable
from pathlib import Path

from distill.engines.artefact import Manifest
from distill.engines.quiet import caught_output

Write = Callable[[Path, str | os.PathLike], None]


def write_half(path: Path, manifest: Manifest, precision: str, out: str | os.PathLike) -> str:
    """Write an artefact in half precision.

    Args:
        path: The fp32 artefact.
        manifest: What stands beside it.
        precision: 'fp16' or 'bf16'.
        out: The file to write.

    Returns:
        What was done, for the manifest.

    Raises:
        ValueError: The engine has no such precision.
    """
    ways = {engine: way for (engine, name), way in WAYS.items() if name == precision}
    if manifest.engine not in ways:
        raise ValueError(
            f"'{path}' is of engine {manifest.engine}, which has no {precision} for written files; "
            f'choose from {", ".join(ways)}'
        )
    write, step = ways[manifest.engine]
    with caught_output():
        write(path, out)
    return step


def _onnx_fp16(path: Path, out: str | os.PathLike) -> None:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(os.fspath(path)), keep_io_types=True), os.fspath(out))


def _openvino_fp16(path: Path, out: str | os.PathLike) -> None:
    import openvino

    from distill.engines.openvino import core

    openvino.save_model(core().read_model(os.fspath(path)), os.fspath(out), compress_to_fp16=True)


def _openvino_bf16(path: Path, out: str | os.PathLike) -> None:
    import openvino

    from distill.engines.openvino import PRECISION_INFO, core

    model = core().read_model(os.fspath(path))
    model.set_rt_info('bf16', PRECISION_INFO)
    openvino.save_model(model, os.fspath(out), compress_to_fp16=False)


def _mnn_fp16(path: Path, out: str | os.PathLike) -> None:
    from distill.export.quantise.mnn import convert, mark_of

    convert(path, out, mark_of(path), '--fp16')


WAYS: dict[tuple[str, str], tuple[Write, str]] = {
    ('onnx', 'fp16'): (_onnx_fp16, 'fp16 weights and operations, fp32 images and outputs (ONNX Runtime)'),
    ('openvino', 'fp16'): (_openvino_fp16, 'fp16 weights; a processor computes in fp32 (OpenVINO)'),
    ('openvino', 'bf16'): (_openvino_bf16, 'fp32 weights, computed in bf16 (OpenVINO)'),
    ('mnn', 'fp16'): (_mnn_fp16, 'fp16 weights (MNN)'),
}
"""How an engine writes a precision, and the line about it."""
