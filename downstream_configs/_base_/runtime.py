"""What every run shares: this project's backbones and hooks, checkpoints that can be resumed, logs. Detection and
segmentation each add their scope."""

custom_imports = dict(imports=['backbones.openmmlab', 'distill.downstream.register'], allow_failed_imports=False)
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=2, backend_args=dict(backend='atomic')),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    # mmengine's own checkpoints hold objects that torch >= 2.6 refuses to load; this leaves plain values in them.
    plain_checkpoint=dict(type='PlainCheckpointHook'),
    seed_iteration=dict(type='SeedIterationHook'),
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
