"""The order of rows from several sources."""

from __future__ import annotations

from collections import Counter

import pytest

from rewardkit.errors import DataError
from rewardkit.train.config import TextData
from rewardkit.train.data.batching import Order
from rewardkit.train.data.mixture import ROUND, MixtureOrder, order_of_rows

ROWS, WEIGHTS = [7, 100, 30], [2.0, 1.0, 0.5]


def source_of(row):
    """Return the number of the source of a row."""
    return sum(row >= first for first in (7, 107))


def test_each_source_has_its_share_of_any_number_of_rows():
    """To within two rows, at any position."""
    rows = list(MixtureOrder(ROWS, WEIGHTS, 0).take(0, 3 * ROUND))
    for count in (10, 100, 999, 1001, 3000):
        taken = Counter(map(source_of, rows[:count]))
        for source, weight in enumerate(WEIGHTS):
            assert abs(taken[source] - count * weight / sum(WEIGHTS)) < 2.5


def test_each_row_of_a_source_is_taken_equally_often():
    """Whatever the size of the source."""
    taken = Counter(MixtureOrder(ROWS, WEIGHTS, 0).take(0, 2 * ROUND + 17))
    for rows in (range(7), range(7, 107), range(107, 137)):
        assert max(taken[row] for row in rows) - min(taken[row] for row in rows) <= 1


def test_the_order_depends_on_the_seed_and_the_position_alone():
    """So that a run resumes in the middle of a round."""
    whole = list(MixtureOrder(ROWS, WEIGHTS, 3).take(0, 2 * ROUND))
    assert list(MixtureOrder(ROWS, WEIGHTS, 3).take(ROUND - 5, 300)) == whole[ROUND - 5 : ROUND + 295]
    assert list(MixtureOrder(ROWS, WEIGHTS, 4).take(0, 2 * ROUND)) != whole


def test_a_source_with_a_tiny_weight_is_taken():
    """Once a round, however small its share is."""
    taken = Counter(map(source_of, MixtureOrder(ROWS, [1e-9, 1.0, 1.0], 0).take(0, ROUND)))
    assert taken[0] == 1


def test_without_shuffling_each_source_is_in_its_order():
    """As in the files."""
    rows = list(MixtureOrder(ROWS, WEIGHTS, 0, shuffle=False).take(0, 30))
    assert [row for row in rows if source_of(row) == 1] == list(range(7, 7 + sum(source_of(row) == 1 for row in rows)))


def test_without_weights_rows_are_in_one_order():
    """Each row is taken equally often, whatever file it is from."""
    data = TextData(train=["a.jsonl", "b.jsonl"])
    assert list(order_of_rows(data, [3, 4], 0).take(0, 20)) == list(Order(7, 0).take(0, 20))


def test_a_source_with_a_weight_needs_usable_rows():
    """Otherwise its share could not be kept."""
    data = TextData(train=[{"path": "a.jsonl", "weight": 1}, {"path": "b.jsonl", "weight": 2}])
    with pytest.raises(DataError, match=r"b\.jsonl has a weight in data\.train, but none of its rows can be used"):
        order_of_rows(data, [3, 0], 0)
