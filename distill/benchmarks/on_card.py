"""Measure distillation steps on a card against timm's task, each with the flags that make it fastest.

All variants are built in one process and make steps in turns: a card is not shared as a processor is, but its clock
follows its temperature. The peak of memory of a variant is what it holds itself, with the activations of a step.
"""

import gc
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import timm
import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS, OPTIM_WRAPPERS
from timm.optim import create_optimizer_v2, param_groups_weight_decay
from torch import Tensor

import distill.training.register  # noqa: F401  registers the models
from backbones.checkpoint import build_model
from distill.benchmarks.distillation import OPTIMIZER, Settings, write_images_and_cache

DTYPE = torch.bfloat16
WARM_UP = 3
"""Steps before the first that counts: they compile, choose kernels and allocate."""
EAGER = ('peer', 'online', 'cached')
COMPILED: dict[str, bool | dict[str, str]] = {'compiled': True, 'graphs': {'mode': 'reduce-overhead'}}
"""Options of `torch.compile` by what is added to the name of a variant: with ``graphs`` CUDA graphs as well."""
VARIANTS = (*EAGER, *(f'{name} {added}' for added in COMPILED for name in EAGER))
WITHOUT_GRAPHS = tuple(name for name in VARIANTS if not name.endswith('graphs'))
"""What can take turns at the largest batch: a graph keeps the memory of its activations between steps."""
LARGEST_IS_OF = 64
"""Images of which the largest batch is a multiple."""
Step = Callable[[], Any]


@dataclass
class Turns:
    """What a variant has done so far.

    Attributes:
        step: Makes a step.
        held: Bytes on the card that the variant keeps between steps.
        times_s: Mean time of a step in each turn.
        peak: Most bytes that the variant had at once.
        utilisation: Percent of the time in which kernels ran, as the driver samples it, in each turn; may be empty.
        build_s: Time to build and to make the first steps.
    """

    step: Step
    held: int
    times_s: list[float]
    peak: int
    utilisation: list[int]
    build_s: float


def prepare(settings: Settings, count: int) -> None:
    """Draw the images of a batch, and write the cache of a teacher's predictions for them.

    Args:
        settings: What all variants share.
        count: Images, fewer than a batch if need be: a batch then shows them several times.
    """
    write_images_and_cache(replace(settings, batch_size=min(settings.batch_size, count)), count, 'cuda')


def synthetic_batch(settings: Settings, count: int) -> list[Tensor]:
    """A batch as the loader gives it, on the card already: views, labels, indices, view numbers and seeds.

    The keys and seeds stay on the CPU, as `ViewPreprocessor` wants them. Views are noise; where the keys repeat those
    of the few images that the cache holds.
    """
    generator = torch.Generator().manual_seed(0)
    size = settings.batch_size
    views = torch.randint(0, 256, (size, 3, settings.size_px, settings.size_px), dtype=torch.uint8, generator=generator)
    indices = torch.arange(size) % count
    labels = torch.randint(0, 1000, (size,), generator=generator)
    return [views.cuda(), labels.cuda(), indices, torch.zeros(size, dtype=torch.long), torch.arange(size)]


def build(name: str, settings: Settings, batch: list[Tensor]) -> Step:
    """Build a variant of `VARIANTS` on the card."""
    who, _, added = name.partition(' ')
    compiled = COMPILED.get(added, False)
    if who == 'peer':
        return peer(settings, batch, compiled)
    return own(settings, batch, settings.cached if who == 'cached' else settings.teacher, compiled)


def peer(settings: Settings, batch: list[Tensor], compiled: bool | Mapping) -> Step:
    """A step of timm's task: bf16, channels_last, a fused optimizer; the batch comes normalised and mixed."""
    student, teacher = (build_model(**model).cuda() for model in (settings.student, settings.teacher))
    student, teacher = (network.to(memory_format=torch.channels_last) for network in (student, teacher))
    task = settings.task(student.train(), teacher.eval()).cuda().train()
    if compiled:
        task.compile(**(compiled if isinstance(compiled, Mapping) else {}))
    optimizer = create_optimizer_v2(task.trainable_module, 'adamw', **OPTIMIZER, fused=True)
    preprocessor = MODELS.build(settings.config({}).model.data_preprocessor).cuda()
    data = preprocessor(batch, True)

    def step() -> None:
        torch.compiler.cudagraph_mark_step_begin()
        optimizer.zero_grad()
        with torch.autocast('cuda', DTYPE):
            loss = task(data['images'], data['targets'])['loss']
        loss.backward()
        optimizer.step()

    return step


def own(settings: Settings, batch: list[Tensor], teacher: Mapping, compiled: bool | Mapping) -> Step:
    """A step of this project as `Runner` makes it, which normalises, erases and mixes."""
    model: BaseModel = MODELS.build({**settings.config(teacher).model, 'compile': compiled}).cuda().train()
    groups = param_groups_weight_decay(model, OPTIMIZER['weight_decay'])
    optimizer = torch.optim.AdamW(groups, lr=OPTIMIZER['lr'], fused=True)
    # bf16 has the range of single precision and needs no loss scale.
    wrapper = OPTIM_WRAPPERS.build(
        dict(type='AmpOptimWrapper', dtype='bfloat16', loss_scale=dict(enabled=False), optimizer=optimizer)
    )

    def step() -> None:
        torch.compiler.cudagraph_mark_step_begin()
        model.train_step(batch, wrapper)

    return step


def measure(
    variants: Mapping[str, Callable[[], Step]],
    batch_size: int,
    rounds: int = 3,
    steps: int = 5,
    peer: str = 'peer',
    track: Callable[[Iterable], Iterable] = iter,
) -> dict[str, dict[str, Any]]:
    """Time variants in turns.

    Args:
        variants: Functions that build a variant on the card.
        batch_size: Images of a step.
        rounds: Turns of each variant, of which the fastest counts.
        steps: Steps of a turn.
        peer: The variant that ratios are to.
        track: Called with an iterable, which it passes on with a progress bar.

    Returns:
        For each variant ``images_per_s``, ``ratio`` to the peer, ``peak_mib``, ``memory_ratio``, ``utilisation_pct``,
        ``build_s`` and ``times_s``; or ``error`` where it could not be built or ran out of memory.
    """
    turns: dict[str, Turns] = {}
    rows: dict[str, dict[str, Any]] = {}
    for turn in track(range(rounds + 1)):
        for name, make in variants.items():
            try:
                if not turn:
                    turns[name] = _begin(make)
                elif name in turns:
                    _turn(turns[name], steps)
            except (RuntimeError, ValueError) as error:
                turns.pop(name, None)
                rows[name] = {'error': f'{type(error).__name__}: {error}'.splitlines()[0][:300]}
                gc.collect()
            # What a step leaves free is no memory of the next variant.
            torch.cuda.empty_cache()
    best = {name: min(one.times_s) for name, one in turns.items()}
    for name, one in turns.items():
        rows[name] = {
            'images_per_s': batch_size / best[name],
            'peak_mib': one.peak / 2**20,
            'utilisation_pct': max(one.utilisation, default=None),
            'build_s': one.build_s,
            'times_s': one.times_s,
        }
        if peer in turns:
            rows[name] |= {'ratio': best[peer] / best[name], 'memory_ratio': one.peak / turns[peer].peak}
    return {name: rows[name] for name in variants}


def _begin(make: Callable[[], Step]) -> Turns:
    before, start = torch.cuda.memory_allocated(), time.perf_counter()
    torch.cuda.reset_peak_memory_stats()
    step = make()
    for _ in range(WARM_UP):
        step()
    torch.cuda.synchronize()
    held = torch.cuda.memory_allocated() - before
    return Turns(step, held, [], 0, [], time.perf_counter() - start)


def _turn(one: Turns, steps: int) -> None:
    one.step()
    torch.cuda.synchronize()
    # Others hold memory too: what counts begins at what is held without this variant.
    others = torch.cuda.memory_allocated() - one.held
    torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    for _ in range(steps):
        one.step()
    used = utilisation()
    torch.cuda.synchronize()
    one.times_s.append((time.perf_counter() - start) / steps)
    one.peak = max(one.peak, torch.cuda.max_memory_allocated() - others)
    one.utilisation += [] if used is None else [used]


def utilisation() -> int | None:
    """Percent of the last moment in which kernels ran, as the driver samples it; None if it does not tell."""
    try:
        return torch.cuda.utilization()
    except Exception:  # NVIDIA's library is missing, old, or of another mind: the rest of the row matters more.
        return None


def benchmark_on_card(
    settings: Settings,
    names: Iterable[str] = VARIANTS,
    rounds: int = 3,
    steps: int = 5,
    images: int = 64,
    track: Callable[[Iterable], Iterable] = iter,
    prepared: bool = False,
) -> dict:
    """Time distillation steps of timm's task and of this project on a card.

    Args:
        settings: What all variants share.
        names: Of `VARIANTS`.
        rounds: Turns of each variant.
        steps: Steps of a turn.
        images: Images that the cache holds.
        track: As in `measure`.
        prepared: The folder has the images and the cache of an earlier call.

    Returns:
        ``variants`` as `measure` gives them, and ``settings``.
    """
    torch.backends.cudnn.benchmark = True
    if not prepared:
        prepare(settings, images)
    batch = synthetic_batch(settings, images)
    makers = {name: (lambda name=name: build(name, settings, batch)) for name in names}
    rows = measure(
        makers, settings.batch_size, rounds, steps, 'peer' if 'peer' in makers else next(iter(makers)), track
    )
    about = dict(student=settings.student['model'], teacher=settings.teacher['model'], dtype='bfloat16')
    about |= dict(batch_size=settings.batch_size, size_px=settings.size_px, memory_format='channels_last')
    about |= dict(device=torch.cuda.get_device_name(), torch=torch.__version__, timm=timm.__version__)
    return {'variants': rows, 'settings': about}


def largest_batch(settings: Settings, names: Iterable[str] = ('peer', 'online'), low: int = 32, high: int = 96) -> dict:
    """How many images a card holds in a step of each variant, by the straight line through the peaks of two batches.

    Args:
        settings: What all variants share; the cache must be there if a variant reads it.
        names: Of `EAGER`.
        low: A batch.
        high: A larger one.

    Returns:
        For each variant the images, and their least, rounded down to a multiple of `LARGEST_IS_OF`, as ``both``.

    Raises:
        RuntimeError: A variant cannot be measured.
    """
    total = torch.cuda.get_device_properties(0).total_memory
    found = {}
    for name in names:
        peaks = []
        for size in (low, high):
            sized = replace(settings, batch_size=size)
            batch = synthetic_batch(sized, min(size, 64))
            peaks.append(measure({name: lambda s=sized, b=batch, n=name: build(n, s, b)}, size, 1, 1, name)[name])
            gc.collect()
            torch.cuda.empty_cache()
        for peak in peaks:
            if 'error' in peak:
                raise RuntimeError(f'{name} cannot be measured: {peak["error"]}')
        slope = (peaks[1]['peak_mib'] - peaks[0]['peak_mib']) / (high - low)
        # A tenth for the context, the libraries and gaps between blocks.
        found[name] = int((0.9 * total / 2**20 - peaks[0]['peak_mib']) / slope) + low
    both = min(found.values())
    return {**found, 'both': both // LARGEST_IS_OF * LARGEST_IS_OF or both}


def card_table(result: Mapping) -> str:
    """The result of `benchmark_on_card` as a table for people."""
    lines = [f'{"":<17}{"images/s":>10}{"ratio":>8}{"peak MiB":>10}{"ratio":>8}{"busy %":>8}{"build s":>9}']
    for name, row in result['variants'].items():
        if 'error' in row:
            lines.append(f'{name:<17}{row["error"]}')
            continue
        busy = '-' if row['utilisation_pct'] is None else row['utilisation_pct']
        speed = f'{row["images_per_s"]:>10.1f}{row.get("ratio", 1):>8.2f}'
        memory = f'{row["peak_mib"]:>10.0f}{row.get("memory_ratio", 1):>8.2f}'
        lines.append(f'{name:<17}{speed}{memory}{busy:>8}{row["build_s"]:>9.1f}')
    return '\n'.join(lines)
