"""The record of a student that starts from another checkpoint of this project."""

from types import SimpleNamespace

import timm
import torch

from backbones.checkpoint import build_model, save_model
from backbones.record import ModelRecord
from distill.training.distiller import Distiller
from distill.training.hooks.save_student import SaveStudentHook


def test_a_student_from_a_checkpoint_is_built_from_its_own_path_alone(tmp_path):
    kwargs = dict(dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), kernel_size=3, num_classes=3)
    first = timm.create_model('robust_resnet_dw_small', patch_size=16, **kwargs)
    save_model(tmp_path / 'first.pth', first, ModelRecord('robust_resnet_dw_small', kwargs))

    student = dict(checkpoint=str(tmp_path / 'first.pth'), patch_size=8, resample_stem=True)
    dataset = [(torch.zeros(3, 32, 32), 0)]
    runner = SimpleNamespace(
        model=Distiller(student),
        work_dir=tmp_path,
        train_dataloader=SimpleNamespace(dataset=SimpleNamespace(classes=['a', 'b', 'c'])),
        val_dataloader=SimpleNamespace(dataset=dataset),
        epoch=1,
        seed=0,
        logger=SimpleNamespace(info=str),
    )
    SaveStudentHook().after_val_epoch(runner, {'top1_pct': 50.0})
    image = torch.randn(1, 3, 32, 32)
    again = build_model(checkpoint=tmp_path / 'student_best.pth').eval()
    torch.testing.assert_close(again(image), runner.model.student.eval()(image))
    assert ModelRecord.read(tmp_path / 'student_best.pth').model_kwargs == {
        **{key: list(value) if isinstance(value, tuple) else value for key, value in kwargs.items()},
        'patch_size': 8,
    }
