# ruff: noqa: E402 - torch first, or nothing here can be imported
import math
import statistics

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from rewardkit.train.losses.gae import gae, value_loss
from rewardkit.train.losses.masked_statistics import masked_mean, masked_variance, whiten

REWARDS = torch.tensor([[0.0, 0.0, 1.0], [0.5, 7.0, -1.0], [2.0, 0.0, 0.0]])
VALUES = torch.tensor([[0.2, 0.4, 0.6], [0.1, 8.0, 0.3], [0.5, 9.0, 9.0]])
MASK = torch.tensor([[True, True, True], [True, False, True], [True, False, False]])


def test_gae_by_hand():
    """Three steps unrolled by hand; a masked token in the middle is passed over, and padding is nothing."""
    gamma, lam = 0.9, 0.5
    found = gae(REWARDS, VALUES, MASK, gamma=gamma, lam=lam)
    c = 1.0 - 0.6
    b = (0 + gamma * 0.6 - 0.4) + gamma * lam * c
    a = (0 + gamma * 0.4 - 0.2) + gamma * lam * b
    f = -1.0 - 0.3
    d = (0.5 + gamma * 0.3 - 0.1) + gamma * lam * f
    assert_close(found.advantages_B_T, torch.tensor([[a, b, c], [d, 0.0, f], [1.5, 0.0, 0.0]]))
    assert_close(
        found.returns_B_T, torch.tensor([[a + 0.2, b + 0.4, c + 0.6], [d + 0.1, 0.0, f + 0.3], [2.0, 0.0, 0.0]])
    )


def test_lambda_0_is_the_one_step_error():
    """With λ = 0 only δ remains."""
    found = gae(REWARDS[:1], VALUES[:1], MASK[:1], gamma=1.0, lam=0.0)
    assert_close(found.advantages_B_T, torch.tensor([[0.4 - 0.2, 0.6 - 0.4, 1.0 - 0.6]]))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6))
def test_lambda_1_is_monte_carlo(seed, columns):
    """With γ = λ = 1 the return of a token is the sum of the rewards to come, whatever the critic says."""
    generator = torch.Generator().manual_seed(seed)
    rewards = torch.randn(3, columns, generator=generator, dtype=torch.float64)
    values = torch.randn(3, columns, generator=generator, dtype=torch.float64)
    mask = torch.rand(3, columns, generator=generator) < 0.7
    found = gae(rewards, values, mask, gamma=1.0, lam=1.0)
    to_come = torch.where(mask, rewards, 0).flip(1).cumsum(1).flip(1)
    assert_close(found.returns_B_T, torch.where(mask, to_come, 0))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_masked_tokens_might_as_well_not_be_there(seed):
    """A row with tool tokens in it has the advantages of the same row without them."""
    generator = torch.Generator().manual_seed(seed)
    rewards = torch.randn(1, 8, generator=generator, dtype=torch.float64)
    values = torch.randn(1, 8, generator=generator, dtype=torch.float64)
    mask = torch.rand(1, 8, generator=generator) < 0.6
    kept = int(mask.sum())
    whole = gae(rewards, values, mask, gamma=0.9, lam=0.8).advantages_B_T[mask]
    short = gae(
        rewards[mask][None], values[mask][None], torch.ones(1, kept, dtype=torch.bool), gamma=0.9, lam=0.8
    ).advantages_B_T[0]
    assert_close(whole, short)


def test_whitening_by_hand():
    """Over the tokens that count: mean 0, variance 1 (Bessel-corrected); 0 elsewhere, even where there is NaN."""
    values = torch.tensor([[1.0, 2.0, math.nan], [6.0, math.inf, 3.0]])
    mask = torch.tensor([[True, True, False], [True, False, True]])
    kept = [1.0, 2.0, 6.0, 3.0]
    mean, var = statistics.mean(kept), statistics.variance(kept)
    a, b, c, d = ((x - mean) / math.sqrt(var + 1e-8) for x in kept)
    assert_close(whiten(values, mask), torch.tensor([[a, b, 0], [c, 0, d]]))
    shifted = torch.tensor([[a + mean, b + mean, 0], [c + mean, 0, d + mean]])
    assert_close(whiten(values, mask, shift_mean=False), shifted)
    assert_close(masked_mean(values, mask), torch.tensor(mean))
    assert_close(masked_variance(values, mask), torch.tensor(var))


def test_whitening_of_one_token_or_none():
    """One token that counts, or none, gives 0 and no NaN."""
    values = torch.tensor([[3.0, 4.0]])
    assert whiten(values, torch.tensor([[True, False]])).tolist() == [[0.0, 0.0]]
    assert whiten(values, torch.tensor([[False, False]])).tolist() == [[0.0, 0.0]]


def test_value_loss_by_hand():
    """The greater of the plain and the clipped square, halved; where the clip binds there is no gradient."""
    values = torch.tensor([[1.0, 2.0, 0.0], [0.5, 0.5, 0.5], [3.0, -3.0, 0.1]], requires_grad=True)
    old = torch.tensor([[1.0, 1.0, 0.0], [0.5, 0.1, 0.9], [1.0, 1.0, 0.0]])
    returns = torch.tensor([[0.0, 3.0, 1.0], [0.5, 0.0, 1.0], [5.0, -5.0, 0.0]])

    def by_hand(v, o, r):
        return 0.5 * max((v - r) ** 2, (min(max(v, o - 0.2), o + 0.2) - r) ** 2)

    rows = zip(values.tolist(), old.tolist(), returns.tolist(), strict=True)
    expected = torch.tensor([[by_hand(*cell) for cell in zip(*row, strict=True)] for row in rows])
    found = value_loss(values, old, returns, clip=0.2)
    assert_close(found.loss_B_T, expected)
    # (2 → 1.2 against 3): the clipped is the worse. (0.5 → 0.3 against 0) and (0.5 → 0.7 against 1): the plain is.
    assert found.clipped_B_T.tolist() == [[False, True, False], [False, False, False], [True, True, False]]
    found.loss_B_T.sum().backward()
    assert values.grad[0, 1] == 0.0
    assert values.grad[0, 0] == pytest.approx(1.0)


def test_value_loss_without_clip():
    """Without a clip it is half the square."""
    found = value_loss(torch.tensor([[3.0]]), torch.tensor([[0.0]]), torch.tensor([[1.0]]), clip=None)
    assert found.loss_B_T.tolist() == [[2.0]]
    assert not found.clipped_B_T.any()
