"""Passes without gradient halve their micro-batches when memory runs out."""

from __future__ import annotations

import pytest
import torch

from rewardkit.errors import RewardkitError

LENGTHS = [3, 2, 2, 2, 1, 1, 1]


class Limited:
    """Computes the square of each row's number, for few rows at once."""

    def __init__(self, most):
        self.most = most
        self.passes = []

    def __call__(self, part):
        """Compute some rows."""
        self.passes.append(len(part))
        if len(part) > self.most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes.")
        return torch.tensor(part).float() ** 2


def test_micro_batches_are_halved_until_they_fit(policy, caplog):
    """Every row is computed, and the next pass begins with what fitted."""
    compute = Limited(2)
    for _ in range(2):
        found = policy.compute_rows(compute, torch.zeros(7), LENGTHS, 64)
        assert found.tolist() == [row**2 for row in range(7)]
    assert max(compute.passes[-4:]) == 2
    assert compute.passes.count(7) == 1
    assert "out of memory in a pass over 7 rows: continuing with half as many" in caplog.text


def test_a_row_that_does_not_fit_is_an_error(policy):
    """And so is any error that is not about memory."""
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        policy.compute_rows(Limited(0), torch.zeros(7), LENGTHS, 64)


def test_a_sharded_model_says_what_to_do(policy):
    """Its processes must agree on their passes."""
    policy.sharded = object()
    with pytest.raises(RewardkitError, match="set micro_batch_tokens lower"):
        policy.compute_rows(Limited(2), torch.zeros(7), LENGTHS, 64)
