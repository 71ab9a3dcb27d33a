# ruff: noqa: E402 - torch first, or nothing here can be imported
import math

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from torch.testing import assert_close

from rewardkit.train.losses.importance_correction import Mismatch, correction_weights, mismatch

RATIOS = torch.tensor([[0.5, 1.0, 3.0], [1.5, 0.4, 7.0], [1.0, 1.0, 1.0]])
ROLL = torch.tensor([[-1.0, -2.0, -3.0], [-0.5, -1.5, -2.5], [-1.0, -1.0, -1.0]])
OLD = ROLL + RATIOS.log()
MASK = torch.tensor([[True, True, True], [True, True, False], [True, True, True]])


def test_truncated_importance_sampling_by_hand():
    """Each token weighs min(ratio, 2); tokens that do not count weigh 1."""
    found = correction_weights(OLD, ROLL, MASK)
    assert_close(found, torch.tensor([[0.5, 1.0, 2.0], [1.5, 0.4, 1.0], [1.0, 1.0, 1.0]]))


def test_masking_by_hand():
    """Outside of [low, high] a token weighs nothing; inside it weighs its ratio."""
    found = correction_weights(OLD, ROLL, MASK, kind="mask", low=0.5, high=2.0)
    assert_close(found, torch.tensor([[0.5, 1.0, 0.0], [1.5, 0.0, 1.0], [1.0, 1.0, 1.0]]), atol=1e-6, rtol=0)


def test_sequence_level_by_hand():
    """A row has one factor: the product over its tokens that count."""
    found = correction_weights(OLD, ROLL, MASK, level="sequence", high=1.2)
    assert_close(found, torch.tensor([[1.2] * 3, [0.6] * 3, [1.0] * 3]))
    masked = correction_weights(OLD, ROLL, MASK, kind="mask", level="sequence", low=0.5, high=1.2)
    assert_close(masked, torch.tensor([[0.0] * 3, [0.6] * 3, [1.0] * 3]))


def test_weights_are_finite_and_without_gradient():
    """Log-probabilities that are hopelessly apart give a finite factor, and no gradient flows through it."""
    old = torch.tensor([[-1.0, -500.0, -math.inf]], requires_grad=True)
    roll = torch.tensor([[-500.0, -1.0, -math.inf]])
    found = correction_weights(old, roll, torch.tensor([[True, True, False]]), high=5.0)
    assert_close(found, torch.tensor([[5.0, math.exp(-20), 1.0]]))
    assert not found.requires_grad


def test_mismatch_by_hand():
    """Greatest and mean difference, k3 and the effective share, over the tokens that count."""
    found = mismatch(OLD, ROLL, MASK)
    ratios = [0.5, 1.0, 3.0, 1.5, 0.4, 1.0, 1.0, 1.0]
    logs = [abs(math.log(r)) for r in ratios]
    assert found.max_difference == pytest.approx(math.log(3.0), rel=1e-5)
    assert found.mean_difference == pytest.approx(sum(logs) / 8, rel=1e-5)
    assert found.kl == pytest.approx(sum(r - math.log(r) - 1 for r in ratios) / 8, rel=1e-5)
    assert found.effective_share == pytest.approx(sum(ratios) ** 2 / sum(r * r for r in ratios) / 8, rel=1e-5)


def test_mismatch_of_nothing():
    """Where no token counts there is no mismatch, and no NaN."""
    assert mismatch(OLD, ROLL, torch.zeros_like(MASK)) == Mismatch(0.0, 0.0, 0.0, 1.0)
