"""Log-probs by tiles are those of log_softmax, gradients included."""

from __future__ import annotations

import pytest
import torch

from rewardkit.train.models import logprobs
from rewardkit.train.models.logprobs import TileSize

ROWS, WIDTH, WORDS = 37, 16, 101


def use_tiles(monkeypatch, kept_rows=0):
    """Divide logits into small tiles, and keep those of some tokens for the backward pass."""
    monkeypatch.setattr(logprobs, "PLAIN_LOGITS", 0)
    monkeypatch.setattr(TileSize, "fitting", lambda *_: TileSize(10, 7, kept_rows * WORDS))


def by_hand(hidden, weight, bias, targets, scaling):
    """Log-probs at temperature 0.8 and entropies by torch's own operations, in float64."""
    logits = scaling.scale * torch.nn.functional.linear(hidden, weight, bias)
    if scaling.cap is not None:
        logits = scaling.cap * (logits / scaling.cap).tanh()
    found = (logits / 0.8).log_softmax(-1)
    return found.gather(1, targets[:, None]).squeeze(1), -(found.exp() * found).sum(-1)


@pytest.mark.parametrize("scaling", [logprobs.NO_SCALING, logprobs.LogitScaling(0.25), logprobs.LogitScaling(2.0, 3.0)])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("case", ["frozen head", "kept", "kept in part", "made again", "one product"])
def test_tiles_change_nothing(monkeypatch, case, has_bias, scaling):
    """Values, entropies and all gradients agree with torch's own operations to 1e-5, wherever the backward pass has its logits from."""
    torch.manual_seed(0)
    trains_head = case != "frozen head"
    hidden = torch.randn(ROWS, WIDTH, requires_grad=True)
    weight = torch.randn(WORDS, WIDTH, requires_grad=trains_head)
    bias = torch.randn(WORDS, requires_grad=trains_head) if has_bias else None
    targets = torch.randint(0, WORDS, (ROWS,))
    pull = torch.randn(ROWS)
    if case != "one product":
        use_tiles(monkeypatch, {"kept": ROWS, "kept in part": 13}.get(case, 0))

    found = logprobs.token_logprobs(hidden, weight, bias, targets, 0.8, scaling=scaling)
    inputs = [item for item in (hidden, weight, bias) if item is not None and item.requires_grad]
    gradients = torch.autograd.grad((found[0] * pull).sum(), inputs)

    exact = [None if item is None else item.detach().double() for item in (hidden, weight, bias)]
    exact_inputs = [item.requires_grad_() for item in exact if item is not None][: len(inputs)]
    expected = by_hand(*exact, targets, scaling)
    expected_gradients = torch.autograd.grad((expected[0] * pull).sum(), exact_inputs)
    for one, other in zip((*found, *gradients), (*expected, *expected_gradients), strict=True):
        assert torch.allclose(one.double(), other, atol=1e-5)


def test_a_frozen_head_needs_no_logits_in_the_backward_pass(monkeypatch):
    """The gradient of the hidden states is known after the forward pass, and the head gets none."""
    use_tiles(monkeypatch)
    hidden = torch.randn(5, 4, requires_grad=True)
    weight = torch.randn(9, 4)
    found = logprobs.token_logprobs(hidden, weight, None, torch.tensor([0, 1, 2, 3, 8]))[0].sum()
    monkeypatch.setattr(torch.nn.functional, "linear", None)
    found.backward()
    assert weight.grad is None
    assert hidden.grad.abs().sum() > 0


def test_kept_logits_are_not_made_again(monkeypatch):
    """Logits that fit in the budget are made once."""
    use_tiles(monkeypatch, kept_rows=ROWS)
    hidden, weight = torch.randn(ROWS, WIDTH, requires_grad=True), torch.randn(WORDS, WIDTH, requires_grad=True)
    found = logprobs.token_logprobs(hidden, weight, None, torch.zeros(ROWS, dtype=torch.long))[0].sum()
    monkeypatch.setattr(torch.nn.functional, "linear", None)
    found.backward()
    assert weight.grad.abs().sum() > 0


def test_gradients_are_added_to_those_of_other_micro_batches(monkeypatch):
    """With ``add_to_grad`` the head's gradients of two backward passes are the sum that autograd makes of them."""
    use_tiles(monkeypatch, kept_rows=13)
    hidden, targets = torch.randn(ROWS, WIDTH), torch.randint(0, WORDS, (ROWS,))

    def gradient(*, add_to_grad):
        weight = torch.nn.Parameter(torch.linspace(-1, 1, WORDS * WIDTH).view(WORDS, WIDTH))
        for part in (slice(0, 20), slice(20, ROWS)):
            found = logprobs.token_logprobs(hidden[part], weight, None, targets[part], add_to_grad=add_to_grad)
            found[0].sum().backward()
        return weight.grad

    assert torch.allclose(gradient(add_to_grad=True), gradient(add_to_grad=False), atol=1e-5)


@pytest.mark.parametrize("trains_head", [True, False])
def test_bfloat16_gradients_are_exact_to_three_thousandths(monkeypatch, trains_head):
    """Products of many tiles are summed in float32, also where the target is almost certain."""
    torch.manual_seed(0)
    hidden, weight, targets = torch.randn(64, 32), torch.randn(4096, 32) / 5, torch.randint(0, 4096, (64,))
    hidden[:8] = 3 * weight[targets[:8]] / weight[targets[:8]].norm(dim=-1, keepdim=True).square() * 8
    rounded = [value.bfloat16().float() for value in (hidden, weight)]
    pull = torch.randn(64)
    monkeypatch.setattr(logprobs, "PLAIN_LOGITS", 0)
    monkeypatch.setattr(TileSize, "fitting", lambda *_: TileSize(8, 64, 0))

    def gradients(dtype):
        own = [value.clone() for value in rounded]
        for value, is_trained in zip(own, (True, trains_head), strict=True):
            value.requires_grad_(is_trained)
        found, _ = logprobs.token_logprobs(*own, None, targets, compute_dtype=dtype)
        (found * pull).sum().backward()
        return [value.grad for value in own if value.requires_grad]

    for found, exact in zip(gradients(torch.bfloat16), gradients(torch.float32), strict=True):
        assert (found - exact).norm() <= 0.003 * exact.norm()


@pytest.mark.parametrize("words", [WORDS, logprobs.WORDS + 5])
def test_logits_of_a_large_vocabulary_are_those_of_one_product(words):
    """They are computed in tiles, the last of which is smaller."""
    torch.manual_seed(0)
    hidden, weight, bias = torch.randn(3, WIDTH), torch.randn(words, WIDTH), torch.randn(words)
    for own in (None, bias):
        expected = torch.nn.functional.linear(hidden, weight, own)
        assert torch.allclose(logprobs.next_logits(hidden, weight, own), expected, atol=1e-5)
