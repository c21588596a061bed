"""The runtime of every detector and segmenter: this project's backbones and hooks, checkpoints that can be resumed,
logs. Detection and segmentation each add their scope. ``default_hooks.<name>=None`` switches a hook off."""

custom_imports = dict(imports=['backbones.openmmlab', 'distill.downstream.register'], allow_failed_imports=False)
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=2, backend_args=dict(backend='atomic')),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    # mmengine's own checkpoints hold objects that torch >= 2.6 refuses to load; this leaves plain values in them.
    plain_checkpoint=dict(type='PlainCheckpointHook'),
    # The random numbers of a step follow from (seed, iteration, rank): drop path, sampling of proposals.
    seed_iteration=dict(type='SeedIterationHook'),
    # Those of a training sample follow from (seed, iteration, index); and a run resumes inside an epoch.
    seed_samples=dict(type='SeedSamplesHook'),
    # A run stops when a loss or a weight is NaN or infinite; no checkpoint has such weights.
    stop_on_bad_loss=dict(type='StopOnBadLossHook'),
    # Data and model are compared before training and tests. CheckSample in the pipelines learns the classes from it.
    check_data=dict(type='CheckDataHook'),
)
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
vis_backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
log_level = 'INFO'
randomness = dict(seed=0)
load_from = None
resume = False
