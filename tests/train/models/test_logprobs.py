"""Log-probs by tiles are those of log_softmax, gradients included."""

from __future__ import annotations

import pytest
import torch

from rewardkit.train.models import logprobs


@pytest.mark.parametrize("scaling", [logprobs.NO_SCALING, logprobs.LogitScaling(0.25), logprobs.LogitScaling(2.0, 3.0)])
@pytest.mark.parametrize("has_bias", [False, True])
def test_tiles_change_nothing(monkeypatch, has_bias, scaling):
    """Values, entropies and all gradients agree with torch's own operations to 1e-5."""
    torch.manual_seed(0)
    hidden = torch.randn(37, 16, requires_grad=True)
    weight = torch.randn(101, 16, requires_grad=True)
    bias = torch.randn(101, requires_grad=True) if has_bias else None
    targets = torch.randint(0, 101, (37,))
    pull = torch.randn(37)
    inputs = [item for item in (hidden, weight, bias) if item is not None]

    expected = logprobs.token_logprobs(hidden, weight, bias, targets, 0.8, scaling=scaling)
    expected_gradients = torch.autograd.grad((expected[0] * pull).sum(), inputs)
    monkeypatch.setattr(logprobs, "PLAIN_LOGITS", 0)
    monkeypatch.setattr(logprobs, "TOKENS", 10)
    monkeypatch.setattr(logprobs, "WORDS", 7)
    tiled = logprobs.token_logprobs(hidden, weight, bias, targets, 0.8, scaling=scaling)
    tiled_gradients = torch.autograd.grad((tiled[0] * pull).sum(), inputs)

    logits = scaling.scale * torch.nn.functional.linear(hidden, weight, bias)
    if scaling.cap is not None:
        logits = scaling.cap * (logits / scaling.cap).tanh()
    by_hand = (logits / 0.8).log_softmax(-1)
    assert torch.allclose(tiled[0], by_hand.gather(1, targets[:, None]).squeeze(1), atol=1e-5)
    assert torch.allclose(tiled[1], -(by_hand.exp() * by_hand).sum(-1), atol=1e-5)
    assert torch.allclose(tiled[1], expected[1], atol=1e-5)
    for one, other in zip(tiled_gradients, expected_gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_frozen_inputs_get_no_gradient(monkeypatch):
    """A frozen head costs no gradient, and the hidden states still get theirs."""
    monkeypatch.setattr(logprobs, "PLAIN_LOGITS", 0)
    hidden = torch.randn(5, 4, requires_grad=True)
    weight = torch.randn(9, 4)
    logprobs.token_logprobs(hidden, weight, None, torch.tensor([0, 1, 2, 3, 8]))[0].sum().backward()
    assert weight.grad is None
    assert hidden.grad.abs().sum() > 0
