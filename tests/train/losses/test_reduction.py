# ruff: noqa: E402 - torch first, or nothing here can be imported
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from rewardkit.train.config.algorithms import make_loss
from rewardkit.train.losses.policy_loss import policy_loss
from rewardkit.train.losses.reduction import BatchTotals, token_weights, weighted_loss

LOSS = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
MASK = torch.tensor([[True, True, False], [True, True, True], [False, False, False]])


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [
        ("grpo", ((1 + 2) / 2 + (4 + 5 + 6) / 3 + 0) / 3),
        ("bnpo", (1 + 2 + 4 + 5 + 6) / 5),
        ("dapo", (1 + 2 + 4 + 5 + 6) / 5),
        ("dr_grpo", (1 + 2 + 4 + 5 + 6) / (3 * 10)),
    ],
)
def test_reductions_by_hand(reduction, expected):
    """Σ l·w is the loss that the reduction names; a fully masked row stays in the number of rows."""
    weights = token_weights(MASK, BatchTotals.of(MASK), reduction, max_completion_length=10)
    assert_close(weighted_loss(LOSS, weights), torch.tensor(expected))


def test_a_row_of_one_token_counts_as_much_as_any_other():
    """GRPO means over a row's tokens, be there one or many."""
    mask = torch.tensor([[True, False], [True, True]])
    weights = token_weights(mask, BatchTotals.of(mask), "grpo")
    assert_close(weights, torch.tensor([[1 / 2, 0.0], [1 / 4, 1 / 4]]))


def test_dapo_divides_by_the_generation_batch():
    """Given the totals of a larger batch, a step weighs its tokens by those."""
    weights = token_weights(MASK, BatchTotals(rows=6, tokens=20), "dapo")
    assert_close(weighted_loss(LOSS, weights), torch.tensor(18 / 20))


def test_nothing_counts():
    """A batch of which no token counts has loss 0, not NaN, also where the losses are NaN."""
    nothing = torch.zeros_like(MASK)
    for reduction in ("grpo", "bnpo", "dapo", "dr_grpo"):
        weights = token_weights(nothing, BatchTotals.of(nothing), reduction, max_completion_length=3)
        assert float(weighted_loss(LOSS * float("nan"), weights)) == 0.0


def test_dr_grpo_needs_its_length():
    """Without the length the error names it."""
    with pytest.raises(ValueError, match="max_completion_length"):
        token_weights(MASK, BatchTotals.of(MASK), "dr_grpo")


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_the_gradient_does_not_depend_on_the_cut(data):
    """Cut into any micro-batches in any order, the gradients add up to those of the whole batch, for every loss and reduction."""
    rows, columns = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 5))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 10_000)))
    mask = torch.rand(rows, columns, generator=generator) < 0.7
    old = -torch.rand(rows, columns, generator=generator, dtype=torch.float64) * 3
    start = old + 0.4 * torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    advantages = torch.randn(rows, 1, generator=generator, dtype=torch.float64)
    reduction = data.draw(st.sampled_from(["grpo", "bnpo", "dapo", "dr_grpo"]))
    kind = data.draw(st.sampled_from(["clip", "dual_clip", "sequence_clip", "cispo", "gspo", "sapo", "reinforce"]))
    chosen = make_loss(kind)
    owner = torch.tensor(data.draw(st.lists(st.integers(0, 3), min_size=rows, max_size=rows)))

    whole = start.clone().requires_grad_()
    weights = token_weights(mask, BatchTotals.of(mask), reduction, max_completion_length=columns)
    weighted_loss(policy_loss(whole, old, advantages, mask, chosen).loss_B_T, weights).backward()

    cut = start.clone().requires_grad_()
    parts = [owner == part for part in owner.unique()]
    totals = sum((BatchTotals.of(mask[part]) for part in parts), BatchTotals(0, 0))
    for part in parts:
        part_weights = token_weights(mask[part], totals, reduction, max_completion_length=columns)
        loss = policy_loss(cut[part], old[part], advantages[part], mask[part], chosen).loss_B_T
        weighted_loss(loss, part_weights).backward()
    assert_close(cut.grad, whole.grad, atol=1e-7, rtol=1e-6)
