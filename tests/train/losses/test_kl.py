# ruff: noqa: E402 - torch first, or nothing here can be imported
import math

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from torch.testing import assert_close

from rewardkit.train.losses.kl import AdaptiveKL, FixedKL, kl_estimate, kl_loss, sequence_kl, token_rewards

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


def categorical(seed, size=50, spread=1.0):
    """Return the logits of a policy, with gradient, and the log-probabilities of a reference."""
    generator = torch.Generator().manual_seed(seed)
    reference = torch.randn(size, generator=generator, dtype=torch.float64)
    logits = reference + spread * torch.randn(size, generator=generator, dtype=torch.float64)
    return logits.requires_grad_(), reference.log_softmax(0)


def kl_gradient(logits, ref):
    """Return the gradient of KL(policy ‖ reference), summed over the vocabulary."""
    lp = logits.log_softmax(0)
    return torch.autograd.grad((lp.exp() * (lp - ref)).sum(), logits)[0]


def gradient_in_the_loss(logits, ref, old, term):
    """Return the expected gradient of a term of the loss, with tokens drawn from the policy ``old``."""
    return torch.autograd.grad((old.exp() * term(logits.log_softmax(0), ref, old)).sum(), logits)[0]


def gradient_in_the_reward(logits, ref, kind):
    """Return the expected policy gradient of a part of the reward, with tokens drawn from the policy."""
    lp = logits.log_softmax(0)
    score = lp.exp().detach() * kl_estimate(lp, ref, kind).detach()
    return torch.autograd.grad((score * lp).sum(), logits)[0]


@pytest.mark.parametrize("spread", [0.1, 0.3, 1.0, 3.0])
@pytest.mark.parametrize("kind", ["k2", "k3"])
def test_in_the_loss_the_expected_gradient_is_that_of_the_kl(kind, spread):
    """For k2, and for k3 with the ratio, near the reference and far from it."""
    logits, ref = categorical(0, spread=spread)
    on_policy = logits.detach().log_softmax(0)
    found = gradient_in_the_loss(logits, ref, on_policy, lambda lp, ref, old: kl_loss(lp, old, ref, kind))
    assert_close(found, kl_gradient(logits, ref))


def test_in_the_loss_k3_with_the_ratio_stays_unbiased_over_several_updates():
    """With tokens from an earlier policy it still has the gradient of the current policy's KL divergence, which k2 has not."""
    logits, ref = categorical(1)
    old = categorical(2)[0].detach().log_softmax(0)
    found = {
        kind: gradient_in_the_loss(logits, ref, old, lambda lp, ref, old, kind=kind: kl_loss(lp, old, ref, kind))
        for kind in ("k2", "k3")
    }
    assert_close(found["k3"], kl_gradient(logits, ref))
    assert not torch.allclose(found["k2"], kl_gradient(logits, ref), rtol=0.1)


def test_in_the_reward_the_expected_gradient_of_k1_is_that_of_the_kl():
    """The constant that is missing from it has an expected gradient of 0."""
    logits, ref = categorical(3)
    assert_close(gradient_in_the_reward(logits, ref, "k1"), kl_gradient(logits, ref))


def test_what_the_configuration_refuses_has_a_wrong_expected_gradient():
    """k1 in the loss: 0. k2 and k3 in the reward: near the reference less than a tenth of the right size.

    k3 in the loss without the ratio has the gradient of KL(reference ‖ policy).
    """
    logits, ref = categorical(4, spread=0.1)
    right = kl_gradient(logits, ref)
    on_policy = logits.detach().log_softmax(0)
    k1 = gradient_in_the_loss(logits, ref, on_policy, lambda lp, ref, _old: kl_estimate(lp, ref, "k1"))
    assert k1.norm() < 1e-12
    for kind in ("k2", "k3"):
        assert gradient_in_the_reward(logits, ref, kind).norm() < 0.1 * right.norm()
    plain = gradient_in_the_loss(logits, ref, on_policy, lambda lp, ref, _old: kl_estimate(lp, ref, "k3"))
    other_direction = on_policy.exp() - ref.exp()
    assert_close(plain, other_direction)


def test_k1_is_refused_in_the_loss():
    """Its gradient would be 0."""
    with pytest.raises(ValueError, match="expected gradient of 0"):
        kl_loss(LP, LP, REF, "k1")


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
