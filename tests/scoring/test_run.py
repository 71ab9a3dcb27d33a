"""Scoring files from end to end, with rewards made for it."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rewardkit.errors import DataError, OutputError, TooManyUnscoredError, UsageError
from rewardkit.scoring import output, run, writing
from rewardkit.scoring.columns.columns import Columns
from rewardkit.scoring.progress import NoProgress

ENDINGS = [".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet", ".hf"]
_OPTIONAL = {"kind", "metrics", "extracted", "output"}
TOY = Path(__file__).with_name("toy.py")


def _stripped(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {name: row[name] for name in row if name not in {"reward", "reward_status", "reward_id", "components"}}
        for row in rows
    ]


@pytest.mark.parametrize(("source", "ending"), list(zip(ENDINGS, [*ENDINGS[2:], *ENDINGS[:2]], strict=True)))
def test_every_kind_in_and_out(source: str, ending: str, tmp_path: Path, toy: ModuleType, files: ModuleType) -> None:
    """The rows come out as they went in, with their score."""
    rows = files.make_rows(300)
    path = files.write_rows(tmp_path / f"rows{source}", rows)
    result = toy.score([path], tmp_path / f"out{ending}")
    scored = files.read_rows(tmp_path / f"out{ending}")
    assert _stripped(scored) == rows
    for row in scored:
        cell = row["components"]["hashed"]
        assert set(row["components"]) == {"hashed", "size"}
        assert set(cell) - _OPTIONAL == {"value", "weight", "contribution", "status", "reason"}
        assert cell.get("extracted") in {None, cell["reason"]}
        assert cell.get("output") in {None, "", f"é\n{cell['reason'].removeprefix('crc ')}"}
        assert (row["reward"] is None) == (row["reward_status"] == "unscored") == (cell["status"] == "unscored")
        assert row["components"]["size"] == {
            "value": float(len(row["completion"])),
            "weight": 0.01,
            "contribution": None if row["reward"] is None else 0.01 * len(row["completion"]),
            "status": "scored",
            "reason": "",
        }
    assert {"extracted", "output"} <= {name for row in scored for name in row["components"]["hashed"]}
    unscored = [row for row in scored if row["reward"] is None]
    assert unscored
    assert {row["components"]["hashed"]["kind"] for row in unscored} == {"reference"}
    assert result.summary["reward"]["unscored"] == len(unscored)
    assert result.summary["rows"] == 300
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [path.name, f"out{ending}", f"out{ending}.manifest.json"]
    )


def test_same_rows_in_both_formats(tmp_path: Path, toy: ModuleType, files: ModuleType) -> None:
    """Parquet holds what lines of JSON hold."""
    path = files.write_rows(tmp_path / "rows.jsonl", files.make_rows(200))
    toy.score([path], tmp_path / "out.jsonl")
    toy.score([path], tmp_path / "out.parquet")
    assert files.read_rows(tmp_path / "out.parquet") == files.read_rows(tmp_path / "out.jsonl")


def test_already_complete(tmp_path: Path, toy: ModuleType, files: ModuleType) -> None:
    """The same job again does nothing and tells the same summary."""
    path = files.write_rows(tmp_path / "rows.jsonl", files.make_rows(50))
    first = toy.score([path], tmp_path / "out.jsonl")
    before = (tmp_path / "out.jsonl").stat().st_mtime_ns
    again = toy.score([path], tmp_path / "out.jsonl")
    assert again.already_complete
    assert again.summary == first.summary
    assert (tmp_path / "out.jsonl").stat().st_mtime_ns == before


def test_another_job(tmp_path: Path, toy: ModuleType, files: ModuleType) -> None:
    """An output of another job is not touched; what differs is named."""
    path = files.write_rows(tmp_path / "rows.jsonl", files.make_rows(50))
    out = tmp_path / "out.jsonl"
    toy.score([path], out)
    before = out.read_bytes()
    with pytest.raises(UsageError, match=r"the reward was \w+ and is \w+.*--fresh"):
        toy.score([path], out, toy.GROUPED)
    with pytest.raises(UsageError, match="--limit was not given and is 3"):
        toy.score([path], out, limit=3)
    with pytest.raises(UsageError, match="--map was not given"):
        toy.score([path], out, columns=Columns.parse(["other=id"]))
    files.write_rows(path, files.make_rows(51))
    with pytest.raises(UsageError, match=r"rows\.jsonl has changed since"):
        toy.score([path], out)
    assert out.read_bytes() == before
    toy.score([path], out, fresh=True)
    assert len(files.read_rows(out)) == 51


def test_foreign_output(tmp_path: Path, toy: ModuleType, files: ModuleType) -> None:
    """A file that this program did not write is not replaced."""
    path = files.write_rows(tmp_path / "rows.jsonl", files.make_rows(5))
    (tmp_path / "out.jsonl").write_text("precious")
    with pytest.raises(UsageError, match="was not written by this command"):
        toy.score([path], tmp_path / "out.jsonl")
    with pytest.raises(UsageError, match="both input and output"):
        toy.score([path], path)


def test_scored_file_is_input(tmp_path: Path, toy: ModuleType, files: ModuleType) -> None:
    """A scored file can be scored again, also in a folder given by a glob that holds outputs of an earlier run."""
    path = files.write_rows(tmp_path / "rows.jsonl", files.make_rows(40))
    toy.score([path], tmp_path / "one.jsonl")
    toy.score([tmp_path / "one.jsonl"], tmp_path / "two.jsonl", toy.GROUPED)
    rows = files.read_rows(tmp_path / "two.jsonl")
    assert list(rows[0]["components"]) == ["hashed", "best"]
    path.unlink()
    toy.score([tmp_path / "*.jsonl"], tmp_path / "two.jsonl", fresh=True)
    assert len(files.read_rows(tmp_path / "two.jsonl")) == 40


@pytest.mark.parametrize(("source", "ending"), [(".jsonl", ".parquet"), (".parquet", ".jsonl")])
def test_interleaved_groups(
    source: str, ending: str, tmp_path: Path, toy: ModuleType, files: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rewards of groups see whole groups however rows are mixed; the output keeps the input's order; memory is bounded."""
    monkeypatch.setattr("rewardkit.scoring.groups.MEMORY_BYTES", 2000)
    monkeypatch.setattr(run, "_CHUNK_ROWS", 10)
    rows = files.make_rows(400)
    mixed = sorted(rows, key=lambda row: (row["id"] * 7919) % 401)
    for name, order in (("sorted", rows), ("mixed", mixed)):
        path = files.write_rows(tmp_path / f"{name}{source}", order)
        toy.score([path], tmp_path / f"{name}.out{ending}", toy.GROUPED)
    expected = {row["id"]: row for row in files.read_rows(tmp_path / f"sorted.out{ending}")}
    found = files.read_rows(tmp_path / f"mixed.out{ending}")
    assert [row["id"] for row in found] == [row["id"] for row in mixed]
    assert all(row["components"]["best"]["reason"] == "of 4" for row in found)
    assert [row["reward"] for row in found] == pytest.approx([expected[row["id"]]["reward"] for row in mixed])


def test_lists_of_completions_in_groups(tmp_path: Path, toy: ModuleType, files: ModuleType) -> None:
    """A row's list of completions is a group; rows of the same prompt join it."""
    rows = [{"prompt": f"p{index % 3}", "completion": [f"{index}a", f"{index}bb"], "tag": [1, 2]} for index in range(6)]
    path = files.write_rows(tmp_path / "rows.jsonl", rows)
    toy.score([path], tmp_path / "out.parquet", toy.GROUPED, columns=Columns.parse(explode=["tag"]))
    found = files.read_rows(tmp_path / "out.parquet")
    assert [row["completion"] for row in found] == [text for row in rows for text in row["completion"]]
    assert {row["components"]["best"]["reason"] for row in found} == {"of 4"}
    assert [row["tag"] for row in found] == [1, 2] * 6


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_a_broken_line_among_many(ending: str, tmp_path: Path, toy: ModuleType, files: ModuleType) -> None:
    """One bad line is set aside with file and line; the others are scored."""
    path = files.write_rows(tmp_path / "rows.jsonl", files.make_rows(5000))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3000], b'{"prompt": "cut of\n', *lines[3000:]]))
    result = toy.score([path], tmp_path / f"out{ending}")
    assert [row["id"] for row in files.read_rows(tmp_path / f"out{ending}")] == list(range(5000))
    [rejected] = files.read_rows(tmp_path / f"out{ending}.rejected.jsonl")
    assert rejected["row"] == 3001
    assert rejected["file"] == str(path)
    assert rejected["raw"] == '{"prompt": "cut of'
    assert result.manifest["rows_rejected"] == 1


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_nothing_but_broken_lines(ending: str, tmp_path: Path, toy: ModuleType, files: ModuleType) -> None:
    """Where no row can be used, all are set aside and the output is empty."""
    (tmp_path / "rows.jsonl").write_text("oops\n" * 10)
    toy.score([tmp_path / "rows.jsonl"], tmp_path / f"out{ending}")
    assert files.read_rows(tmp_path / f"out{ending}") == []
    assert len(files.read_rows(tmp_path / f"out{ending}.rejected.jsonl")) == 10


def test_column_missing_in_all_rows(tmp_path: Path, toy: ModuleType, files: ModuleType) -> None:
    """It is told before anything is written, with the place in the YAML and a way out."""
    rows = [{"prompt": "p", "completion": "1", "gt": "1"}] * 5
    path = files.write_rows(tmp_path / "rows.jsonl", rows)
    with pytest.raises(DataError, match=r"toy.yaml:4:16: component 'right' reads column 'answer'.*--map answer=gt"):
        toy.score([path], tmp_path / "out.jsonl", toy.NEEDS_ANSWER)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl"]
    toy.score([path], tmp_path / "out.jsonl", toy.NEEDS_ANSWER, columns=Columns.parse(["answer=gt"]))
    assert {row["reward"] for row in files.read_rows(tmp_path / "out.jsonl")} == {1.0}


def test_column_missing_in_a_late_row(tmp_path: Path, toy: ModuleType, files: ModuleType) -> None:
    """That row stays, unscored, and says where it is."""
    rows = [{"prompt": "p", "completion": "1", "answer": "1"}] * 7000
    rows[6999] = {"prompt": "p", "completion": "1"}
    path = files.write_rows(tmp_path / "rows.jsonl", rows)
    toy.score([path], tmp_path / "out.parquet", toy.NEEDS_ANSWER)
    last = files.read_rows(tmp_path / "out.parquet")[-1]
    assert last["reward"] is None
    assert last["components"]["right"]["kind"] == "input"
    assert f"{path}:7000: " in last["components"]["right"]["reason"]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"question": "q", "response": "r"}, "--map prompt=question --map completion=response"),
        ({"prompt": "q", "generated": "r"}, "--map completion=generated"),
        ({"prompt": "q", "completion": "r", "reward": 1.0}, "--map old_reward=reward"),
    ],
)
def test_wrong_columns(row: dict[str, Any], told: str, tmp_path: Path, toy: ModuleType, files: ModuleType) -> None:
    """The error has the flag that helps."""
    path = files.write_rows(tmp_path / "rows.jsonl", [row])
    with pytest.raises(DataError) as raised:
        toy.score([path], tmp_path / "out.jsonl")
    assert told in str(raised.value)


def test_hostile_text(tmp_path: Path, toy: ModuleType, files: ModuleType) -> None:
    """NUL, lone surrogates, NaN and huge numbers survive in lines of JSON; Parquet gets U+FFFD, counted."""
    rows = [
        {"prompt": "p", "completion": "\0 \ud800 text", "x": "\udfff", "n": float("inf")},
        {"prompt": "p", "completion": "c"},
    ]
    path = files.write_rows(tmp_path / "rows.jsonl", rows)
    toy.score([path], tmp_path / "out.jsonl")
    assert _stripped(files.read_rows(tmp_path / "out.jsonl")) == rows
    result = toy.score([path], tmp_path / "out.parquet")
    assert files.read_rows(tmp_path / "out.parquet")[0]["completion"] == "\0 \ufffd text"
    assert result.manifest["text_replaced_rows"] == 1


def test_huge_number(tmp_path: Path, toy: ModuleType, files: ModuleType) -> None:
    """What Parquet has no type for is an error with column and row; the rows before it are kept."""
    rows = [*files.make_rows(3000), {"prompt": "p", "completion": "c", "id": 10**30}]
    path = files.write_rows(tmp_path / "rows.jsonl", rows)
    with pytest.raises(OutputError, match=r"column 'id'.*rows.jsonl:3001.*--out FILE.jsonl"):
        toy.score([path], tmp_path / "out.parquet")
    toy.score([path], tmp_path / "out.jsonl")
    assert files.read_rows(tmp_path / "out.jsonl")[-1]["id"] == 10**30


def test_huge_completion(tmp_path: Path, toy: ModuleType, files: ModuleType) -> None:
    """A completion of 8 MB, larger than any block that is read at a time, is a completion."""
    rows = [{"prompt": "p", "completion": "x" * 8_000_000}, {"prompt": "p", "completion": "y"}]
    path = files.write_rows(tmp_path / "rows.jsonl", rows)
    toy.score([path], tmp_path / "out.parquet")
    found = files.read_rows(tmp_path / "out.parquet")
    assert [row["components"]["size"]["value"] for row in found] == [8e6, 1.0]


def test_columns_that_change(
    tmp_path: Path, toy: ModuleType, files: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parquet takes columns that come late, are null at first, gain members, or turn from whole numbers to fractions."""
    monkeypatch.setattr(output, "SEGMENT_ROWS", 20)
    monkeypatch.setattr(run, "_CHUNK_ROWS", 10)
    rows: list[dict[str, Any]] = files.make_rows(100)
    for index, row in enumerate(rows):
        row["was_null"] = None if index < 50 else "text"
        row["number"] = index if index < 50 else index + 0.5
        row["object"] = {"a": 1} if index < 50 else {"a": 1, "b": [index]}
        if index >= 50:
            row["late"] = index
    path = files.write_rows(tmp_path / "rows.jsonl", rows)
    toy.score([path], tmp_path / "out.parquet")
    found = files.read_rows(tmp_path / "out.parquet")
    assert [row["late"] for row in found] == [None] * 50 + list(range(50, 100))
    assert [row["object"]["b"] for row in found] == [None] * 50 + [[index] for index in range(50, 100)]
    assert [row["number"] for row in found] == [float(row["number"]) for row in rows]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "out.parquet",
        "out.parquet.manifest.json",
        "rows.jsonl",
    ]


def test_columns_that_clash(
    tmp_path: Path, toy: ModuleType, files: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Types that have nothing in common are an error that names column, types and rows."""
    monkeypatch.setattr(run, "_CHUNK_ROWS", 10)
    rows: list[dict[str, Any]] = files.make_rows(100)
    rows[60]["id"] = "sixty"
    path = files.write_rows(tmp_path / "rows.jsonl", rows)
    with pytest.raises(
        OutputError, match=r"column 'id' has no one type.*string \(.*rows.jsonl:61\) and int64 \(.*rows.jsonl:62\)"
    ):
        toy.score([path], tmp_path / "out.parquet")
    for row in rows[60:]:
        row["id"] = str(row["id"])
    files.write_rows(path, rows)
    with pytest.raises(
        OutputError, match=r"column 'id' has no one type.*int64 \(.*rows.jsonl:1\) and string \(.*rows.jsonl:61"
    ):
        toy.score([path], tmp_path / "out.parquet", fresh=True)


def test_empty_objects(tmp_path: Path, toy: ModuleType, files: ModuleType) -> None:
    """Parquet has no objects without members: they become null, and the run says so."""
    path = files.write_rows(tmp_path / "rows.jsonl", [{"prompt": "p", "completion": "c", "extra": {"a": {}}}])
    result = toy.score([path], tmp_path / "out.parquet")
    assert files.read_rows(tmp_path / "out.parquet")[0]["extra"] == {"a": None}
    assert result.manifest["emptied_columns"] == ["extra"]


def test_too_many_unscored(tmp_path: Path, toy: ModuleType, files: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that scores nothing stops early, keeps what it has, and goes on when it is run again."""
    monkeypatch.setattr(run, "_CHUNK_ROWS", 100)
    text = "version: 1\ncomponents:\n  a: {use: toy.broken}\n"
    path = files.write_rows(tmp_path / "rows.jsonl", files.make_rows(1000))
    with pytest.raises(TooManyUnscoredError, match=r"200 of 200 rows \(100%\)") as raised:
        toy.score([path], tmp_path / "out.jsonl", text)
    assert "200 × a (plugin)" in str(raised.value)
    assert "no service for que" in str(raised.value)
    assert len(files.read_rows(tmp_path / "out.jsonl.part")) == 200
    with pytest.raises(TooManyUnscoredError):
        toy.score([path], tmp_path / "out.jsonl", text)
    assert len(files.read_rows(tmp_path / "out.jsonl.part")) == 400


def test_what_an_outage_left_is_tried_again(
    tmp_path: Path, toy: ModuleType, files: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that only a service could not score are not kept by a run that stops for them: the same command scores them."""
    monkeypatch.setattr(run, "_CHUNK_ROWS", 100)
    text = "version: 1\ncomponents:\n  a: {use: toy.away}\n"
    path = files.write_rows(tmp_path / "rows.jsonl", files.make_rows(1000))
    with pytest.raises(TooManyUnscoredError, match="the 0 rows done so far are kept"):
        toy.score([path], tmp_path / "out.jsonl", text)
    monkeypatch.setattr(toy, "is_away", False)
    result = toy.score([path], tmp_path / "out.jsonl", text)
    assert result.summary["reward"]["unscored"] == 0
    assert [row["reward"] for row in files.read_rows(tmp_path / "out.jsonl")] == [1.0] * 1000


def test_few_rows_too_many_unscored(tmp_path: Path, toy: ModuleType, files: ModuleType) -> None:
    """Few rows are all written before it is said that too many are unscored."""
    path = files.write_rows(tmp_path / "rows.jsonl", files.make_rows(10))
    text = "version: 1\ncomponents:\n  a: {use: toy.broken}\n"
    for _ in range(2):
        result = toy.score([path], tmp_path / "out.jsonl", text)
        assert "10 of 10 rows" in result.too_many_unscored
    assert len(files.read_rows(tmp_path / "out.jsonl")) == 10


def test_policy_fail(tmp_path: Path, toy: ModuleType, files: ModuleType) -> None:
    """The first unscored row ends the run."""
    path = files.write_rows(tmp_path / "rows.jsonl", files.make_rows(10))
    text = "version: 1\ncomponents:\n  a: {use: toy.broken}\nunscored: {policy: fail}\n"
    with pytest.raises(TooManyUnscoredError, match=r"rows.jsonl:1 .*policy in the reward file is 'fail'"):
        toy.score([path], tmp_path / "out.jsonl", text)


def test_no_route(tmp_path: Path, toy: ModuleType, files: ModuleType) -> None:
    """A row that no route takes is an error with its place."""
    text = """
version: 1
composites:
  one: {components: {a: {use: toy.size}}}
routes: [{match: {id: "?"}, composite: one}]
"""
    path = files.write_rows(tmp_path / "rows.jsonl", files.make_rows(200))
    with pytest.raises(DataError, match=r"no route matches a row with id=10"):
        toy.score([path], tmp_path / "out.jsonl", text)


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_disk_full(
    ending: str, tmp_path: Path, toy: ModuleType, files: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finished rows are kept, the error says how to resume, and resuming writes every row once."""
    monkeypatch.setattr(output, "SEGMENT_ROWS", 200)
    monkeypatch.setattr(run, "_CHUNK_ROWS", 100)
    rows = files.make_rows(2000)
    path = files.write_rows(tmp_path / "rows.jsonl", rows)
    out = tmp_path / f"out{ending}"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OutputError, match=r"can't be written: .*rows written so far are kept.*same command"):
            toy.score([path], out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    kept = json.loads((tmp_path / f"out{ending}.journal").read_text().splitlines()[-1])["segment"]["rows"]
    assert 0 < kept < 2000
    toy.score([path], out)
    assert [row["id"] for row in files.read_rows(out)] == list(range(2000))


def test_folder_that_cant_be_written(
    tmp_path: Path, toy: ModuleType, files: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found before anything is scored."""
    path = files.write_rows(tmp_path / "rows.jsonl", files.make_rows(5))
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"out\.jsonl can't be written"):
        toy.score([path], tmp_path / "file" / "out.jsonl")
    with pytest.raises(OutputError, match=r"out\.jsonl can't be written"):
        toy.score([path], "/proc/out.jsonl")
    with pytest.raises(UsageError, match=r"must end in one of .*\.jsonl"):
        toy.score([path], tmp_path / "out.csv")


def test_two_runs_at_once(tmp_path: Path, toy: ModuleType, files: ModuleType) -> None:
    """A second run on the same output is refused while the first is at work."""
    path = files.write_rows(tmp_path / "rows.jsonl", files.make_rows(5))
    seen: list[BaseException] = []

    class Second(NoProgress):
        def update(self, *_: Any) -> None:
            try:
                toy.score([path], tmp_path / "out.jsonl")
            except OutputError as error:
                seen.append(error)

    with toy.make_reward(toy.PLAIN) as composite:
        options = run.ScoreOptions([str(path)], tmp_path / "out.jsonl")
        run.score_files(options, composite, progress=lambda _: Second())
    assert "is being written by another run" in str(seen[0])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(
    number: int, tmp_path: Path, toy: ModuleType, files: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C keeps every finished row and says how to resume; the next run does."""
    monkeypatch.setattr(run, "_CHUNK_ROWS", 100)
    path = files.write_rows(tmp_path / "rows.jsonl", files.make_rows(1000))

    class Impatient(NoProgress):
        def update(self, position: int, rows: int, mean: float | None, unscored: int) -> None:
            if rows >= 300:
                os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with toy.make_reward(toy.PLAIN) as composite:
        options = run.ScoreOptions([str(path)], tmp_path / "out.jsonl")
        with pytest.raises(writing.InterruptedRunError, match=r"300 rows are done and kept\. The same command resumes"):
            run.score_files(options, composite, progress=lambda _: Impatient())
        assert signal.getsignal(number) == before
        result = run.score_files(options, composite)
    assert result.summary["rows"] == 1000
    assert [row["id"] for row in files.read_rows(tmp_path / "out.jsonl")] == list(range(1000))
    toy.score([path], tmp_path / "whole.jsonl")
    assert (tmp_path / "whole.jsonl").read_bytes() == (tmp_path / "out.jsonl").read_bytes()


def test_work_elsewhere_stays_in_order(tmp_path: Path, toy: ModuleType, files: ModuleType) -> None:
    """Batches in flight on several threads come out in the order of the input."""
    path = files.write_rows(tmp_path / "rows.jsonl", files.make_rows(3000))
    text = "version: 1\ncomponents:\n  a: {use: toy.slow}\n"
    toy.score([path], tmp_path / "out.jsonl", text)
    rows = files.read_rows(tmp_path / "out.jsonl")
    assert [row["id"] for row in rows] == list(range(3000))
    assert all(row["reward"] == len(row["completion"]) for row in rows)


def test_many_small_segments(
    tmp_path: Path, toy: ModuleType, files: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow run's many small row groups become few."""
    import pyarrow.parquet as pq

    monkeypatch.setattr(output, "SEGMENT_ROWS", 10)
    monkeypatch.setattr(run, "_CHUNK_ROWS", 10)
    path = files.write_rows(tmp_path / "rows.jsonl", files.make_rows(1000))
    toy.score([path], tmp_path / "out.parquet")
    assert pq.ParquetFile(tmp_path / "out.parquet").num_row_groups == 1
    assert [row["id"] for row in files.read_rows(tmp_path / "out.parquet")] == list(range(1000))


@pytest.mark.parametrize("reader", ["duckdb", "polars"])
def test_other_readers(
    reader: str, tmp_path: Path, toy: ModuleType, files: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parquet of several segments is read right by other programs too."""
    module = pytest.importorskip(reader)
    monkeypatch.setattr(output, "SEGMENT_ROWS", 100)
    monkeypatch.setattr(run, "_CHUNK_ROWS", 50)
    path = files.write_rows(tmp_path / "rows.jsonl", files.make_rows(500))
    out = tmp_path / "out.parquet"
    result = toy.score([path], out)
    if reader == "duckdb":
        found = module.sql(f"select count(*), sum(id), avg(reward), sum(components.size.value) from '{out}'")  # noqa: S608
        [found] = found.fetchall()
    else:
        frame = module.read_parquet(out)
        sizes = frame["components"].struct.field("size").struct.field("value")
        found = (frame.height, frame["id"].sum(), frame["reward"].mean(), sizes.sum())
    size = result.summary["components"]["size"]
    assert found == pytest.approx((500, 499 * 250, result.summary["reward"]["mean"], size["mean"] * size["n"]))


def test_standard_input(tmp_path: Path, toy: ModuleType, files: ModuleType) -> None:
    """Rows may come through a pipe."""
    path = files.write_rows(tmp_path / "rows.jsonl", files.make_rows(100))
    order = json.dumps({"inputs": ["-"], "out": str(tmp_path / "out.jsonl"), "reward": toy.PLAIN})
    for _ in range(2):
        subprocess.run([sys.executable, str(TOY), order], input=path.read_bytes(), check=True, capture_output=True)
    assert len(files.read_rows(tmp_path / "out.jsonl")) == 100


def test_plugin_that_is_slow_is_heard(tmp_path: Path, files: ModuleType, toy: ModuleType) -> None:
    """Scoring works outside of the main thread, where no signal can be caught."""
    path = files.write_rows(tmp_path / "rows.jsonl", files.make_rows(10))
    thread = threading.Thread(target=toy.score, args=([path], tmp_path / "out.jsonl"))
    thread.start()
    thread.join()
    assert len(files.read_rows(tmp_path / "out.jsonl")) == 10
