# ruff: noqa: E402 - torch first, or nothing here can be imported
import math

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from torch.testing import assert_close

from rewardkit.train.losses.preference import bradley_terry, dpo, sequence_logprobs, step_cross_entropy

CHOSEN = torch.tensor([-5.0, -6.0, -7.0])
REJECTED = torch.tensor([-6.0, -5.0, -7.5])
REF_CHOSEN = torch.tensor([-5.5, -5.5, -7.0])
REF_REJECTED = torch.tensor([-5.5, -5.5, -7.0])


def _softplus(x):
    return math.log1p(math.exp(x))


def test_bradley_terry_by_hand():
    """−log σ of the lead, less the margin, plus the centring."""
    chosen, rejected = torch.tensor([1.0, 0.0, -2.0]), torch.tensor([0.0, 0.0, 1.0])
    assert_close(bradley_terry(chosen, rejected), torch.tensor([_softplus(-1), math.log(2), _softplus(3)]))
    margin = torch.tensor([0.5, 0.0, 1.0])
    expected = [_softplus(-0.5) + 0.1 * 1, math.log(2), _softplus(4) + 0.1 * 1]
    assert_close(bradley_terry(chosen, rejected, margin, centring=0.1), torch.tensor(expected))


def test_bradley_terry_is_finite_far_out():
    """A lead of thousands gives a finite loss with the right gradient."""
    chosen = torch.tensor([-5000.0, 5000.0], requires_grad=True)
    loss = bradley_terry(chosen, torch.zeros(2))
    loss.sum().backward()
    assert_close(loss.detach(), torch.tensor([5000.0, 0.0]))
    assert_close(chosen.grad, torch.tensor([-1.0, 0.0]))


def test_sequence_logprobs_by_hand():
    """The sum, or the mean, over the tokens that count; a row of none gets 0."""
    logprobs = torch.tensor([[-1.0, -2.0, -3.0], [-4.0, -math.inf, -6.0], [-1.0, -1.0, -1.0]])
    mask = torch.tensor([[True, True, True], [True, False, True], [False, False, False]])
    assert_close(sequence_logprobs(logprobs, mask), torch.tensor([-6.0, -10.0, 0.0]))
    assert_close(sequence_logprobs(logprobs, mask, average=True), torch.tensor([-2.0, -5.0, 0.0]))


@pytest.mark.parametrize(
    ("kind", "by_hand"),
    [
        ("sigmoid", lambda h: _softplus(-0.5 * h)),
        ("ipo", lambda h: (h - 1.0) ** 2),
        ("hinge", lambda h: max(0.0, 1 - 0.5 * h)),
    ],
)
def test_dpo_by_hand(kind, by_hand):
    """Each kind makes its loss of h, the lead over the reference (β = 0.5)."""
    found = dpo(CHOSEN, REJECTED, REF_CHOSEN, REF_REJECTED, beta=0.5, kind=kind)
    assert_close(found.loss_P, torch.tensor([by_hand(h) for h in (1.0, -1.0, 0.5)]))
    assert_close(found.chosen_rewards_P, torch.tensor([0.25, -0.25, 0.0]))
    assert_close(found.rejected_rewards_P, torch.tensor([-0.25, 0.25, -0.25]))
    assert found.accuracy == pytest.approx(2 / 3)


def test_label_smoothing_by_hand():
    """ε of the pairs are believed to be labelled the wrong way round."""
    found = dpo(CHOSEN, REJECTED, REF_CHOSEN, REF_REJECTED, beta=0.5, label_smoothing=0.1)
    expected = [0.9 * _softplus(-0.5 * h) + 0.1 * _softplus(0.5 * h) for h in (1.0, -1.0, 0.5)]
    assert_close(found.loss_P, torch.tensor(expected))


def test_the_reference_gets_no_gradient():
    """Only the policy learns."""
    chosen, ref = CHOSEN.clone().requires_grad_(), REF_CHOSEN.clone().requires_grad_()
    dpo(chosen, REJECTED, ref, REF_REJECTED).loss_P.sum().backward()
    assert chosen.grad is not None
    assert ref.grad is None


def test_label_smoothing_expects_swapped_pairs():
    """With ε = 0.25, a difference of 2 costs three quarters of −log σ(2) and a quarter of −log σ(−2)."""
    (loss,) = bradley_terry(torch.tensor([3.0]), torch.tensor([1.0]), label_smoothing=0.25).tolist()
    right, wrong = math.log1p(math.exp(-2)), math.log1p(math.exp(2))
    assert loss == pytest.approx(0.75 * right + 0.25 * wrong, abs=1e-6)


def test_step_cross_entropy_by_hand():
    """Labels may be probabilities, and label smoothing moves them towards a half."""
    loss = step_cross_entropy(torch.tensor([2.0, 2.0, 2.0]), torch.tensor([1.0, 0.0, 0.5])).tolist()
    right, wrong = math.log1p(math.exp(-2)), math.log1p(math.exp(2))
    assert loss == pytest.approx([right, wrong, (right + wrong) / 2], abs=1e-6)
    (smooth,) = step_cross_entropy(torch.tensor([2.0]), torch.tensor([1.0]), label_smoothing=0.25).tolist()
    assert smooth == pytest.approx(0.75 * right + 0.25 * wrong, abs=1e-6)
