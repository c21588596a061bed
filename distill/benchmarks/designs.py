"""What fewer norms and activations are worth: training steps of each of the paper's four designs, full and robust.

"Can CNNs Be More Robust Than Transformers?" (https://arxiv.org/abs/2206.03452, section 3.3) leaves one norm and one
activation in a block, and says that training becomes up to 23 % faster and takes less memory. Here only these two
change: blocks, widths, kernels and stem are those of the robust model, so that both forms have the same multiply-adds.
"""

import gc
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import Any

import timm
import torch
from torch import Tensor, nn

import backbones  # noqa: F401  registers the models
from backbones.layers.depthwise import speed_up_depthwise
from distill.base.memory import keep_freed_memory

DESIGNS = ('dw', 'inverted_dw', 'up_inverted_dw', 'down_inverted_dw')
ALL = (1, 2, 3)
FORMS: dict[str, dict[str, tuple[int, ...]]] = {'full': dict(norms=ALL, acts=ALL), 'robust': {}}
"""Arguments of the entrypoint for each form."""
WARM_UP = 2


def benchmark_designs(
    device: str,
    batch_size: int,
    size_px: int = 224,
    rounds: int = 3,
    steps: int = 4,
    model: Mapping[str, Any] | None = None,
    track: Callable[[Iterable], Iterable] = iter,
) -> dict:
    """Time training steps of the full and the robust form of each design, in turns.

    A step is forward, cross entropy, backward and AdamW; on a card in bf16, on the CPU in single precision, in
    channels_last on both.

    Args:
        device: ``cuda`` or ``cpu``.
        batch_size: Images of a step.
        size_px: Their side.
        rounds: Turns of each form, of which the fastest counts.
        steps: Steps of a turn.
        model: Arguments of all models, such as fewer blocks.
        track: Called with an iterable, which it passes on with a progress bar.

    Returns:
        ``designs``: for each one ``full`` and ``robust`` with ``images_per_s``, ``activations_mib`` (bytes that a
        forward pass keeps for the backward pass), on a card ``peak_mib``, and ``times_s``; beside them ``faster_pct``
        (by how much the robust form makes more images/s) and ``lighter_pct`` (by how much it keeps less). And
        ``settings``.
    """
    keep_freed_memory()
    torch.backends.cudnn.benchmark = True
    rows = {}
    for design in track(DESIGNS):
        torch.manual_seed(0)
        found = _benchmark(design, device, batch_size, size_px, rounds, steps, model or {})
        full, robust = found['full'], found['robust']
        key = 'peak_mib' if device == 'cuda' else 'activations_mib'
        found['faster_pct'] = 100 * (robust['images_per_s'] / full['images_per_s'] - 1)
        found['lighter_pct'] = 100 * (1 - robust[key] / full[key])
        rows[design] = found
    about = dict(device=torch.cuda.get_device_name() if device == 'cuda' else 'cpu', batch_size=batch_size)
    about |= dict(size_px=size_px, rounds=rounds, steps=steps, threads=torch.get_num_threads())
    about |= dict(dtype='bfloat16' if device == 'cuda' else 'float32', torch=torch.__version__, timm=timm.__version__)
    return {'designs': rows, 'settings': about}


def _benchmark(
    design: str, device: str, batch_size: int, size_px: int, rounds: int, steps: int, model: Mapping[str, Any]
) -> dict[str, Any]:
    name = f'robust_resnet_{design}_small'
    images = torch.randn(batch_size, 3, size_px, size_px).to(device, memory_format=torch.channels_last)
    labels = torch.randint(0, 1000, (batch_size,)).to(device)
    forms = {form: _Form(timm.create_model(name, **model, **more), images, labels) for form, more in FORMS.items()}
    for _ in range(WARM_UP):
        for form in forms.values():
            form.step()
    for _ in range(rounds):
        for form in forms.values():
            form.turn(steps)
    found = {form: one.row(batch_size) for form, one in forms.items()}
    del forms
    gc.collect()
    if device == 'cuda':
        torch.cuda.empty_cache()
    return found


class _Form:
    """A network that is trained on one batch."""

    def __init__(self, network: nn.Module, images: Tensor, labels: Tensor):
        self.network = speed_up_depthwise(network).to(images.device).to(memory_format=torch.channels_last).train()
        self.images, self.labels = images, labels
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-4, fused=True)
        self.times_s: list[float] = []
        self.peak = 0
        self.activations = 0

    def loss(self) -> Tensor:
        on_card = self.images.is_cuda
        with torch.autocast('cuda', torch.bfloat16) if on_card else nullcontext():
            logits = self.network(self.images)
        return nn.functional.cross_entropy(logits.float(), self.labels)

    def step(self) -> None:
        self.optimizer.zero_grad()
        self.loss().backward()
        self.optimizer.step()

    def turn(self, steps: int) -> None:
        """Make steps, and note their mean time and the peak of memory of them, without that of the other form."""
        if not self.activations:
            self.activations = kept_bytes(self.loss, self.network.parameters())
        if self.images.is_cuda:
            self.step()
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        before = self._held() if self.images.is_cuda else 0
        start = time.perf_counter()
        for _ in range(steps):
            self.step()
        if self.images.is_cuda:
            torch.cuda.synchronize()
            self.peak = max(self.peak, torch.cuda.max_memory_allocated() - before)
        self.times_s.append((time.perf_counter() - start) / steps)

    def _held(self) -> int:
        """Bytes on the card that are not this form's."""
        own = [*self.network.parameters(), *self.network.buffers()]
        own += [value.grad for value in self.network.parameters() if value.grad is not None]
        own += [value for state in self.optimizer.state.values() for value in state.values() if value.is_cuda]
        return torch.cuda.memory_allocated() - sum(value.numel() * value.element_size() for value in own)

    def row(self, batch_size: int) -> dict[str, Any]:
        """What was measured."""
        row: dict[str, Any] = {'images_per_s': batch_size / min(self.times_s), 'times_s': self.times_s}
        row['activations_mib'] = self.activations / 2**20
        if self.images.is_cuda:
            row['peak_mib'] = self.peak / 2**20
        return row


def kept_bytes(compute: Callable[[], Tensor], weights: Iterable[Tensor] = ()) -> int:
    """Bytes that a forward pass keeps for its backward pass, each storage once, without those of the weights."""
    known = {weight.untyped_storage().data_ptr() for weight in weights}
    storages: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        compute()
    return sum(size for place, size in storages.items() if place not in known)


def design_table(result: Mapping) -> str:
    """The result of `benchmark_designs` as a table for people."""
    lines = [f'{"":<18}{"full":>9}{"robust":>9}{"faster":>9}{"lighter":>9}   (images/s; memory of a step)']
    for design, row in result['designs'].items():
        speeds = ''.join(f'{row[form]["images_per_s"]:>9.1f}' for form in FORMS)
        lines.append(f'{design:<18}{speeds}{row["faster_pct"]:>7.1f} %{row["lighter_pct"]:>7.1f} %')
    return '\n'.join(lines)
