"""Hooks, logs and environment of every distillation run. Switch a hook off with ``default_hooks.<name>=None``."""

custom_imports = dict(imports=['distill.training.register'], allow_failed_imports=False)
default_scope = 'mmengine'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=2, backend_args=dict(backend='atomic')),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    plain_checkpoint=dict(type='PlainCheckpointHook'),
    seed_iteration=dict(type='SeedIterationHook'),
    exact_resume=dict(type='ExactResumeHook'),
    check_classes=dict(type='CheckClassesHook'),
    check_cache=dict(type='CheckCacheHook'),
    stop_on_bad_loss=dict(type='StopOnBadLossHook'),
    save_student=dict(type='SaveStudentHook'),
    # The average is over the last tenth of the steps at first, and over the last ten thousand at most.
    ema=dict(type='EMAHook', ema_type='AnnealingAverage', momentum=1e-4, gamma=10, update_buffers=True),
)
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
vis_backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
visualizer = dict(type='Visualizer', vis_backends=vis_backends)
log_processor = dict(window_size=50, by_epoch=True)
log_level = 'INFO'
randomness = dict(seed=0)
load_from = None
resume = False
