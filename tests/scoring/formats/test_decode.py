"""Rows become rollouts."""

import json
import math
import re
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardkit.errors import UsageError
from rewardkit.scoring.columns.columns import Columns
from rewardkit.scoring.formats.decode import Decoded, decode, group_key, read_row, write_row
from rewardkit.scoring.formats.readers import Chunk


def _decode(rows: list[Any], *maps: str, explode: str = "") -> Decoded:
    raw = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    chunk = Chunk(["f"] * len(raw), range(1, len(raw) + 1), raw, range(len(raw)), len(raw))
    return decode(chunk, Columns.parse(maps, [explode]))


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(categories=None)),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(categories=None)), inner, max_size=3)
    ),
    max_leaves=8,
)


def _same(one: Any, two: Any) -> bool:
    if isinstance(one, float) and isinstance(two, float):
        return one == two or (math.isnan(one) and math.isnan(two))
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(map(_same, one, two))
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(_same(one[key], two[key]) for key in one)
    return type(one) is type(two) and one == two


@given(st.dictionaries(st.text(st.characters(categories=None)), _json, max_size=4))
def test_any_row_round_trips(row: dict[str, Any]) -> None:
    """NaN, infinities, lone surrogates, NUL and integers of any size come out as they went in."""
    read, odd = read_row(json.dumps(row).encode())
    assert _same(read, row)
    again = write_row(read, odd=odd)
    assert again.count(b"\n") == 1
    assert _same(json.loads(again), row)


def test_standard_columns() -> None:
    """Columns with a meaning become parts of the rollout; the others are its fields."""
    row = {"prompt": "p", "completion": "c", "group": 3, "num_tokens": 5, "finish_reason": "stop", "answer": "1"}
    [rollout] = _decode([row]).rollouts
    assert (rollout.prompt, rollout.completion, rollout.group) == ("p", "c", 3)
    assert (rollout.num_tokens, rollout.finish_reason, dict(rollout.fields)) == (5, "stop", {"answer": "1"})


def test_group_is_the_prompt() -> None:
    """Without a group, equal prompts are one."""
    groups = [rollout.group for rollout in _decode([{"prompt": p, "completion": "c"} for p in "aba"]).rollouts]
    assert groups[0] == groups[2] == group_key("a")
    assert groups[1] != groups[0]


def test_chat() -> None:
    """Messages are a prompt or a completion as they are."""
    chat = [{"role": "assistant", "content": "hi"}]
    [rollout] = _decode([{"prompt": [{"role": "user", "content": "hello"}], "completion": chat}]).rollouts
    assert rollout.completion_text == "hi"


@pytest.mark.parametrize(
    "completions", [["a", "b"], [[{"role": "assistant", "content": "a"}], [{"role": "assistant", "content": "b"}]]]
)
def test_list_of_completions(completions: list[Any]) -> None:
    """One row per completion, with what goes along."""
    decoded = _decode([{"prompt": "p", "completion": completions, "ok": [1, 0], "all": [8, 9]}], explode="ok")
    assert [rollout.completion_text for rollout in decoded.rollouts] == ["a", "b"]
    assert [(row["ok"], row["all"], row["completion_index"]) for row in decoded.rows] == [
        (1, [8, 9], 0),
        (0, [8, 9], 1),
    ]


def test_map_renames() -> None:
    """The row carries the new name."""
    decoded = _decode([{"q": "p", "response": "c", "x": 1}], "prompt=q", "completion=response")
    assert decoded.rows == [{"x": 1, "prompt": "p", "completion": "c"}]


def test_map_swaps() -> None:
    """Names are all taken at once, so that a column in the way can be moved."""
    decoded = _decode([{"prompt": "p", "completion": "old", "new": "c"}], "completion=new", "old=completion")
    assert decoded.rows == [{"prompt": "p", "completion": "c", "old": "old"}]


def test_map_paths() -> None:
    """Paths go into objects and lists; several make a list; what they point into stays."""
    row = {"prompt": "p", "a": {"text": "x", "ok": True}, "b": {"text": "y", "ok": False}, "m": [{"content": "z"}]}
    decoded = _decode([row], "completion=a.text,b.text", "ok=a.ok,b.ok", "last=m.-1.content", explode="ok")
    assert [(r["completion"], r["ok"], r["last"], r["a"]) for r in decoded.rows] == [
        ("x", True, "z", row["a"]),
        ("y", False, "z", row["a"]),
    ]


def test_column_with_a_dot() -> None:
    """A column's own name goes before a path."""
    assert _decode([{"prompt": "p", "a.b": "c"}], "completion=a.b").rows[0]["completion"] == "c"


def test_scored_row_is_scored_again() -> None:
    """The columns of an earlier score are replaced."""
    row = {
        "prompt": "p",
        "completion": "c",
        "reward": 1.0,
        "reward_status": "scored",
        "reward_id": "x",
        "components": {},
    }
    assert _decode([row]).rows == [{"prompt": "p", "completion": "c"}]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b'{"prompt": "p", ', "not JSON: .* at character"),
        (b"[1]", "must be a JSON object"),
        (b'"text"', "must be a JSON object"),
        (b'{"prompt": "\xff"}', "not UTF-8: byte 0xff"),
        (b"[" * 100_000, "levels deep|not JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON that can be read"),
        ({"prompt": "p"}, "no column 'completion'; columns are prompt"),
        ({"completion": "c"}, "no column 'prompt'"),
        ({"prompt": "p", "completion": None}, "is missing"),
        ({"prompt": "p", "completion": 5}, "is int 5"),
        ({"prompt": "p", "completion": []}, "empty list"),
        ({"prompt": "p", "completion": ["a", 3], "ok": [1, 2]}, "is int 3"),
        ({"prompt": "p", "completion": ["a"], "ok": [1, 2]}, "1 completions, but column 'ok' has 2 values"),
        ({"prompt": "p", "completion": ["a"]}, "'ok' is to go along"),
        ({"prompt": "p", "completion": ["a"], "ok": [1], "completion_index": 0}, "rename it"),
        ({"prompt": "p", "completion": "c", "num_tokens": "many"}, "'num_tokens' must be a whole number"),
        ({"prompt": "p", "completion": "c", "num_tokens": [1]}, "--explode num_tokens"),
        ({"prompt": "p", "completion": "c", "finish_reason": 1}, "'finish_reason' must be text"),
        ({"prompt": "p", "completion": "c", "group": [1]}, "'group' must be"),
        ({"prompt": "p", "completion": "c", "reward": 1}, "--map old_reward=reward"),
    ],
)
def test_rejected(row: Any, reason: str) -> None:
    """A row that can't be used is set aside with the reason; its neighbours are not."""
    good = {"prompt": "p", "completion": "c"}
    decoded = _decode([good, row, good], explode="ok")
    assert len(decoded.rows) == 2
    [rejected] = decoded.rejected
    assert (rejected.file, rejected.row) == ("f", 2)
    assert re.search(reason, rejected.reason)
    assert orjson.loads(rejected.line())["row"] == 2


@pytest.mark.parametrize("text", ["prompt", "=x", "a=", "a=b,,c", "reward=x"])
def test_bad_maps(text: str) -> None:
    """A --map that can't be meant is refused."""
    with pytest.raises(UsageError, match="--map"):
        Columns.parse([text])
