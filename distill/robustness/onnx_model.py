"""An ONNX file as a network, which `onnxruntime` runs."""

import hashlib
import importlib.util
import math
from pathlib import Path

import torch
from torch import Tensor, nn


class OnnxModel(nn.Module):
    """A classifier in an ONNX file: one input of images [B, 3, H, W], one output of logits [B, K].

    Args:
        path: The file.
        device: Where the network runs: 'cuda' where onnxruntime is built for it, else the CPU.

    Attributes:
        num_classes: K.
        batch: B where the file fixes it, or None.
        fixed_size: Height and width that the file fixes, or None.
        params: Number of values of the initializers or, where there are none, of the constants.
        sha256: Hash of the file and, where there is one, of the file beside it that holds the weights.

    Raises:
        ValueError: The packages of the extra 'onnx' are missing, or the file is no such model.
    """

    def __init__(self, path: str, device: str = 'cpu'):
        super().__init__()
        missing = [name for name in ('onnx', 'onnxruntime') if importlib.util.find_spec(name) is None]
        if missing:
            raise ValueError(f"'{path}' needs {' and '.join(missing)}; pip install '.[onnx]'")
        import onnx
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        wanted = ['CUDAExecutionProvider'] if device.startswith('cuda') else []
        providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
        try:
            self.session = onnxruntime.InferenceSession(path, options, [*providers, 'CPUExecutionProvider'])
        except Exception as error:  # onnxruntime's exceptions have no common class of their own
            reason = str(error).partition('\n')[0]
            raise ValueError(f"'{path}' cannot be read as ONNX ({reason}); export it again") from None
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        shape, classes = inputs[0].shape, outputs[0].shape[-1]
        if len(inputs) != 1 or len(shape) != 4 or shape[1] != 3 or not isinstance(classes, int):
            raise ValueError(
                f"'{path}' has inputs {[i.shape for i in inputs]} and output {outputs[0].shape}; "
                'export it with one input [B, 3, H, W] and logits [B, K]'
            )
        self.input_name, self.num_classes = inputs[0].name, classes
        self.batch = shape[0] if isinstance(shape[0], int) else None
        self.fixed_size = tuple(shape[2:]) if all(isinstance(size, int) for size in shape[2:]) else None
        graph = onnx.load(path, load_external_data=False).graph
        constants = [one.t for node in graph.node if node.op_type == 'Constant' for one in node.attribute]
        self.params = sum(math.prod(tensor.dims) for tensor in graph.initializer or constants)
        digest = hashlib.sha256()
        for file in (Path(path), Path(f'{path}.data')):
            if file.is_file():
                digest.update(file.read_bytes())
        self.sha256 = digest.hexdigest()

    def forward(self, images: Tensor) -> Tensor:
        """Predict logits [B, K] of normalised images [B, 3, H, W], in portions where the file fixes B."""
        size = self.batch or len(images)
        portions = []
        for start in range(0, len(images), size):
            portion = images[start : start + size]
            padding = (0, 0) * 3 + (0, size - len(portion))
            padded = nn.functional.pad(portion, padding).contiguous().cpu().numpy()
            logits = self.session.run(None, {self.input_name: padded})[0]
            portions.append(torch.from_numpy(logits[: len(portion)]))
        return torch.cat(portions)
