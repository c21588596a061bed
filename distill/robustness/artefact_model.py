"""A classifier in a file of an engine, as the judge runs any network."""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from distill.engines import by_suffix
from distill.engines.artefact import Manifest, artefact_sha256
from distill.engines.portions import run_images


class ArtefactModel(nn.Module):
    """A classifier in a file of an engine: one input of images [B, 3, H, W], one output of logits [B, K].

    Args:
        path: The file.
        device: Where it runs: 'cuda' where the engine is built for it, else the CPU.

    Attributes:
        manifest: What stands beside the file, or None.
        num_classes: K.
        batch: B where the file fixes it, or None.
        fixed_size: Height and width that the file fixes, or None.
        takes_raw: Whether the images are uint8, as they are decoded, and not normalised.
        params: Number of parameters; of a file without a manifest those that ONNX tells, or 0.
        sha256: Hash of the file and of the weights beside it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A package is missing, the file is damaged, not safe to open, of another model than its manifest, or
            no classifier.
    """

    def __init__(self, path: str, device: str = 'cpu'):
        super().__init__()
        self.path, self.manifest = path, Manifest.read(path)
        if self.manifest is not None and self.manifest.task != 'classification':
            raise ValueError(
                f"'{path}' is no classifier but exported for {self.manifest.task}; there is no top-1 of it"
            )
        self.session = by_suffix(path).open(path, torch.get_num_threads(), device)
        inputs, outputs = self.session.inputs, self.session.outputs
        shape = inputs[0].shape
        if len(inputs) != 1 or len(shape) != 4 or shape[1] != 3 or inputs[0].dtype not in ('float32', 'uint8'):
            raise ValueError(self._no_classifier())
        self.batch = shape[0]
        self.fixed_size = (shape[2], shape[3]) if shape[2] is not None and shape[3] is not None else None
        self.takes_raw = inputs[0].dtype == 'uint8'
        classes = outputs[0].shape[-1] if outputs[0].shape else self._probed()
        if not isinstance(classes, int) or len(outputs) != 1 or len(outputs[0].shape) not in (0, 2):
            raise ValueError(self._no_classifier())
        self.num_classes = classes
        self.params = self.manifest.details.get('params', 0) if self.manifest is not None else _params(path)
        self.sha256 = artefact_sha256(path)

    def _probed(self) -> int | None:
        """The number of classes, by showing a black image to an engine that does not tell it."""
        size = self.fixed_size or (self.manifest.size if self.manifest is not None else (224, 224))
        found = run_images(self.session, np.zeros((1, 3, *size), self.session.inputs[0].dtype))
        return found[0].shape[1] if len(found) == 1 and found[0].ndim == 2 else None

    def _no_classifier(self) -> str:
        inputs, outputs = ([one.shape for one in ports] for ports in (self.session.inputs, self.session.outputs))
        return (
            f"'{self.path}' has inputs {inputs} and outputs {outputs}; export it with one input [B, 3, H, W] and "
            'logits [B, K]'
        )

    def forward(self, images: Tensor) -> Tensor:
        """Predict logits [B, K] of images [B, 3, H, W], in portions where the file fixes B."""
        array = images.contiguous(memory_format=torch.contiguous_format).cpu().numpy()
        return torch.from_numpy(run_images(self.session, array)[0])


def _params(path: str) -> int:
    """The number of values in the initializers of an ONNX file or, where there are none, in its constants."""
    if Path(path).suffix != '.onnx':
        return 0
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    constants = [one.t for node in graph.node if node.op_type == 'Constant' for one in node.attribute]
    return sum(math.prod(tensor.dims) for tensor in graph.initializer or constants)
