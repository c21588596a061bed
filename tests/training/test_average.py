"""The average of the weights in one call: mmengine's, bit for bit."""

import torch
from mmengine.model import MomentumAnnealingEMA
from torch import nn

from distill.training.average import AnnealingAverage


def test_the_average_is_mmengines_bit_for_bit():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    options = dict(momentum=1e-4, gamma=10, update_buffers=True)
    averages = MomentumAnnealingEMA(model, **options), AnnealingAverage(model, **options)
    for step in range(6):
        model(torch.randn(5, 3, 3, 3)).sum().backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.sub_(0.1 * parameter.grad)
        if step == 3:  # A buffer that is replaced is followed, as a move to a device replaces it.
            model[1].running_mean = model[1].running_mean.clone() + 1
        for average in averages:
            average.update_parameters(model)
    expected, found = (average.state_dict() for average in averages)
    assert expected['steps'] == 6
    assert not torch.equal(expected['module.1.running_mean'], model[1].running_mean)
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
