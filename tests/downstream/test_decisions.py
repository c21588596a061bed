"""Classes of pixels by max are those by argmax."""

import torch
from mmseg.models.segmentors.base import BaseSegmentor
from torch import nn
from torch.overrides import TorchFunctionMode

from distill.downstream.decisions import MaxForArgmax, decide_fast


class Segmenter(nn.Module):
    """The part of a segmenter of mmseg that decides about pixels."""

    align_corners = False
    postprocess_result = BaseSegmentor.postprocess_result


class Calls(TorchFunctionMode):
    """The functions of torch that are called."""

    def __init__(self):
        super().__init__()
        self.functions = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.functions.append(func)
        return func(*args, **(kwargs or {}))


def test_decisions_are_those_of_argmax():
    torch.manual_seed(0)
    logits = torch.randn(2, 7, 9, 11)
    logits[0, :, 0] = 0.5  # Ties.
    logits[0, 2:4, 1, :3] = torch.nan
    logits[1, :, 2] = -torch.inf
    expected = [one.pred_sem_seg.data for one in Segmenter().postprocess_result(logits)]
    model = nn.ModuleDict({'module': Segmenter()})
    decide_fast(model)
    with Calls() as calls:
        found = model['module'].postprocess_result(logits)
    assert torch.Tensor.argmax not in calls.functions
    for one, classes in zip(found, expected, strict=True):
        assert torch.equal(one.pred_sem_seg.data, classes)
        assert one.pred_sem_seg.data.dtype == classes.dtype


def test_other_calls_are_left_alone():
    x = torch.arange(12.0).view(3, 4)
    with MaxForArgmax():
        assert x.argmax() == 11
        assert x.argmax(dim=1).tolist() == [3, 3, 3]
