"""Reading what ``rewardkit score`` wrote."""

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rewardkit.errors import DataError
from rewardkit.insight import scored_batches
from rewardkit.insight.scored_file import read_rows, read_scored_file

ROWS = [
    {
        "prompt": "p",
        "completion": "a",
        "group": "g",
        "reward": 1.0,
        "reward_id": "r",
        "components": {"x": {"value": 1.0}},
    },
    {
        "prompt": "p",
        "completion": "b",
        "group": "g",
        "reward": None,
        "reward_id": "r",
        "components": {"x": {"value": None}},
    },
    {
        "prompt": "q",
        "completion": "c",
        "group": "h",
        "reward": 0.5,
        "reward_id": "r",
        "components": {"x": {"value": 0.5}},
    },
]


def write(path: Path, rows) -> Path:
    """Write rows in the format that the name asks for."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        text = "".join(json.dumps(row) + "\n" for row in rows).encode()
        path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


@pytest.mark.parametrize("name", ["s.parquet", "s.jsonl", "s.jsonl.gz"])
@pytest.mark.parametrize("batch", [1, 2, 100])
def test_all_formats_give_the_same_numbers(tmp_path, monkeypatch, name, batch):
    """Rewards, components, groups and identities don't depend on the format or on where batches end."""
    monkeypatch.setattr(scored_batches, "BATCH_ROWS", batch)
    found = read_scored_file(write(tmp_path / name, ROWS))
    np.testing.assert_equal(found.rewards_N, [1.0, math.nan, 0.5])
    np.testing.assert_equal(found.components_N["x"], [1.0, math.nan, 0.5])
    assert found.groups_N.tolist() == [0, 0, 1]
    assert len(set(found.rows_N.tolist())) == 3
    assert found.reward_id == "r"


def test_identities_agree_between_formats(tmp_path):
    """Equal rows in Parquet and in JSON Lines are recognized as equal."""
    first, second = (read_scored_file(write(tmp_path / name, ROWS)) for name in ("s.parquet", "s.jsonl"))
    assert first.rows_N.tolist() == second.rows_N.tolist()


def test_without_groups_the_prompt_is_the_group(tmp_path):
    """Rows of one prompt belong together where the file has no column ``group``; chat prompts, too."""
    chat = [{"role": "user", "content": "hi"}]
    rows = [
        {"prompt": prompt, "completion": "c", "reward": 1.0}
        for prompt in (chat, chat, [{"role": "user", "content": "x"}])
    ]
    assert read_scored_file(write(tmp_path / "s.jsonl", rows)).groups_N.tolist() == [0, 0, 1]


def test_a_component_may_begin_late(tmp_path, monkeypatch):
    """With routes, rows have different components; the ones that a row lacks are missing values."""
    monkeypatch.setattr(scored_batches, "BATCH_ROWS", 1)
    rows = [ROWS[0], ROWS[2] | {"components": {"y": {"value": 3.0}}}]
    found = read_scored_file(write(tmp_path / "s.jsonl", rows)).components_N
    np.testing.assert_equal(found["x"], [1.0, math.nan])
    np.testing.assert_equal(found["y"], [math.nan, 3.0])


@pytest.mark.parametrize("name", ["s.parquet", "s.jsonl"])
def test_whole_rows_are_read_by_index(tmp_path, monkeypatch, name):
    """Only the rows asked for are kept."""
    monkeypatch.setattr(scored_batches, "BATCH_ROWS", 2)
    rows = read_rows(write(tmp_path / name, ROWS), [2, 0])
    assert {index: row["completion"] for index, row in rows.items()} == {0: "a", 2: "c"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("s.jsonl", b"{", r"s\.jsonl:1: not JSON"),
        ("s.jsonl", b'{"prompt": "p"}\n', r"s\.jsonl:1 has no 'reward': score the file first"),
        ("s.jsonl", b"\n\n3\n", r"s\.jsonl:3: a row must be a JSON object"),
        ("s.jsonl", b"", "has no rows"),
        ("s.parquet", b"PAR1", "can't be read"),
    ],
)
def test_bad_files_are_named(tmp_path, name, content, message):
    """The error names the file, the line and what to do."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_scored_file(tmp_path / name)


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reward": "high"}, "'reward' must be a finite number or null, and is text"),
        ({"reward": [1.0]}, "'reward' must be a finite number or null, and is a list of 1"),
        ({"prompt": 5}, "'prompt' must be text or a list of chat messages, and is int 5"),
        ({"completion": ["a"]}, "'completion' must be text or a list of chat messages, and is a list of 1"),
        ({"group": [1]}, "'group' must be text or a whole number"),
        ({"num_tokens": "many"}, "'num_tokens' must be a number or null, and is text"),
        ({"components": "none"}, "'components' must "),
        ({"components": {"x": 3.0}}, "must "),
        (
            {"components": {"x": {"value": "a"}}},
            "'value' of component 'x' must be a finite number or null, and is text",
        ),
    ],
)
def test_a_file_of_another_program_is_refused_at_its_row(tmp_path, suffix, change, message):
    """A column of another type is an error with the row, not a traceback and not a number."""
    rows = [row | change for row in ROWS[::2]]
    with pytest.raises(DataError, match=rf"s\.{suffix}.*{message}"):
        read_scored_file(write(tmp_path / f"s.{suffix}", rows), details=True)


@pytest.mark.parametrize("name", ["s.parquet", "s.jsonl"])
def test_nan_is_a_missing_reward(tmp_path, name):
    """NaN, which pandas writes where ``score`` wrote null, is a missing value; infinity is no reward."""
    rows = [ROWS[0] | {"reward": math.nan}, ROWS[2]]
    np.testing.assert_equal(read_scored_file(write(tmp_path / name, rows)).rewards_N, [math.nan, 0.5])
    with pytest.raises(DataError, match="'reward' must be a finite number"):
        read_scored_file(write(tmp_path / name, [ROWS[0] | {"reward": math.inf}]))


def test_rows_that_score_writes_unchanged_are_read(tmp_path):
    """``score`` keeps NaN, lone surrogates and integers of more than 64 bits in the columns of a row."""
    rows = [ROWS[0] | {"completion": "\ud800", "label": math.nan, "id": 10**30}]
    path = write(tmp_path / "s.jsonl", rows)
    assert read_scored_file(path, details=True).rewards_N.tolist() == [1.0]
    assert read_rows(path, [0])[0]["id"] == 10**30


def test_a_missing_file_is_named(tmp_path):
    """The error names the file that is not there."""
    with pytest.raises(DataError, match=r"none\.parquet does not exist"):
        read_scored_file(tmp_path / "none.parquet")
