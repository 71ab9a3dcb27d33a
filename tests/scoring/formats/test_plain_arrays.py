"""Arrays from Python's own buffers are those that pyarrow makes."""

import subprocess
import sys
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardkit.scoring.formats.plain_arrays import constant_numbers, constant_texts, plain_array

_columns = (
    st.lists(st.text())
    | st.lists(st.none() | st.text()).filter(any)
    | st.lists(st.integers(-(2**63), 2**63 - 1))
    | st.lists(st.floats(allow_nan=False))
)


@given(_columns.filter(bool))
def test_the_array_is_the_one_that_pyarrow_makes(values: list[Any]) -> None:
    """Texts of any characters, integers of 64 bits and floats; their buffers are valid."""
    made = plain_array(values, set(map(type, values)), None)
    assert made is not None
    made.validate(full=True)
    assert made.equals(pa.array(values))


@pytest.mark.parametrize("values", [[], [None], [1, None], [1, 2.0], [True], [2**63], [b"a"], [[1]]])
def test_anything_else_is_left_to_pyarrow(values: list[Any]) -> None:
    """None, values of several types, and integers beyond 64 bits."""
    assert plain_array(values, set(map(type, values)), None) is None


def test_another_type_is_left_to_pyarrow() -> None:
    """A type that the column must have is never ignored."""
    assert plain_array([1], {int}, pa.int32()) is None
    assert plain_array(["a"], {str}, pa.large_string()) is None


def test_lone_surrogates_are_refused() -> None:
    """As pyarrow refuses them."""
    with pytest.raises(UnicodeEncodeError):
        plain_array(["\ud800"], {str}, None)


def test_constants() -> None:
    """One value, as often as asked for."""
    assert constant_texts("é", 2).equals(pa.array(["é", "é"]))
    assert constant_numbers(0.5, 3).equals(pa.array([0.5] * 3))
    assert constant_texts("a", 0).equals(pa.array([], pa.string()))


def test_usual_rows_need_no_pandas() -> None:
    """Scoring texts and numbers into Parquet imports no pandas, which takes memory in each process."""
    code = """
import sys
from rewardkit import Rollout, Score, ScoredRollout
from rewardkit.scoring.columns.columns import Columns
from rewardkit.scoring.formats.decode import decode
from rewardkit.scoring.formats.encode import arrow_table, score_columns
from rewardkit.scoring.formats.readers import Chunk
rows = [b'{"prompt": "p", "completion": "c", "id": 1}'] * 3
decoded = decode(Chunk(["f"] * 3, range(1, 4), rows, range(3), 3), Columns())
scored = [ScoredRollout(item, 1.0, {"a": Score(1.0)}, {"a": 1.0}, {"a": 1.0}, "id") for item in decoded.rollouts]
assert arrow_table(decoded, score_columns(scored, ["a"], ["f"] * 3), {}, ["f"] * 3).batch.num_rows == 3
assert "pandas" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
