"""COCO with boxes, at one of six sizes from 640 to 800 pixels on the short side."""

_base_ = './coco_detection.py'
resize = dict(type='RandomChoiceResize', scales=[(1333, s) for s in range(640, 801, 32)], keep_ratio=True)
train_pipeline = [resize if step.type == 'Resize' else step for step in _base_.train_pipeline]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
