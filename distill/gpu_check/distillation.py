"""A small student that learns from a teacher: mixed precision, resume, cache, EMA, compile."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import Tensor

from distill.gpu_check.rows import Check, Mismatch, Setting, Skip, require
from distill.gpu_check.trainings import (
    EXACT,
    STEPS,
    Trained,
    Trainings,
    floats,
    largest_difference,
    loss_difference,
    require_falling,
    run,
    stopped,
    without_tf32,
)
from distill.synthetic.imagenet_like import write_imagenet_like

CONFIG = 'deit-mini_robust-resnet-tiny_shapes'
BATCH = 32
EPOCHS = 3
TEACHER = dict(
    model='deit_tiny_patch16_224', img_size=32, patch_size=8, embed_dim=96, depth=2, num_heads=3, num_classes=10,
    pretrained=False,
)  # fmt: skip
TEACHER_SEED = 7


class Runs(Trainings):
    """The runs of the checks."""

    @functools.cached_property
    def data(self) -> Path:
        """Images for ten steps an epoch."""
        write_imagenet_like(self.setting.folder / 'data', size=32, train=STEPS // EPOCHS * BATCH, val=40, shifted=0)
        return self.setting.folder / 'data'

    @functools.cached_property
    def teacher(self) -> dict[str, Any]:
        """Arguments of a teacher of random weights that every run shares, as a checkpoint."""
        from backbones.checkpoint import build_model, save_model
        from backbones.record import ModelRecord

        path = self.setting.folder / 'teacher.pth'
        kwargs = {key: value for key, value in TEACHER.items() if key not in ('model', 'pretrained')}
        torch.manual_seed(TEACHER_SEED)
        classes = sorted(one.name for one in (self.data / 'train').iterdir())
        record = ModelRecord(TEACHER['model'], kwargs, classes=classes, input_size=[3, 32, 32])
        save_model(path, build_model(**TEACHER), record)
        return dict(checkpoint=str(path))

    def get(self, name: str, amp: str | None = 'float16', **options: Any) -> Trained:
        """Train, or give back the run of that name."""
        if name not in self.made:
            settings = {
                'train_dataloader.batch_size': BATCH,
                'train_cfg.max_epochs': EPOCHS,
                'train_cfg.val_interval': EPOCHS,
                'default_hooks.checkpoint.max_keep_ckpts': EPOCHS,
                'model.teacher': self.teacher,
                **options,
            }
            work_dir = self.setting.folder / name
            resume = settings.pop('resume', False)
            self.made[name] = run(CONFIG, self.data, work_dir, self.setting, settings, amp, resume=resume)
        return self.made[name]


def checks(setting: Setting) -> list[Check]:
    """The checks, in the order of what they tell."""
    runs = Runs(setting)
    found: dict[str, Callable[[Runs], dict[str, Any]]] = {
        'AMP fp16: loss is finite and falls': falls_in_fp16,
        'AMP fp16: resumed = uninterrupted, bit for bit': resumes_exactly,
        'AMP bf16: loss is finite and falls': falls_in_bf16,
        'fp32: teacher from its cache = online': cached_is_online,
        'AMP fp16: teacher from its cache = online': cached_is_online_mixed,
        'EMA is the average of the weights': averages,
        'four loader processes, pinned memory = none': workers_change_nothing,
        'compile=True: losses as without': compiles,
    }
    return [Check(name, functools.partial(function, runs)) for name, function in found.items()]


def falls_in_fp16(runs: Runs) -> dict[str, Any]:
    """fp16 with a loss scale, which mixed precision is by default."""
    return require_falling(runs.get('fp16', **EXACT))


def falls_in_bf16(runs: Runs) -> dict[str, Any]:
    """bf16, as the config says otherwise: `cudnn_benchmark` and all."""
    return require_falling(runs.get('bf16', 'bfloat16'))


def resumes_exactly(runs: Runs) -> dict[str, Any]:
    """A run that is resumed after its second epoch ends with the weights and averages of one that was not stopped."""
    whole = runs.get('fp16', **EXACT)
    stopped(whole, runs.setting.folder / 'resumed', 'epoch_2.pth')
    resumed = runs.get('resumed', **EXACT, resume=True)
    values = {
        'weights': largest_difference(resumed.weights(), whole.weights()),
        'averages': largest_difference(resumed.weights('ema_state_dict'), whole.weights('ema_state_dict')),
        'losses': loss_difference(resumed.losses, whole.losses[-len(resumed.losses) :]),
    }
    return require(values, dict.fromkeys(values, 0.0))


def _cache(runs: Runs) -> dict[str, Any]:
    from distill.api.cache import cache_teacher

    path = runs.setting.folder / 'cache'
    if not path.is_dir():
        options = {'train_dataloader.batch_size': BATCH, 'train_cfg.max_epochs': EPOCHS, 'model.teacher': runs.teacher}
        cache_teacher(CONFIG, path, runs.data, dtype='float32', progress=False, cfg_options=options)
    return {**runs.teacher, 'cache': str(path)}


def cached_is_online(runs: Runs) -> dict[str, Any]:
    """In single precision, without TF32, whose rounding depends on the size of a batch."""
    with without_tf32():
        online = runs.get('fp32', None, **EXACT)
        cached = runs.get('fp32 cached', None, **EXACT, **{'model.teacher': _cache(runs)})
    return require({'losses': loss_difference(cached.losses, online.losses)}, {'losses': 2e-3})


def cached_is_online_mixed(runs: Runs) -> dict[str, Any]:
    """The cache holds the predictions in single precision, the teacher beside the student makes them in half."""
    online = runs.get('fp16', **EXACT)
    cached = runs.get('fp16 cached', **EXACT, **{'model.teacher': _cache(runs)})
    return require({'losses': loss_difference(cached.losses, online.losses)}, {'losses': 5e-2})


@HOOKS.register_module(force=True)
class AverageInDoubleHook(Hook):
    """Averages the student's weights as the config's EMA does, on the CPU and in double precision."""

    priority = 'LOW'  # Before EMAHook has exchanged anything, after the step.
    found: dict[str, Tensor] = {}
    steps = 0

    def before_train(self, runner) -> None:
        """Begin anew."""
        type(self).found, type(self).steps = {}, 0

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Add the weights of a step: the first as they are, then with a momentum of 10 / (10 + steps)."""
        state = {key: value.detach().double().cpu() for key, value in floats(runner.model.state_dict()).items()}
        if not type(self).steps:
            type(self).found = state
        else:
            momentum = max(1e-4, 10 / (10 + type(self).steps))
            for key, value in state.items():
                self.found[key] = self.found[key].lerp(value, momentum)
        type(self).steps += 1


def averages(runs: Runs) -> dict[str, Any]:
    """The average that the run has saved is that of its weights, computed again; and is not the last weights."""
    hooks = [dict(type='AverageInDoubleHook')]
    trained = runs.get('average', **EXACT, **{'custom_hooks': hooks})
    content = torch.load(trained.checkpoint, map_location='cpu', weights_only=True)
    # mmengine saves the average as the weights, and the weights in training beside it.
    candidates = {key: floats(content[key]) for key in ('state_dict', 'ema_state_dict')}
    expected = AverageInDoubleHook.found
    errors = {}
    for name, state in candidates.items():
        state = {key.removeprefix('module.'): value for key, value in state.items()}
        errors[name] = max(
            float((state[key].double() - value).abs().max() / value.abs().max().clamp(min=1e-12))
            for key, value in expected.items()
        )
    values = {'error': min(errors.values()), 'distance to the weights': max(errors.values())}
    if values['distance to the weights'] < 1e-3:
        raise Mismatch('the average is the weights themselves', values)
    return require(values, {'error': 1e-4})


def workers_change_nothing(runs: Runs) -> dict[str, Any]:
    """Loader processes and pinned memory feed the card the same batches."""
    alone = runs.get('fp16', **EXACT)
    fed = runs.get(
        'workers',
        **EXACT,
        **{
            'train_dataloader.num_workers': 4,
            'train_dataloader.persistent_workers': True,
            'train_dataloader.pin_memory': runs.setting.device != 'cpu',
        },
    )
    return require({'weights': largest_difference(fed.weights(), alone.weights())}, {'weights': 0.0})


def compiles(runs: Runs) -> dict[str, Any]:
    """Student and teacher compiled."""
    if runs.setting.device == 'cpu':
        raise Skip('compiling for the CPU takes minutes')
    eager = runs.get('bf16', 'bfloat16')
    compiled = runs.get('compiled', 'bfloat16', **{'model.compile': True})
    values = {
        'first loss': abs(compiled.losses[0] - eager.losses[0]) / eager.losses[0],
        'losses': loss_difference(compiled.losses, eager.losses),
    }
    return require(values, {'first loss': 1e-2, 'losses': 0.1}) | require_falling(compiled)
