"""Quantise files of OpenVINO by NNCF: weights per channel, bias correction."""

import os
from collections.abc import Collection, Sequence
from typing import Any

from distill.engines.installed import missing_modules
from distill.engines.openvino import core, kept_signal_stack
from distill.engines.quiet import caught_output
from distill.export.quantise.calibration import Calibration
from distill.export.quantise.quantiser import SUMS_FIT, Operation, Task, layer_names, off_the_path

LAYERS = ('Convolution', 'GroupConvolution', 'ConvolutionBackpropData', 'MatMul')
"""Operations with most of the cost. Others, such as sums, are quantised between them."""
ATTENTION = ('Softmax', 'ScaledDotProductAttention')
"""NNCF treats networks with these in another way: more stays in fp32, and products of activations are handled."""
METHOD = 'NNCF, asymmetric activations (minimum and maximum), int8 weights per channel, biases corrected'


class Nncf:
    """See `Quantiser`."""

    can_keep = True
    fixed: tuple[str, ...] = ()

    def __init__(self, task: Task):
        lacking = missing_modules('nncf', 'nncf')
        if lacking:
            raise ValueError(f'int8 for OpenVINO needs {lacking}')
        self.task, self.method = task, METHOD + (SUMS_FIT if task.reduce_range else '')
        operations = list(self._read().get_ordered_ops())
        layers = [one for one in operations if one.get_type_name() in LAYERS]
        self.layers = layer_names([(_weight(one), one.friendly_name) for one in layers])
        self._nodes = {layer: one.friendly_name for layer, one in zip(self.layers, layers, strict=True)}
        # An output layer of a classifier has a softmax at the most; a block of attention has one each.
        self.has_attention = any(one.get_type_name() in ATTENTION for one in operations)
        self._operations = [one.friendly_name for one in operations]
        self._others = self._off_the_path(operations) if task.calibration.sizes else []

    def _read(self) -> Any:
        return core().read_model(os.fspath(self.task.path))

    def write(self, out: str | os.PathLike, keep: Collection[str] = ()) -> None:
        """See `Quantiser.write`."""
        self._write(out, [*(self._nodes[layer] for layer in keep), *self._others], self.task.calibration)

    def write_only(self, out: str | os.PathLike, layer: str, calibration: Calibration) -> None:
        """See `Quantiser.write_only`."""
        self._write(out, [name for name in self._operations if name != self._nodes[layer]], calibration)

    def _off_the_path(self, operations: Sequence[Any]) -> list[str]:
        """Operations that are no part of what the layers see: see `off_the_path`."""
        named = {
            one.friendly_name: Operation(
                one.get_type_name(), tuple(port.get_source_output().get_node().friendly_name for port in one.inputs())
            )
            for one in operations
        }
        return off_the_path(named, self._nodes.values())

    def _write(self, out: str | os.PathLike, ignored: Sequence[str], calibration: Calibration) -> None:
        batch = self.task.manifest.batch or 1
        inputs = list(calibration.inputs(self.task.manifest, batch))
        os.environ.setdefault('NNCF_CI', '1')  # NNCF reports its use over the network otherwise.
        with kept_signal_stack(), caught_output():
            import nncf
            import openvino
            import openvino.passes
            from nncf.quantization.range_estimator import RangeEstimatorParametersSet

            model, passes = self._read(), openvino.passes.Manager()
            passes.register_pass(openvino.passes.ConstantFolding())
            passes.run_passes(model)  # A bias that is given a shape first is none to NNCF.
            quantised = nncf.quantize(
                model,
                nncf.Dataset(inputs),
                preset=nncf.QuantizationPreset.MIXED,
                subset_size=len(inputs),
                # The fast way has a channel be its mean everywhere, which is wrong where kernels reach over the border.
                # The other runs a part of the network for each layer, which whole images make too long.
                fast_bias_correction=bool(self.task.calibration.sizes),
                model_type=nncf.ModelType.TRANSFORMER if self.has_attention else None,
                # The mean of the images' ranges, which is NNCF's choice, cuts off what few images show.
                advanced_parameters=nncf.AdvancedQuantizationParameters(
                    activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
                    overflow_fix=nncf.OverflowFix.ENABLE if self.task.reduce_range else None,
                ),
                ignored_scope=nncf.IgnoredScope(names=list(ignored), validate=False) if ignored else None,
            )
            openvino.save_model(quantised, os.fspath(out), compress_to_fp16=False)


def _weight(operation: Any) -> str:
    """Name of the constant that an operation has as its weight, which may pass a reshape; '' if there is none."""
    node = operation.input_value(1).get_node()
    while node.get_type_name() in ('Reshape', 'Transpose', 'Convert', 'Unsqueeze') and node.inputs():
        node = node.input_value(0).get_node()
    return node.friendly_name if node.get_type_name() == 'Constant' else ''


def make(task: Task) -> Nncf:
    """The quantiser of a file of OpenVINO."""
    return Nncf(task)
