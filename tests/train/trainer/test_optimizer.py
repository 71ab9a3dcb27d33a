"""An optimiser step has the scheduled rate, is clipped, decays matrices, and is skipped if the gradient is not finite."""

from __future__ import annotations

import importlib.util
import math
import weakref

import pytest
import torch
from torch import nn

from rewardkit.reward_models import is_out_of_memory
from rewardkit.train.config import OptimizerConfig
from rewardkit.train.models.precision import NonFiniteError
from rewardkit.train.trainer.checkpoint import Checkpoints
from rewardkit.train.trainer.optimizer import Optimizer, learning_rate


def rates(total=10, **settings):
    """Return the learning rates of all steps."""
    config = OptimizerConfig(lr=1.0, **settings)
    return [learning_rate(config, step, total) for step in range(total)]


def test_the_schedule_of_the_learning_rate():
    """Warm-up reaches the rate at its last step; then it is constant, or decays linearly or as a half cosine."""
    assert rates(warmup_steps=4)[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates(warmup_steps=4)[-1] == 1.0
    assert rates(schedule="linear") == pytest.approx([1 - step / 10 for step in range(10)])
    assert rates(schedule="linear", min_lr=0.5)[5] == pytest.approx(0.75)
    falling = rates(schedule="cosine", warmup_steps=2, min_lr=0.1)
    assert falling[2:] == pytest.approx([0.1 + 0.9 * (1 + math.cos(math.pi * step / 8)) / 2 for step in range(8)])


def parameters():
    """Return a matrix and a vector."""
    return {"matrix": nn.Parameter(torch.ones(2, 2)), "vector": nn.Parameter(torch.ones(2))}


def test_a_step_is_as_long_as_its_rate():
    """Adam's first step has the length of the rate, whatever the gradient: half of it in the first of two warm-up steps."""
    for step, rate in ((0, 0.05), (1, 0.1), (9, 0.1)):
        weights = parameters()
        optimizer = Optimizer(weights, OptimizerConfig(lr=0.1, warmup_steps=2), 10)
        for value in weights.values():
            value.grad = torch.full_like(value, 3.0)
        assert optimizer.step(step) == pytest.approx(3 * math.sqrt(6))
        for value in weights.values():
            torch.testing.assert_close(value.detach(), torch.full_like(value, 1 - rate), atol=1e-5, rtol=0)
        assert weights["matrix"].grad is None


SETTINGS = [{"use": "adamw"}, {"use": "adamw_foreach"}, {"use": "adamw_8bit"}, {"offload": True}]


@pytest.mark.parametrize("settings", SETTINGS)
def test_each_optimizer_continues_exactly_from_its_saved_state(settings, tmp_path):
    """Two steps, a checkpoint and two more steps give the weights of four steps."""
    if settings.get("use") == "adamw_8bit":
        pytest.importorskip("bitsandbytes")

    def train(weights, optimizer, steps):
        for step in steps:
            for value in weights.values():
                value.grad = torch.randn(value.shape, generator=torch.Generator().manual_seed(step))
            optimizer.step(step)

    def build(values):
        weights = {name: nn.Parameter(value.detach().clone()) for name, value in values.items()}
        return weights, Optimizer(weights, OptimizerConfig(lr=0.1, weight_decay=0.1, **settings), 4)

    start = {"matrix": torch.ones(64, 64), "vector": torch.ones(3)}
    whole, optimizer = build(start)
    train(whole, optimizer, range(4))
    half, optimizer = build(start)
    train(half, optimizer, range(2))
    checkpoints = Checkpoints(tmp_path, keep=1)
    path = checkpoints.save(2, {"policy": (half, optimizer)}, {})
    resumed, optimizer = build(start)
    checkpoints.restore(path, {"policy": (resumed, optimizer)})
    train(resumed, optimizer, range(2, 4))
    torch.testing.assert_close(
        {name: value.detach() for name, value in resumed.items()},
        {name: value.detach() for name, value in whole.items()},
        rtol=0,
        atol=0,
    )


def test_moments_of_8_bits_take_2_bytes_per_weight():
    """And 32 bits per block of 256."""
    pytest.importorskip("bitsandbytes")
    weights = {"matrix": nn.Parameter(torch.ones(256, 256))}
    optimizer = Optimizer(weights, OptimizerConfig(use="adamw_8bit"), 1)
    weights["matrix"].grad = torch.ones(256, 256)
    optimizer.step(0)
    [state] = optimizer.state()["state"].values()
    tensors = [value for value in state.values() if isinstance(value, torch.Tensor)]
    assert 2 < sum(value.nbytes for value in tensors) / (256 * 256) < 2.1


def test_a_missing_bitsandbytes_is_told_when_the_configuration_is_read(monkeypatch):
    """With the remedy."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="adamw_8bit needs the package bitsandbytes; run pip install bitsandbytes"):
        OptimizerConfig(use="adamw_8bit")


def test_only_matrices_decay():
    """Biases and norms do not decay."""
    weights = parameters()
    optimizer = Optimizer(weights, OptimizerConfig(lr=0.1, weight_decay=0.5), 10)
    for value in weights.values():
        value.grad = torch.zeros_like(value)
    optimizer.step(0)
    assert weights["matrix"].detach().tolist() == [[pytest.approx(0.95)] * 2] * 2
    assert weights["vector"].detach().tolist() == [1.0, 1.0]


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_stops_the_run(broken):
    """The weights are unchanged, and the error says what to do."""
    weights = parameters()
    optimizer = Optimizer(weights, OptimizerConfig(lr=0.1), 10)
    for value in weights.values():
        value.grad = torch.full_like(value, broken)
    with pytest.raises(NonFiniteError, match=r"step 5: the gradient is not finite .* optimizer.non_finite: skip"):
        optimizer.step(4)
    assert weights["vector"].detach().tolist() == [1.0, 1.0]


def test_a_loss_that_is_not_finite_stops_the_run():
    """Even if its gradient is finite."""
    weights = parameters()
    optimizer = Optimizer(weights, OptimizerConfig(lr=0.1), 10)

    def backward(_part):
        weights["vector"].sum().backward()
        return torch.tensor(math.inf)

    optimizer.accumulate([1], 8, backward)
    with pytest.raises(NonFiniteError, match="step 1: the loss is not finite"):
        optimizer.step(0)
    assert weights["vector"].detach().tolist() == [1.0, 1.0]


def test_a_gradient_that_is_not_finite_can_be_skipped(caplog):
    """Weights and moments are unchanged, a warning is logged, and the update is counted once."""
    weights = parameters()
    optimizer = Optimizer(weights, OptimizerConfig(lr=0.1, non_finite="skip"), 10)
    for value in weights.values():
        value.grad = torch.full_like(value, math.nan)
    assert math.isnan(optimizer.step(4))
    assert weights["vector"].detach().tolist() == [1.0, 1.0]
    assert weights["vector"].grad is None
    assert not optimizer.state()["state"]
    assert "step 5: the gradient is not finite (norm nan); the update is skipped" in caplog.text
    assert (optimizer.take_skipped(), optimizer.take_skipped()) == (1, 0)


def test_ten_skipped_updates_in_a_row_stop_the_run():
    """An update in between starts the count again."""
    weights = parameters()
    optimizer = Optimizer(weights, OptimizerConfig(lr=0.1, non_finite="skip"), 100)

    def step(gradient):
        weights["vector"].grad = torch.full_like(weights["vector"], gradient)
        optimizer.step(0)

    for gradient in [math.nan] * 9 + [1.0] + [math.nan] * 9:
        step(gradient)
    with pytest.raises(NonFiniteError, match="10 updates in a row were skipped"):
        step(math.nan)


def test_weights_that_an_update_makes_infinite_stop_the_run():
    """Skipping can't repair them."""
    weights = {"vector": nn.Parameter(torch.full((2,), 3.4e38))}
    optimizer = Optimizer(weights, OptimizerConfig(lr=1e37, non_finite="skip"), 10)
    weights["vector"].grad = torch.tensor([-1.0, 1.0])
    with pytest.raises(NonFiniteError, match=r"step 1: weights have become infinite or NaN \(vector\)"):
        optimizer.step(0)


def test_gradients_are_clipped():
    """The gradient is scaled to the maximum norm, and the norm before clipping is returned."""
    weights = {"vector": nn.Parameter(torch.zeros(2))}
    # With an eps far above the gradient Adam's step is in proportion to it.
    optimizer = Optimizer(weights, OptimizerConfig(lr=1.0, eps=1e6, max_grad_norm=1.0), 10)
    weights["vector"].grad = torch.tensor([3.0, 4.0])
    assert optimizer.step(0) == pytest.approx(5.0)
    torch.testing.assert_close(weights["vector"].detach(), torch.tensor([-0.6e-6, -0.8e-6]), atol=1e-9, rtol=1e-3)


def test_out_of_memory_restarts_the_batch(caplog):
    """Accumulated gradients are discarded, so no row counts twice; a row that does not fit alone is an error."""
    weights = {"vector": nn.Parameter(torch.zeros(1))}
    optimizer = Optimizer(weights, OptimizerConfig(), 10)
    seen = []

    def backward(part):
        seen.append(part)
        if len(part) > 2 and len(seen) > 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes.")
        (weights["vector"] * len(part)).sum().backward()

    assert optimizer.accumulate([5, 4, 3, 2, 1, 1], 16, backward) < 16
    assert weights["vector"].grad.tolist() == [6.0]
    assert "out of memory: continuing with micro-batches of" in caplog.text

    def hopeless(_part):
        raise torch.OutOfMemoryError("no")

    with pytest.raises(torch.OutOfMemoryError):
        optimizer.accumulate([5, 4], 16, hopeless)


def test_the_graph_of_a_micro_batch_is_gone_before_the_next_one():
    """Graphs that live on keep freed activations apart, so that the heap grows with each micro-batch."""
    weight, graphs = nn.Parameter(torch.ones(2)), []
    optimizer = Optimizer({"weight": weight}, OptimizerConfig(), 1)

    def backward(rows):
        assert not any(graph() for graph in graphs)
        loss = (weight * len(rows)).sum()
        loss.backward()
        graphs.append(weakref.ref(loss))
        return loss

    optimizer.accumulate([4, 4, 4], 4, backward)
    assert len(graphs) == 3


def test_other_errors_are_not_about_memory():
    """Other errors are not retried."""
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
