"""Columns of files become those of rollouts."""

import json
from typing import Any

import pytest

from rewardkit.errors import DataError
from rewardkit.scoring.columns.columns import Columns
from rewardkit.scoring.columns.paths import RowError, changed_at, walk
from rewardkit.scoring.formats.decode import Decoded, decode, write_row
from rewardkit.scoring.formats.readers import Chunk

USER, ASSISTANT = {"role": "user", "content": "2+3?"}, {"role": "assistant", "content": "5"}


def decoded(row: dict[str, Any], columns: Columns) -> Decoded:
    """Decode one row."""
    return decode(Chunk(["f"], [1], [json.dumps(row).encode()], range(1), 1), columns)


def test_a_dialogue_is_split_at_its_last_turn() -> None:
    """The last assistant turn is the completion, and all turns before it are the prompt."""
    turns = [USER, {"role": "assistant", "content": "4"}, {"role": "user", "content": "Sure?"}, ASSISTANT]
    [rollout] = decoded({"messages": turns, "answer": "5"}, Columns()).rollouts
    assert (rollout.prompt, rollout.completion, dict(rollout.fields)) == (turns[:3], turns[3:], {"answer": "5"})


def test_a_dialogue_with_a_completion_is_its_prompt() -> None:
    """Where the completion has a column, the whole dialogue is the prompt."""
    [rollout] = decoded({"messages": [USER], "completion": "5"}, Columns()).rollouts
    assert (rollout.prompt, rollout.completion) == ([USER], "5")


def test_a_dialogue_that_ends_with_the_user_is_rejected() -> None:
    """There is nothing to score, and the row says so."""
    [rejected] = decoded({"messages": [ASSISTANT, USER]}, Columns()).rejected
    assert rejected.reason.startswith("'messages' ends with a turn of 'user'")


def test_every_choice_is_a_completion() -> None:
    """``*`` reads a value of each item of a list, for the completions and what goes along with them."""
    choices = [{"message": {"content": text}, "finish_reason": end} for text, end in (("5", "stop"), ("6", "length"))]
    columns = Columns.parse(
        ["completion=choices.*.message.content", "finish_reason=choices.*.finish_reason"], ["finish_reason"]
    )
    found = decoded({"prompt": "2+3?", "choices": choices}, columns).rollouts
    assert [(item.completion, item.finish_reason) for item in found] == [("5", "stop"), ("6", "length")]


def test_each_without_a_value_is_no_value() -> None:
    """An item that lacks the rest of the path makes the path one without a value."""
    assert walk([{"a": 1}, {"a": 2}], "*.a") == [1, 2]
    with pytest.raises(KeyError):
        walk([{"a": 1}, {}], "*.a")


@pytest.mark.parametrize(
    ("maps", "name", "row"),
    [
        ([], "answer", {"answer": '{"value": [1, 2]}'}),
        (["answer=gt"], "answer", {"gt": '{"value": [1, 2]}'}),
        (["answer=gt"], "gt", {"gt": '{"value": [1, 2]}'}),
        (["@verl"], "reward_model.ground_truth", {"reward_model": {"ground_truth": '{"value": [1, 2]}'}}),
        (["@verl"], "answer", {"reward_model": {"ground_truth": '{"value": [1, 2]}'}}),
    ],
)
def test_json_text_is_read(maps: list[str], name: str, row: dict[str, Any]) -> None:
    """A column of JSON text may be named as it is in the file, by a path, or by its new name."""
    [rollout] = decoded({"prompt": "p", "completion": "c", **row}, Columns.parse(maps, (), [name])).rollouts
    assert rollout.fields["answer"] == {"value": [1, 2]}


def test_broken_json_text_rejects_its_row() -> None:
    """The reason names the column, and what is there."""
    row = {"prompt": "p", "completion": "c", "answer": "{1"}
    [rejected] = decoded(row, Columns.parse((), (), ["answer"])).rejected
    assert rejected.reason.startswith("--parse answer: not JSON:")
    assert rejected.reason.endswith("'{1'")


def test_numbers_in_json_text_stay_exact() -> None:
    """Integers beyond 64 bits and NaN are written as they were read."""
    found = decoded({"prompt": "p", "completion": "c", "n": f"[{2**70}, NaN]"}, Columns.parse((), (), ["n"]))
    assert str(2**70) in (line := write_row(found.rows[0], odd=0 in found.odd).decode())
    assert "NaN" in line


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (Columns.parse(["@verl"]), "@verl knows rows by the columns reward_model, .* there is none of them"),
        (Columns.parse((), (), ["anser"]), "--parse anser: there is no such column; did you mean 'answer'"),
    ],
)
def test_options_without_effect_are_refused(columns: Columns, message: str) -> None:
    """A preset of another system's rows, and a column that is not there, are mistakes."""
    with pytest.raises(DataError, match=message):
        columns.refuse_without_effect([{"prompt": "p", "completion": "c", "answer": "5"}], "f.jsonl")


def test_runs_with_other_options_are_other_jobs() -> None:
    """Preset and parsed columns are part of what a resumed run compares; without them its record is as it always was."""
    assert Columns.parse(["@verl"], (), ["answer"]).identity() == {
        "map": {},
        "explode": [],
        "preset": "verl",
        "parse": ["answer"],
    }
    assert Columns().identity() == {"map": {}, "explode": []}


def test_changing_a_value_leaves_the_row_alone() -> None:
    """A nested value is changed in a copy."""
    row = {"a": [{"b": "1"}, {"b": "2"}]}
    assert changed_at(row, "a.*.b", int) == {"a": [{"b": 1}, {"b": 2}]}
    assert changed_at(row, "a.1.b", int) == {"a": [{"b": "1"}, {"b": 2}]}
    assert row == {"a": [{"b": "1"}, {"b": "2"}]}
    with pytest.raises(RowError):
        Columns.parse(["prompt=a.2.b"]).rename(row)
