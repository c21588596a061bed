_base_ = './runtime.py'
# What all import, FastCocoMetric, and how mmdet reads COCO files: labels in the order of metainfo.classes, ids mended.
custom_imports = dict(
    imports=[
        'backbones.openmmlab',
        'backbones.openmmlab.fast_coco',
        'distill.downstream.register',
        'distill.downstream.annotations.register',
    ]
)
default_scope = 'mmdet'
default_hooks = dict(visualization=dict(type='DetVisualizationHook'))
visualizer = dict(type='DetLocalVisualizer', vis_backends={{_base_.vis_backends}}, name='visualizer')
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=True)
