"""Measure speed and memory of a distillation step against timm's, side by side.

Each variant runs in a process of its own, which makes one step at a time when it is asked to: other work of the
machine slows all variants alike, and each peak of memory is that of one variant.
"""

import multiprocessing
import multiprocessing.context
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.runner import Runner
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.task import DistillationTeacher, LogitDistillationTask
from torch import nn

import distill.training.register  # noqa: F401  registers the models
from backbones.checkpoint import build_model
from backbones.cost import build, count_gmacs
from distill.base.memory import keep_freed_memory
from distill.base.processor import processor
from distill.benchmarks import variants
from distill.benchmarks.turns import Worker
from distill.data.batch import ViewBatch
from distill.data.preprocessor import ViewPreprocessor
from distill.synthetic.imagenet_like import write_imagenet_like
from distill.teachers.cache.writer import CacheWriter
from distill.teachers.cached import CachedTeacher
from distill.training.optim import TimmOptimWrapperConstructor

OPTIMIZER = dict(lr=1e-3, weight_decay=0.05)
WARM_UP = 2
"""Steps before the first that counts: they allocate, and choose kernels."""
VARIANTS = ('peer', 'online', 'cached')
PRODUCTS = 20
"""Matrix products of a round: a quarter of a second on two cores."""
FLOP = 2e-9 * variants.SIDE**3
"""Of a product, in 10⁹ operations."""


@dataclass(frozen=True)
class Settings:
    """What all variants share.

    Attributes:
        folder: Folder of the images and the cache.
        batch_size: Images of a step.
        threads: Threads of each process.
        student: Arguments of ``timm.create_model`` for the student, its name as ``model``.
        teacher: The same for the teacher.
        size_px: Side of a view.
        images: Number of images.
    """

    folder: Path
    batch_size: int = 16
    threads: int = 2
    student: Mapping = field(default_factory=lambda: dict(model='robust_resnet_dw_small'))
    teacher: Mapping = field(default_factory=lambda: dict(model='deit_small_patch16_224', pretrained=False))
    size_px: int = 224
    images: int = 64

    def config(self, teacher: Mapping) -> Config:
        """A training config: the views, mixing and losses of the ImageNet recipes, on embedded images."""
        mixup = dict(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=1000, mode='pair')
        return self.with_views(
            dict(
                type='Distiller',
                student=dict(self.student),
                teacher=dict(teacher),
                losses=[dict(type='cross_entropy', weight=0.5), dict(type='soft_target_kl', weight=0.5)],
                data_preprocessor=dict(type='ViewPreprocessor', random_erasing=0.25, mixup=mixup),
            )
        )

    def with_views(self, model: Mapping) -> Config:
        """A training config of a model, on the embedded images."""
        transform = dict(input_size=self.size_px, is_training=True, auto_augment='rand-m9-mstd0.5-inc1')
        return Config(
            dict(
                model=dict(model),
                train_dataloader=dict(
                    batch_size=self.batch_size,
                    drop_last=True,
                    collate_fn=dict(type='default_collate'),
                    sampler=dict(type='ViewSampler', shuffle=True),
                    dataset=dict(type='Views', root=str(self.folder / 'images'), split='train', transform=transform),
                ),
                train_cfg=dict(max_epochs=1),
            )
        )

    @property
    def cache(self) -> Path:
        """Folder of the cache."""
        return self.folder / 'cache'

    @property
    def cached(self) -> Mapping:
        """The teacher out of the cache, for `config`."""
        return dict(cache=str(self.cache))

    def write_cache(self, device: str) -> None:
        """Write the cache of the teacher's answers for the views of the images."""
        CacheWriter(self.config(self.teacher), self.cache, topk=10, device=device).write()

    def open_cache(self) -> Callable[[ViewBatch], Any]:
        """What answers views out of the cache."""
        return CachedTeacher(self.cache)

    def task(self, student: nn.Module, teacher: nn.Module) -> nn.Module:
        """timm's task for a student and a teacher."""
        return LogitDistillationTask(
            student, DistillationTeacher(teacher), SoftTargetCrossEntropy(), task_loss_weight=0.5, verbose=False
        )


def benchmark_distill(
    settings: Settings,
    repeats: int = 5,
    track: Callable[[Iterable], Iterable] = iter,
) -> dict:
    """Time steps of timm's `LogitDistillationTask` and of this project, online and from a cache, in turns.

    Teacher, student, batch and optimizer are the same; a step is forward, backward and update in fp32. timm's task
    gets a batch that is normalised and mixed; the steps of this project normalise and mix themselves. Products of two
    matrices of 1,024 × 1,024 take turns with them: no step is faster than its arithmetic at their speed.

    Args:
        settings: What all variants share.
        repeats: Measured steps of each variant, of which the median counts.
        track: Called with an iterable, which it passes on with a progress bar.

    Returns:
        ``peer``, ``online`` and ``cached``, each with ``images_per_s``, ``peak_mib``, ``ratio`` of images/s to the
        peer's, ``memory_ratio``, ``times_s``, ``cpu_times_s`` (of all threads) and ``cpu_ratio``; ``gflop``, the
        arithmetic of a step, and ``times_sgemm``: how many times as long as matrix products with as much arithmetic the
        step takes. ``sgemm_gflops`` of such products in the same rounds, and ``fastest_sgemm_gflops`` of the fastest.
        ``loader``: images/s of one loader process, and predictions/s out of the cache.
    """
    loader = _ask(_prepare, settings)
    steps, peaks, products_s = _take_turns(settings, repeats, track)
    speed = FLOP * PRODUCTS / statistics.median(map(sum, products_s))
    wall, cpu = ({name: [pair[i] for pair in pairs] for name, pairs in steps.items()} for i in (0, 1))
    median, cpu_median = ({name: statistics.median(one) for name, one in times.items()} for times in (wall, cpu))
    gflop = count_gflop(settings)
    rows = {
        name: {
            'images_per_s': settings.batch_size / median[name],
            'ratio': median['peer'] / median[name],
            'peak_mib': peaks[name],
            'memory_ratio': peaks[name] / peaks['peer'],
            'times_s': wall[name],
            'cpu_times_s': cpu[name],
            'cpu_ratio': cpu_median['peer'] / cpu_median[name],
            'gflop': gflop[name],
            'times_sgemm': median[name] * speed / gflop[name],
        }
        for name in VARIANTS
    }
    about = dict(student=settings.student['model'], teacher=settings.teacher['model'])
    about |= dict(batch_size=settings.batch_size, size_px=settings.size_px)
    about |= dict(threads=settings.threads, repeats=repeats, dtype='float32', processor=processor())
    about |= dict(torch_kernels=torch.backends.cpu.get_cpu_capability(), torch=torch.__version__, timm=timm.__version__)
    speeds = {'sgemm_gflops': speed, 'fastest_sgemm_gflops': FLOP / min(map(min, products_s))}
    return {**rows, **speeds, 'loader': loader, 'settings': about}


def _take_turns(settings: Settings, repeats: int, track: Callable[[Iterable], Iterable]) -> tuple:
    """Time and CPU time of each variant's steps, its peak of memory, and the times of the products of each round."""
    builders = dict(zip(VARIANTS, (_peer, _online, _cached), strict=True))
    workers = {name: Worker(_stepper, (builder, settings), _processes()) for name, builder in builders.items()}
    square = variants.Variant('', 'sgemm', 'fp32', settings.threads, (1, 1))
    products = Worker(variants.matrix_product, square, _processes())
    steps: dict[str, list[tuple[float, float]]] = {name: [] for name in VARIANTS}
    products_s: list[list[float]] = []
    for number in track(range(WARM_UP + repeats)):
        made = {name: worker.ask('step') for name, worker in workers.items()}
        found = products.ask((1, PRODUCTS))
        if number >= WARM_UP:
            products_s.append(found)
            for name, times in made.items():
                steps[name].append(times)
    products.stop()
    return steps, {name: worker.stop() for name, worker in workers.items()}, products_s


def count_gflop(settings: Settings) -> dict[str, float]:
    """The arithmetic of a step of each variant, in 10⁹ operations: three passes of the student, one of the teacher."""

    def of_pass(model: Mapping) -> float:
        options = {key: value for key, value in model.items() if key not in ('model', 'pretrained')}
        return 2 * settings.batch_size * count_gmacs(build(model['model'], 'meta', **options), settings.size_px)

    student, teacher = of_pass(settings.student), of_pass(settings.teacher)
    return dict(zip(VARIANTS, (3 * student + teacher, 3 * student + teacher, 3 * student), strict=True))


def table(result: dict) -> str:
    """The result of `benchmark_distill` as a table for people."""
    lines = [f'{"":<10}{"images/s":>10}{"ratio":>8}{"x sgemm":>9}{"peak MiB":>10}{"ratio":>8}']
    for name in VARIANTS:
        row = result[name]
        speed = f'{row["images_per_s"]:>10.2f}{row["ratio"]:>8.2f}{row["times_sgemm"]:>9.2f}'
        lines.append(f'{name:<10}{speed}{row["peak_mib"]:>10.0f}{row["memory_ratio"]:>8.2f}')
    loader, settings = result['loader'], result['settings']
    lines += [
        f'x sgemm: the time of a step over that of {result["online"]["gflop"]:.0f} GFLOP (cached: '
        f'{result["cached"]["gflop"]:.0f}) at {result["sgemm_gflops"]:.0f} GFLOP/s, the speed of matrix products in '
        f'the same rounds (the fastest: {result["fastest_sgemm_gflops"]:.0f})',
        f'{settings["processor"]["name"]}, torch kernels for {settings["torch_kernels"]}',
        f'a loader process: {loader["images_per_s"]:.0f} images/s',
        f'the cache: {loader["predictions_per_s"]:.0f} predictions/s',
    ]
    return '\n'.join(lines)


def write_images_and_cache(settings: Settings, count: int, device: str = 'cpu') -> None:
    """Draw images, and write the cache of the teacher's predictions for their views."""
    # As usual for 224, images are somewhat larger than the views.
    write_imagenet_like(settings.folder / 'images', size=settings.size_px * 8 // 7, train=count, val=0, shifted=0)
    settings.write_cache(device)


def _prepare(settings: Settings) -> dict:
    """Draw the images and write the cache; returns the speed of reading both."""
    write_images_and_cache(settings, settings.images)
    loader = Runner.build_dataloader(settings.config({}).train_dataloader, seed=0)
    start = time.perf_counter()
    keys = torch.cat([torch.stack(batch[2:4], dim=1) for batch in loader])
    time_s = time.perf_counter() - start
    teacher, preprocessor = settings.open_cache(), ViewPreprocessor()
    batches = [preprocessor.view_batch(torch.empty(0), batch) for batch in keys.split(settings.batch_size)]
    start, rounds = time.perf_counter(), 50
    for _ in range(rounds):
        for views in batches:
            teacher(views)
    cache_s = (time.perf_counter() - start) / rounds
    return {'images_per_s': len(keys) / time_s, 'predictions_per_s': len(keys) / cache_s}


def _batch(settings: Settings) -> list[torch.Tensor]:
    return next(iter(Runner.build_dataloader(settings.config({}).train_dataloader, seed=0)))


def _peer(settings: Settings) -> Callable[[], None]:
    """timm's task as its training script uses it."""
    student, teacher = (build_model(**model) for model in (settings.student, settings.teacher))
    task = settings.task(student.train(), teacher).train()
    optimizer = create_optimizer_v2(task.trainable_module, 'adamw', **OPTIMIZER)
    preprocessor = MODELS.build({**settings.config({}).model.data_preprocessor, 'channels_last': False})
    data = preprocessor(_batch(settings), True)

    def step() -> None:
        optimizer.zero_grad()
        task(data['images'], data['targets'])['loss'].backward()
        optimizer.step()

    return step


def _online(settings: Settings) -> Callable[[], None]:
    return _steps(settings, settings.teacher)


def _cached(settings: Settings) -> Callable[[], None]:
    return _steps(settings, settings.cached)


def _steps(settings: Settings, teacher: Mapping) -> Callable[[], None]:
    """A step of this project as `Runner` makes it."""
    keep_freed_memory()
    model: BaseModel = MODELS.build(settings.config(teacher).model).train()
    wrapper = TimmOptimWrapperConstructor(dict(optimizer=dict(type='AdamW', **OPTIMIZER)))(model)
    batch = _batch(settings)
    return lambda: model.train_step(batch, wrapper)


def _processes() -> multiprocessing.context.ForkServerContext:
    """Start processes by forking one that has imported the libraries and done no more: fresh, and soon there."""
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['torchvision', 'timm.task', 'mmengine.runner'])
    return context


def _stepper(variant: tuple[Callable, Settings]) -> Callable[[str], tuple[float, float]]:
    """For a process of its own: makes a step whenever it is asked to, and tells its time and CPU time in s."""
    build, settings = variant
    torch.set_num_threads(settings.threads)
    torch.manual_seed(0)
    step = build(settings)

    def answer(question: str) -> tuple[float, float]:
        start, cpu_start = time.perf_counter(), time.process_time()
        step()
        return time.perf_counter() - start, time.process_time() - cpu_start

    return answer


def _ask(function: Callable, settings: Settings):
    """Call a function in a process of its own, whose threads and memory are gone afterwards."""
    with _processes().Pool(1) as pool:
        return pool.apply(_limited, (function, settings))


def _limited(function: Callable, settings: Settings):
    torch.set_num_threads(settings.threads)
    return function(settings)
