"""Rows are shared out evenly, and packed into micro-batches that keep the limit of tokens."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewardkit.train.data import batching
from rewardkit.train.data.batching import (
    LONGEST_LINE,
    PackedRows,
    first_fit,
    own_micro_batches,
    packed_micro_batches,
    share_rows,
)

ROWS = st.lists(st.lists(st.integers(1, 40), min_size=2, max_size=2), max_size=40)


@given(st.lists(st.integers(1, 100), min_size=1, max_size=60), st.integers(1, 5))
def test_shares_differ_by_at_most_one_row(lengths, processes):
    """Every row is in one share, and no process has more tokens than another one by more than the longest row."""
    shares = share_rows(lengths, processes)
    assert sorted(row for share in shares for row in share) == list(range(len(lengths)))
    tokens = [sum(lengths[row] for row in share) for share in shares]
    assert max(tokens) - min(tokens) <= max(lengths)


@given(ROWS, st.integers(1, 200))
@settings(deadline=None)
def test_packed_micro_batches_hold_every_row_once_within_the_limit(rows, most):
    """``first_fit`` packs the sequences of a micro-batch as planned. Only a single row may be larger than the limit."""
    parts = packed_micro_batches(rows, most)
    assert sorted(row for part in parts for row in part) == list(range(len(rows)))
    for part in parts:
        lengths = [length for row in part for length in rows[row]]
        assert len(part) == 1 or len(first_fit(lengths, max(lengths))) * max(lengths) <= most


def test_packing_needs_fewer_tokens_than_padding():
    """Short rows fill the lines of long ones."""
    rows = [[20 + row * 149 % 480] for row in range(64)]
    lengths = [row[0] for row in rows]
    padded = sum(len(part) * lengths[part[0]] for part in own_micro_batches(lengths, 4096)[0])
    packed = 0
    for part in own_micro_batches(lengths, 4096, PackedRows(rows, one_line=False))[0]:
        own = [lengths[row] for row in part]
        packed += len(first_fit(own, max(own))) * max(own)
    assert sum(lengths) <= packed < 0.93 * padded


def test_one_line_holds_whole_rows_up_to_the_limit(monkeypatch):
    """Without padding, micro-batches of all processes together are as many as the tokens need."""
    rows = [[7, 3], [5, 5], [2, 2], [4, 1], [1, 1]]
    monkeypatch.setattr(batching, "size", lambda: 2)
    found = []
    for rank in range(2):
        monkeypatch.setattr(batching, "rank", lambda rank=rank: rank)
        parts, idle = own_micro_batches([14, 10, 4, 8, 2], 16, PackedRows(rows, one_line=True))
        assert idle == 0
        assert all(sum(sum(rows[row]) for row in part) <= 16 for part in parts)
        found += parts
    assert sorted(row for part in found for row in part) == [0, 1, 2, 3, 4]
    assert len(found) == 2


def test_rows_with_a_very_long_one_are_planned_as_padded():
    """As the model gets them, so that the limit holds."""
    packed = PackedRows([[LONGEST_LINE + 1], [100], [100]], one_line=False)
    assert own_micro_batches([LONGEST_LINE + 1, 100, 100], 2 * LONGEST_LINE + 2, packed)[0] == [[0, 1], [2]]


@pytest.mark.parametrize("rows", [0, 1])
def test_few_rows(rows):
    """An empty batch has no micro-batches, and a single row is one."""
    lengths = [9] * rows
    assert own_micro_batches(lengths, 4, PackedRows([[9]] * rows, one_line=False)) == ([[0]] * rows, 0)
