"""Linear layers that are not trained are computed as convolutions, and give what they gave."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from backbones.layers import frozen_linear
from backbones.layers.frozen_linear import FrozenLinear, speed_up_frozen


class Calls(TorchDispatchMode):
    """The names of the operators that were called."""

    def __init__(self):
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.name())
        return func(*args, **(kwargs or {}))


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason='without MKL there is nothing to choose')
@pytest.mark.parametrize('shape', [(2, 5, 12), (2, 3, 4, 12)])
@pytest.mark.parametrize('bias', [True, False])
def test_a_frozen_layer_is_a_convolution_with_the_same_result(shape, bias, monkeypatch):
    monkeypatch.setattr(frozen_linear, 'LEAST_WORK', 0)
    layer = nn.Linear(12, 7, bias)
    # Also tokens that lie apart in memory.
    for x in (torch.randn(shape), torch.randn(*shape[:-1], 24)[..., ::2]):
        plain = layer(x).detach()
        fast = speed_up_frozen(nn.Sequential(layer))
        with Calls() as calls, torch.no_grad():
            torch.testing.assert_close(fast(x), plain)
        assert 'aten::convolution' in calls.names
        # In training, in another type and for a vector there is no convolution, and not another bit.
        with Calls() as calls:
            assert torch.equal(fast(x), plain)
            fast.bfloat16()(x.bfloat16())
            fast.float().requires_grad_(False)(x[0, 0])
        assert 'aten::convolution' not in calls.names
        layer.__class__ = nn.Linear
        layer.requires_grad_()


def test_a_small_layer_stays_as_it_is_and_names_stay_too():
    network = nn.Sequential(nn.Linear(12, 7), nn.ReLU())
    names, x = list(network.state_dict()), torch.randn(2, 5, 12)
    with torch.no_grad():
        plain = network(x)
        assert torch.equal(speed_up_frozen(network)(x), plain)
    assert isinstance(network[0], FrozenLinear)
    assert list(network.state_dict()) == names
