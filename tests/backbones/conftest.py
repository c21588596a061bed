"""Models without storage and their costs, which several test files look at."""

import functools

import pytest
from torch import nn

from backbones.cost import Cost, build, measure


@pytest.fixture(scope='session')
def counted():
    """A function from a timm name to the model without storage and its cost at the model's own size; counts once."""

    @functools.cache
    def model_and_cost(name: str) -> tuple[nn.Module, Cost]:
        model = build(name, device='meta')
        return model, measure(model, model.default_cfg['input_size'][-1])

    return model_and_cost
