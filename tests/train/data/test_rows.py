"""Rows of training data: several files and globs, places, and values at paths into nested columns."""

from __future__ import annotations

import json
import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardkit.errors import DataError, UsageError
from rewardkit.train.config import RowSource
from rewardkit.train.data.rows import Row, columns_hint, data_hash, data_hashes, find_files, read_rows

CHAT = {"prompt": [{"role": "user", "content": "1+1"}], "reward_model": {"ground_truth": "2"}}


def write(path, rows):
    """Write rows to a file, and return its path."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def row(tmp_path, data):
    """Return a row of a file."""
    return Row(data, tmp_path / "rows.jsonl", 7)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("prompt.0.content", "1+1"),
        ("prompt.-1.role", "user"),
        ("reward_model.ground_truth", "2"),
        ("reward_model", {"ground_truth": "2"}),
        ("prompt.1.content", None),
        ("prompt.x", None),
        ("nothing", None),
    ],
)
def test_a_path_reaches_into_nested_columns(tmp_path, column, value):
    """Parts of a path are keys of objects and indices of lists."""
    assert row(tmp_path, CHAT).find(column) == value


def test_a_column_whose_name_has_dots_goes_first(tmp_path):
    """A column is found by its whole name before it is taken for a path."""
    assert row(tmp_path, {"a.b": 1, "a": {"b": 2}}).find("a.b") == 1


@pytest.mark.parametrize(
    ("column", "meant"),
    [
        ("ground_truth", "reward_model.ground_truth"),
        ("reward_model.ground_trut", "reward_model.ground_truth"),
        ("answer", "reward_model.ground_truth"),
        ("reward_modl", "reward_model"),
        ("content", "prompt.0.content"),
    ],
)
def test_a_missing_column_suggests_the_nearest(tmp_path, column, meant):
    """The error names file and row, lists the columns, and suggests a column or path."""
    with pytest.raises(DataError) as caught:
        row(tmp_path, CHAT).get(column)
    assert "rows.jsonl:7: there is no value in column" in str(caught.value)
    assert f"Its columns are prompt, reward_model; did you mean {meant!r}?" in str(caught.value)


@given(st.recursive(st.none() | st.text(max_size=3), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_any_row_has_a_hint(value):
    """A hint can be made for every row that JSON can hold."""
    assert columns_hint("gone", [Row({"a": value}, None, 1)]).startswith("Its columns are a")


def test_files_and_globs_are_read_in_order_and_once(tmp_path):
    """Files come in the order given, those of a glob by name, and a file that two of them name is read once."""
    for name in ("b1", "b2", "a"):
        write(tmp_path / f"{name}.jsonl", [{"n": name}])
    found = read_rows([tmp_path / "b*.jsonl", tmp_path / "b1.jsonl", tmp_path / "a.jsonl"])
    assert [row.data["n"] for row in found] == ["b1", "b2", "a"]
    assert found[-1].place == f"{tmp_path}/a.jsonl:1"


def test_the_hash_covers_every_file(tmp_path):
    """A change in any file that a glob matches, an added file, and rows moved between files change the hash."""
    write(tmp_path / "1.jsonl", [{"n": 1}, {"n": 2}])
    write(tmp_path / "2.jsonl", [{"n": 3}])
    hashes = [data_hash([tmp_path / "*.jsonl"])]
    assert list(data_hashes([tmp_path / "*.jsonl"])) == [f"{tmp_path}/1.jsonl", f"{tmp_path}/2.jsonl"]
    write(tmp_path / "1.jsonl", [{"n": 1}])
    write(tmp_path / "2.jsonl", [{"n": 2}, {"n": 3}])
    hashes.append(data_hash([tmp_path / "*.jsonl"]))
    write(tmp_path / "2.jsonl", [{"n": 2}, {"n": 4}])
    hashes.append(data_hash([tmp_path / "*.jsonl"]))
    write(tmp_path / "3.jsonl", [{"n": 5}])
    hashes.append(data_hash([tmp_path / "*.jsonl"]))
    assert len(set(hashes)) == 4


def test_a_pipe_is_refused(tmp_path):
    """A pipe can be read once only, which the error says instead of waiting for ever."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="is a pipe; training reads its data more than once"):
        read_rows([tmp_path / "pipe"])


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    """Rows of two versions of a file are never mixed."""
    from rewardkit.train.data import rows

    file = write(tmp_path / "rows.jsonl", [{"n": 1}])
    original = rows.read_blocks

    def read_and_change(item):
        yield from original(item)
        write(file, [{"n": 1}, {"n": 2}])

    monkeypatch.setattr(rows, "read_blocks", read_and_change)
    with pytest.raises(DataError, match=r"rows\.jsonl changed while it was read; run the same command again"):
        read_rows([file])


def test_a_glob_without_a_match_is_an_error(tmp_path):
    """The error names the glob."""
    with pytest.raises(DataError, match=r"no file matches .*none-\*\.jsonl"):
        find_files([tmp_path / "none-*.jsonl"])


ROWS = [{"prompt": f"{number}+1=", "completion": str(number + 1)} for number in range(5)]


def test_a_folder_of_datasets_is_read(tmp_path):
    """As save_to_disk writes it, without the library."""
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    rows = read_rows([tmp_path / "saved"])
    assert [row.data for row in rows] == ROWS
    assert rows[2].place.endswith(".arrow:3")


@pytest.mark.parametrize("streaming", [False, True])
def test_a_data_set_is_read_by_datasets(tmp_path, monkeypatch, streaming):
    """Rows have the name of the data set as their place; only so many are read as are asked for."""
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "test.jsonl", ROWS)
    source = RowSource(hub=str(tmp_path / "data"), split="test", streaming=streaming, rows=3)
    rows = read_rows([write(tmp_path / "own.jsonl", ROWS), source])
    assert [row.data for row in rows] == [*ROWS, *ROWS[:3]]
    assert rows[7].place == f"hf:{tmp_path / 'data'}:test:3"
    assert [row.source for row in rows] == [0] * 5 + [1] * 3
    before = data_hashes([source])
    write(tmp_path / "data" / "test.jsonl", [*ROWS[1:], ROWS[0]])
    assert data_hashes([source]).keys() == before.keys()
    assert data_hashes([source]) != before


def test_a_data_set_that_can_not_be_loaded_is_told(tmp_path, monkeypatch):
    """Its name and the reason."""
    datasets = pytest.importorskip("datasets")

    def offline(*_args, **_settings):
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    for streaming in (False, True):
        with pytest.raises(DataError, match=r"hf:org/name@v2:main:train can't be .*: ConnectionError: no network"):
            read_rows([RowSource(hub="org/name", config="main", revision="v2", streaming=streaming)])


@pytest.mark.parametrize("streaming", [False, True])
def test_the_hub_needs_datasets(monkeypatch, streaming):
    """The message says how to install it."""
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"hf:org/name:train needs datasets: pip install 'rewardkit\[datasets\]'"):
        read_rows([RowSource(hub="org/name", streaming=streaming)])
