# ruff: noqa: E402 - torch first, or nothing here can be imported
import math

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from rewardkit.train.config.algorithms import make_loss
from rewardkit.train.losses.policy_loss import policy_loss

RATIOS = [[0.5, 1.0, 1.5], [0.5, 1.1, 4.0], [0.9, 1.25, 1.0]]
ADVANTAGES = [2.0, -1.0, 0.5]
OLD = torch.tensor([[-1.0, -2.0, -0.5], [-3.0, -2.5, -2.0], [-0.7, -1.3, -0.1]])
MASK = torch.tensor([[True, True, True], [True, True, False], [True, True, True]])
EVERYTHING = torch.ones_like(MASK)


def _loss(settings_, mask=EVERYTHING, ratios=RATIOS):
    logprobs = (OLD + torch.tensor(ratios).log()).requires_grad_()
    found = policy_loss(logprobs, OLD, torch.tensor(ADVANTAGES)[:, None], mask, settings_)
    found.loss_B_T.sum().backward()
    return found, logprobs.detach(), logprobs.grad


def _clip_by_hand(ratio, advantage, low=0.8, high=1.2, cap=math.inf):
    return -min(min(ratio, cap) * advantage, min(max(ratio, low), high) * advantage)


def _grid(function):
    return torch.tensor([[function(r, a) for r in row] for row, a in zip(RATIOS, ADVANTAGES, strict=True)])


def test_clip_by_hand():
    """The loss is −min(r·A, clip(r)·A); what is clipped has no gradient and is told; what is not has −r·A."""
    found, _, gradient = _loss(make_loss("clip"))
    assert_close(found.loss_B_T, torch.tensor([[-1.0, -2.0, -2.4], [0.8, 1.1, 4.0], [-0.45, -0.6, -0.5]]))
    assert found.clipped_high_B_T.tolist() == [[False, False, True], [False] * 3, [False, True, False]]
    assert found.clipped_low_B_T.tolist() == [[False] * 3, [True, False, False], [False] * 3]
    assert_close(gradient, torch.tensor([[-1.0, -2.0, 0.0], [0.0, 1.1, 4.0], [-0.45, 0.0, -0.5]]))


def test_clip_higher_by_hand():
    """DAPO's clip has an upper bound of its own: 1.25 is within 1.28."""
    found, _, _ = _loss(make_loss("clip", eps_low=0.2, eps_high=0.28))
    assert_close(found.loss_B_T, _grid(lambda r, a: _clip_by_hand(r, a, 0.8, 1.28)))
    assert not found.clipped_high_B_T[2, 1]


def test_max_ratio_by_hand():
    """With an upper bound δ of the unclipped ratio, a bad token that became likelier has a bounded loss and no gradient."""
    found, _, gradient = _loss(make_loss("clip", max_ratio=3.0))
    assert_close(found.loss_B_T, _grid(lambda r, a: _clip_by_hand(r, a, cap=3.0)))
    assert found.loss_B_T[1, 2].item() == pytest.approx(3.0)
    assert float(gradient[1, 2]) == 0.0
    assert bool(found.clipped_high_B_T[1, 2])


def test_dual_clip_by_hand():
    """Where A < 0 the loss is at most c·|A|; elsewhere it is that of the clip."""

    def by_hand(r, a):
        loss = max(-a * r, -a * min(max(r, 0.8), 1.2))
        return min(-3 * a, loss) if a < 0 else loss

    found, _, gradient = _loss(make_loss("dual_clip", bound=3.0))
    assert_close(found.loss_B_T, _grid(by_hand))
    assert float(gradient[1, 2]) == 0.0
    assert bool(found.clipped_high_B_T[1, 2])


def test_dual_clip_refuses_a_bound_below_1():
    """A bound that cuts the ratio of 1 is refused."""
    with pytest.raises(ValueError, match="bound: Input should be greater than 1"):
        make_loss("dual_clip", bound=1.0)


def test_cispo_by_hand():
    """CISPO weighs −A·logprob by the clipped ratio, without gradient through it: no token loses its gradient."""
    found, logprobs, gradient = _loss(make_loss("cispo", low=0.6, high=3.0))
    weights = torch.tensor([[min(max(r, 0.6), 3.0) for r in row] for row in RATIOS])
    expected = -weights * torch.tensor(ADVANTAGES)[:, None]
    assert_close(found.loss_B_T, expected * logprobs)
    assert_close(gradient, expected)


def test_gspo_by_hand():
    """GSPO's ratio is the geometric mean over a row's tokens that count; masked tokens have no part in it."""
    found, _, gradient = _loss(make_loss("gspo", eps_low=0.3, eps_high=0.4), MASK)
    means = [math.log(0.75) / 3, math.log(0.55) / 2, math.log(1.125) / 3]
    ratios = [math.exp(m) for m in means]
    expected = [_clip_by_hand(r, a, 0.7, 1.4) for r, a in zip(ratios, ADVANTAGES, strict=True)]
    assert_close(found.loss_B_T, torch.tensor(expected)[:, None].expand(3, 3))
    assert_close(gradient[0], torch.tensor([-ratios[0] * 2.0] * 3))


def test_gspo_gradient_is_that_of_the_mean_under_its_reduction():
    """Summed with 1/length the per-token form has the gradient of −s·A with s = exp(mean d)."""
    row = torch.tensor([[-1.0, -2.0, -0.5]], dtype=torch.float64)
    old = torch.tensor([[-1.1, -1.7, -0.6]], dtype=torch.float64)
    mask = torch.tensor([[True, True, True]])
    ours = row.clone().requires_grad_()
    settings_ = make_loss("gspo", eps_low=0.9, eps_high=0.9)
    policy_loss(ours, old, torch.tensor([[1.5]], dtype=torch.float64), mask, settings_).loss_B_T.mean().backward()
    plain = row.clone().requires_grad_()
    (-1.5 * (plain - old).mean().exp()).backward()
    assert_close(ours.grad, plain.grad)


def test_gspo_holds_its_ratio_below_e_to_the_10th():
    """As verl does: a row whose mean log-ratio is 15 counts with e¹⁰ where the advantage is negative and nothing clips it."""
    logprobs = torch.tensor([[-1.0, -1.0]])
    found = policy_loss(
        logprobs, logprobs - 15, torch.tensor([[-1.0]]), torch.tensor([[True, True]]), make_loss("gspo")
    )
    assert_close(found.loss_B_T, torch.full((1, 2), math.exp(10)))


def test_sequence_clip_by_hand():
    """The ratio of a whole completion is the product of its tokens' that count."""
    found, _, _ = _loss(make_loss("sequence_clip"), MASK)
    expected = [_clip_by_hand(r, a) for r, a in zip([0.75, 0.55, 1.125], ADVANTAGES, strict=True)]
    assert_close(found.loss_B_T, torch.tensor(expected)[:, None].expand(3, 3))


def test_sapo_by_hand():
    """SAPO's gate is −A·σ(τ(r−1))·4/τ, with a τ of its own where A is not positive."""

    def by_hand(r, a):
        tau = 1.0 if a > 0 else 1.05
        return -a / (1 + math.exp(-tau * (r - 1))) * 4 / tau

    found, _, gradient = _loss(make_loss("sapo"))
    assert_close(found.loss_B_T, _grid(by_hand))
    assert float(gradient[0, 1]) == pytest.approx(-2.0)  # at r = 1 the gradient is REINFORCE's: −A


def test_reinforce_by_hand():
    """REINFORCE is −A·logprob."""
    found, logprobs, gradient = _loss(make_loss("reinforce"))
    expected = -torch.tensor(ADVANTAGES)[:, None].expand(3, 3)
    assert_close(found.loss_B_T, expected * logprobs)
    assert_close(gradient, expected)


@pytest.mark.parametrize("kind", ["clip", "dual_clip", "cispo", "gspo", "sapo", "reinforce"])
def test_all_losses_agree_on_the_first_update(kind):
    """Where the policy is still the one that sampled, every loss has the gradient −A."""
    _, _, gradient = _loss(make_loss(kind), ratios=[[1.0] * 3] * 3)
    assert_close(gradient, -torch.tensor(ADVANTAGES)[:, None].expand(3, 3))


@pytest.mark.parametrize("kind", ["clip", "dual_clip", "sequence_clip", "cispo", "gspo", "sapo", "reinforce"])
@pytest.mark.parametrize("filler", [-math.inf, math.nan])
def test_padding_does_not_reach_the_gradient(kind, filler):
    """NaN and infinity in tokens that do not count leave the others' gradient as it is, and get none themselves."""
    logprobs = torch.where(MASK, OLD + 0.1, filler).requires_grad_()
    found = policy_loss(logprobs, OLD, torch.tensor(ADVANTAGES)[:, None], MASK, make_loss(kind))
    found.loss_B_T[MASK].sum().backward()
    assert torch.isfinite(logprobs.grad).all()
    assert logprobs.grad[1, 2] == 0


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["clip", "dual_clip", "sequence_clip", "cispo", "gspo", "sapo", "reinforce"]),
    st.lists(st.floats(-1e4, 0, width=32), min_size=6, max_size=6),
    st.lists(st.floats(-1e4, 0, width=32), min_size=6, max_size=6),
    st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=2),
)
def test_losses_and_gradients_stay_finite(kind, now, old, advantages):
    """However far the policy went, loss and gradient are finite."""
    logprobs = torch.tensor(now).reshape(2, 3).requires_grad_()
    mask = torch.tensor([[True, True, True], [True, False, False]])
    found = policy_loss(
        logprobs, torch.tensor(old).reshape(2, 3), torch.tensor(advantages)[:, None], mask, make_loss(kind)
    )
    found.loss_B_T.sum().backward()
    assert torch.isfinite(found.loss_B_T).all()
    assert torch.isfinite(logprobs.grad).all()
