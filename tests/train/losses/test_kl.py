# ruff: noqa: E402 - torch first, or nothing here can be imported
import math

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from torch.testing import assert_close

from rewardkit.train.losses.kl import AdaptiveKL, FixedKL, kl_estimate, sequence_kl, token_rewards

LP = torch.tensor([[-1.0, -2.0, -0.5], [-3.0, -1.0, -0.1], [-2.0, -2.0, -2.0]])
REF = torch.tensor([[-1.5, -1.0, -0.5], [-1.0, -1.5, -0.2], [-2.5, -1.5, -2.0]])
MASK = torch.tensor([[True, True, True], [True, False, False], [False, False, False]])


@pytest.mark.parametrize(
    ("kind", "by_hand"),
    [
        ("k1", lambda lp, ref: lp - ref),
        ("k2", lambda lp, ref: (lp - ref) ** 2 / 2),
        ("k3", lambda lp, ref: math.exp(ref - lp) - (ref - lp) - 1),
    ],
)
def test_estimates_by_hand(kind, by_hand):
    """k1, k2 and k3 are what their formulas say."""
    rows = zip(LP.tolist(), REF.tolist(), strict=True)
    expected = torch.tensor([[by_hand(lp, ref) for lp, ref in zip(*pair, strict=True)] for pair in rows])
    assert_close(kl_estimate(LP, REF, kind), expected)


def test_k1_and_k3_are_unbiased():
    """Over the whole distribution the mean of k1 and of k3 is the KL divergence; k2 is near it for near distributions."""
    p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    q = torch.tensor([0.45, 0.3, 0.25], dtype=torch.float64)
    truth = (p * (p / q).log()).sum()
    for kind, tolerance in (("k1", 1e-12), ("k3", 1e-12), ("k2", 1e-3)):
        assert_close((p * kl_estimate(p.log(), q.log(), kind)).sum(), truth, atol=tolerance, rtol=0)


def test_the_gradient_of_k2_is_that_of_the_kl():
    """As a term of the loss it is k2 that moves the policy as the KL divergence would, on policy."""
    logits = torch.tensor([0.3, -0.2, 0.9], dtype=torch.float64, requires_grad=True)
    q = torch.tensor([0.45, 0.3, 0.25], dtype=torch.float64)
    lp = logits.log_softmax(0)
    (true_gradient,) = torch.autograd.grad((lp.exp() * (lp - q.log())).sum(), logits, retain_graph=True)
    k2 = (lp.exp().detach() * kl_estimate(lp, q.log(), "k2")).sum()
    (gradient,) = torch.autograd.grad(k2, logits)
    assert_close(gradient, true_gradient)


def test_k3_is_bounded_and_can_be_clamped():
    """A reference that finds a token far likelier gives a finite k3; verl's clamp holds it at 10."""
    lp, ref = torch.tensor([-100.0, -100.0]), torch.tensor([-1.0, -100.0])
    assert torch.isfinite(kl_estimate(lp, ref, "k3")).all()
    assert kl_estimate(lp, ref, "k3", clamp_k3=True).tolist() == [10.0, 0.0]


def test_sequence_kl_by_hand():
    """A completion's KL is the sum over the tokens that count."""
    assert_close(sequence_kl(LP - REF, MASK), torch.tensor([0.5 - 1.0 + 0.0, -2.0, 0.0]))


def test_token_rewards_by_hand():
    """Every token pays −β·kl, and the reward stands on the last token that counts; rows without one get nothing."""
    mask = torch.tensor([[True, False, True], [True, False, False], [False, False, False]])
    kl = torch.tensor([[1.0, 9.0, 2.0], [-3.0, 9.0, math.nan], [9.0, 9.0, 9.0]])
    found = token_rewards(torch.tensor([5.0, 6.0, 7.0]), kl, mask, beta=0.1)
    assert_close(found, torch.tensor([[-0.1, 0.0, 5 - 0.2], [6 + 0.3, 0.0, 0.0], [0.0, 0.0, 0.0]]))


def test_the_adaptive_controller_by_hand():
    """β moves by the error, at most 20 %, times completions over horizon; up above the target and down below."""
    controller = AdaptiveKL(0.2, target=6.0, horizon=100)
    controller.update(kl=6.6, completions=10)  # error 0.1
    assert controller.value == pytest.approx(0.2 * (1 + 0.1 * 0.1))
    controller.update(kl=60.0, completions=10)  # error held at 0.2
    assert controller.value == pytest.approx(0.2 * 1.01 * 1.02)
    controller.update(kl=0.0, completions=50)  # error held at −0.2
    assert controller.value == pytest.approx(0.2 * 1.01 * 1.02 * 0.9)


def test_the_fixed_controller_stays():
    """β stays what it is."""
    controller = FixedKL(0.05)
    controller.update(kl=100.0, completions=100)
    assert controller.value == 0.05


@pytest.mark.parametrize("wrong", [{"target": 0.0, "horizon": 1.0}, {"target": 1.0, "horizon": -1.0}])
def test_a_controller_refuses_nonsense(wrong):
    """A target or horizon that is not above 0 would divide by it."""
    with pytest.raises(ValueError, match="above 0"):
        AdaptiveKL(0.1, **wrong)
