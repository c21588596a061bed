"""The memory of a step, by hand, and as it was measured on a card."""

import pytest

from distill.benchmarks.step_memory import StepMemory, step_memory


def test_memory_is_that_of_a_batch_and_what_no_batch_changes():
    memory = StepMemory(fixed_mib=100.0, image_mib=2.0)
    assert memory.of_batch(50) == 200.0
    assert memory.largest_batch(1000.0) == 400
    assert memory.largest_batch(50.0) == 0


def test_a_step_of_a_robust_resnet_is_as_large_as_it_was_on_an_h100():
    memory = step_memory('robust_resnet_dw_small')
    # Adam's and the weights' 16 bytes, and 2 of the weights in bf16, of 38.6 million.
    assert memory.fixed_mib == pytest.approx(18 * 38.6e6 / 2**20, rel=0.05)
    # docs/gpu: a step with a DeiT-S as teacher (22 million weights), 256 images.
    assert memory.of_batch(256) + 4 * 22e6 / 2**20 == pytest.approx(5650, rel=0.05)
