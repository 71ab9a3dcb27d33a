"""Decoding a chunk by columns gives what decoding it row by row gives."""

import json
import pickle
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardkit import Rollout
from rewardkit.read_only import ReadOnlyDict
from rewardkit.scoring.columns.columns import Columns
from rewardkit.scoring.formats import decode as decoding
from rewardkit.scoring.formats.decode import Decoded, decode
from rewardkit.scoring.formats.decode_columns import alike_rows
from rewardkit.scoring.formats.readers import Chunk

ROW = {"prompt": "p", "completion": "c"}
_texts = st.sampled_from(["", "a", " ", "nan", "None", "stop"])
_values = {
    "prompt": _texts | st.just([{"role": "user", "content": "hi"}]) | st.none(),
    "completion": _texts | st.just([{"role": "assistant", "content": "hi"}]) | st.just(["a", "b"]) | st.just(5),
    "group": _texts | st.integers(0, 3) | st.none() | st.just(2.0) | st.just([1]),
    "num_tokens": st.integers(0, 9) | st.none() | st.just(3.0) | st.just("3") | st.just(True),
    "finish_reason": _texts | st.none() | st.just(1),
    "answer": _texts | st.integers() | st.floats() | st.none() | st.just({"a": [1, {}]}),
    "reward": st.none(),
}


@st.composite
def _chunks(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Rows of which most are alike."""
    names = ["prompt", "completion", *draw(st.lists(st.sampled_from(list(_values)[2:]), unique=True, max_size=4))]
    usual = {name: draw(_values[name]) for name in names}
    rows = []
    for _ in range(draw(st.integers(1, 4))):
        row = dict(usual)
        for name in draw(st.lists(st.sampled_from(names), unique=True, max_size=1)):
            row[name] = draw(_values[name])
        if draw(st.integers(0, 9)) == 0:
            row.pop(draw(st.sampled_from(names)))
        rows.append(row)
    return rows


def _chunk(rows: list[Any]) -> Chunk:
    return Chunk(["f"] * len(rows), range(1, len(rows) + 1), rows, range(len(rows)), len(rows))


def _row_by_row(rows: list[Any], paths: tuple[str, ...] = ()) -> Decoded:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "_decode_alike", lambda *_: None)
        return decode(_chunk(rows), Columns(), paths)


def _told(decoded: Decoded) -> list[Any]:
    """What is compared: texts, since NaN is equal to nothing."""
    kinds = [(type(rollout), type(rollout.fields)) for rollout in decoded.rollouts]
    return [repr(decoded.rows), repr(decoded.rollouts), kinds, list(decoded.sources), decoded.odd, decoded.rejected]


@given(_chunks(), st.booleans(), st.sampled_from([(), ("answer.a",)]))
def test_both_ways_give_the_same(rows: list[dict[str, Any]], as_lines: bool, paths: tuple[str, ...]) -> None:
    """Rows, rollouts, sources, rows that orjson can't write, and what is rejected and why."""
    raw: list[Any] = [json.dumps(row).encode() for row in rows] if as_lines else rows
    assert _told(decode(_chunk(raw), Columns(), paths)) == _told(_row_by_row(raw, paths))


@pytest.mark.parametrize(
    "line",
    [
        b"{broken",
        b"[1]",
        b'{"prompt": "p", "completion": "\\ud800"}',
        b'{"prompt": "p", "completion": "c", "x": 1e400}',
        b'{"prompt": "p", "completion": "c", "x": 18446744073709551616}',
        b'{"prompt": "p", "completion": "c", "x": NaN}',
        b'{"prompt": "p", "completion": "c", "x": ' + b"[" * 300 + b"]" * 300 + b"}",
        b'{"prompt": "p"}',
        b'{"completion": "c", "prompt": "p"}',
        b'{"prompt": "p", "completion": "c", "prompt": "q"}',
        b"\xff",
    ],
)
def test_an_odd_line_changes_nothing_for_its_neighbours(line: bytes) -> None:
    """Wherever it stands, the chunk is read as it is row by row."""
    usual = orjson.dumps(ROW)
    for raw in ([line, usual], [usual, line, usual]):
        assert _told(decode(_chunk(raw), Columns())) == _told(_row_by_row(raw))


def test_usual_rows_go_by_columns() -> None:
    """Rows of equal columns are handed on with their columns, and need no look at each."""
    decoded = decode(_chunk([orjson.dumps({**ROW, "answer": index}) for index in range(3)]), Columns())
    assert decoded.alike is not None
    assert decoded.alike.columns["answer"] == (0, 1, 2)


def test_the_rollouts_are_rollouts() -> None:
    """They are equal to those made one by one, frozen, and can be pickled."""
    [made] = decode(_chunk([orjson.dumps({**ROW, "answer": "1", "num_tokens": 4})]), Columns()).rollouts
    assert made == Rollout("p", "c", {"answer": "1"}, decoding.group_key("p"), 4, None)
    assert type(made.fields) is ReadOnlyDict
    with pytest.raises(AttributeError):
        made.prompt = "q"  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(made)) == made  # noqa: S301


def test_rows_without_two_columns_are_left_to_the_row_by_row_way() -> None:
    """A row of one column can't be scored, and no rows have no columns."""
    assert alike_rows([]) is None
    assert alike_rows([b'{"prompt": "p"}']) is None
