"""The sizes of the parts of a process's memory, as pure functions."""

import pytest

from rewardkit.train.preflight.memory_estimate import (
    TILE,
    Memory,
    MicroBatch,
    Weights,
    head_bytes,
    held_by_process,
    largest_micro_batch,
    moment_bytes,
    sampling_bytes,
    step_bytes,
)


@pytest.mark.parametrize(
    ("lengths", "rows", "most_tokens", "expected"),
    [
        ([100] * 9, 64, 1000, MicroBatch(10, 100, 40)),
        ([100] * 9, 4, 1000, MicroBatch(4, 100, 40)),
        ([2000], 4, 1000, MicroBatch(1, 2000, 40)),
        ([10] * 9 + [600], 1000, 1200, MicroBatch(2, 600, 40)),
        ([10] * 9 + [601], 1000, 1202 + 600, MicroBatch(2, 601, 40)),
    ],
)
def test_the_largest_micro_batch_keeps_the_limit_of_tokens(lengths, rows, most_tokens, expected):
    """As many of the longest rows as fit, at least one, and no more than a step has."""
    assert largest_micro_batch(lengths, 40, rows, most_tokens) == expected


def test_moments_take_eight_bytes_and_in_eight_bits_two():
    """AdamW has two float32 moments for each trained weight."""
    assert moment_bytes(1000) == 8000
    assert moment_bytes(1000, "adamw_8bit") == pytest.approx(2000, rel=0.02)


def test_only_batched_operations_need_memory_for_a_step():
    """The fused kernel has no temporary tensors."""
    assert (step_bytes(1000), step_bytes(1000, "adamw_foreach")) == (0, 4000)


def test_a_sharded_process_holds_its_part_and_the_gathered_layers():
    """One layer computes while the next is gathered, and embeddings are gathered during the whole pass."""
    weights = Weights(held=1000, trained=250, largest_layer=50, outside=100)
    assert held_by_process(weights, 4, sharded=False) == 1000
    assert held_by_process(weights, 4, sharded=True) == 250 + 100 + 2 * 50


def test_logits_take_no_more_than_their_budget():
    """A small vocabulary is computed at once, with further tensors of the logits' size; of a large one logits are kept besides a tile."""
    sizes = {"compute": 4, "budget": 10**6, "plain": 10**5, "is_lent": True}
    assert head_bytes(10, 4, 100, trains_head=True, **sizes) == 4 * 4 * 10 * 100 + 16 * 10 * 4
    assert head_bytes(10, 4, 2 * 10**4, trains_head=True, **sizes) == TILE + 4 * 10 * 2 * 10**4 + 16 * 10 * 4
    assert head_bytes(10**4, 4, 10**5, trains_head=True, **sizes) == TILE + 10**6 + 16 * 10**4 * 4
    assert head_bytes(10**4, 4, 10**5, trains_head=False, **sizes) == TILE + 16 * 10**4 * 4


def test_logits_are_kept_in_the_compute_type():
    """The budget counts numbers of float32, so in bfloat16 as many logits take half of it."""
    found = head_bytes(10**4, 4, 10**5, compute=2, budget=10**6, plain=10**5, trains_head=True, is_lent=True)
    assert found == TILE + 10**6 // 2 + 12 * 10**4 * 4


def test_the_cache_of_generation_grows_with_rows_and_length():
    """Keys and values of all tokens of all completions that are sampled at once."""
    assert sampling_bytes(8, 100, 512, 1, compute=2)["generation cache"] == 8 * 100 * 512 * 2


def test_the_peak_is_that_of_the_largest_phase():
    """Parts of other phases do not exist at the same time, and empty parts are not shown."""
    memory = Memory({"weights": 5, "moments": 0}, {"update": {"gradients": 5}, "sampling": {"cache": 7}})
    assert (memory.peak, memory.largest_phase, memory.peak_parts) == (12, "sampling", {"weights": 5, "cache": 7})
