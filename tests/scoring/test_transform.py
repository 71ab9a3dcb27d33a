"""Rows made from rows: resumed without a row twice, failures kept apart and tried again."""

import dataclasses
import json
from pathlib import Path

import pytest

from rewardkit.errors import DataError, TooManyUnscoredError, UsageError
from rewardkit.scoring import transform as module
from rewardkit.scoring.columns.paths import RowError
from rewardkit.scoring.engines import local
from rewardkit.scoring.retry import Retry
from rewardkit.scoring.transform import TransformOptions, transform_files
from rewardkit.scoring.transform_retry import retry_transform
from rewardkit.types import Unscored


class Upper:
    """Writes the prompt in capitals. ``fails`` tells which rows fail, by their number."""

    name = "upper"
    by_group = False
    needs = ("prompt",)

    def __init__(self, fails=lambda _number: None):
        self.fails, self.calls, self.closed = fails, 0, 0

    async def __call__(self, rows):
        """Make one row."""
        self.calls += 1
        failure = self.fails(rows[0]["number"])
        if isinstance(failure, BaseException):
            raise failure
        if failure is not None:
            return failure
        return [{"prompt": rows[0]["prompt"].upper(), "number": rows[0]["number"]}]

    def costs(self):
        """Return the number of calls."""
        return {"calls": float(self.calls)}

    async def close(self):
        """Note it."""
        self.closed += 1


class Pairs(Upper):
    """Joins the completions of a prompt."""

    by_group = True
    needs = ("prompt", "completion")

    async def __call__(self, rows):
        """Make one row."""
        self.calls += 1
        if (failure := self.fails(rows[0]["prompt"])) is not None:
            return failure
        return [{"prompt": rows[0]["prompt"], "joined": "+".join(row["completion"] for row in rows)}]


DOWN = Unscored("infra", "the service is down")


@pytest.fixture
def options(tmp_path):
    """Return the options of a job of 100 rows."""
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps({"prompt": f"p{n}", "number": n}) + "\n" for n in range(100)))
    return TransformOptions([str(source)], tmp_path / "out.jsonl", {"model": "m"})


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(module, "CHUNK_ROWS", 10)


def rows(path):
    """Return the rows of a file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_row_gives_its_rows_in_order(options):
    """New rows name the row that they come from, the costs are counted, and the transform is closed once."""
    upper = Upper()
    result = transform_files(options, upper)
    found = rows(options.out)
    assert [row["prompt"] for row in found] == [f"P{n}" for n in range(100)]
    assert found[4]["source_row"] == f"{options.inputs[0]}:5"
    assert result.manifest["summary"]["components"]["upper"]["costs"] == {"calls": 100.0}
    assert (result.too_many_unscored, upper.closed) == ("", 1)


def test_a_finished_job_is_not_repeated(options):
    """The same job asks nothing again; another one is refused with what differs; --fresh replaces."""
    transform_files(options, Upper())
    upper = Upper()
    assert transform_files(options, upper).already_complete
    assert upper.calls == 0
    other = dataclasses.replace(options, identity={"model": "n"})
    with pytest.raises(UsageError, match="model was m and is n"):
        transform_files(other, upper)
    transform_files(dataclasses.replace(other, fresh=True), upper)
    assert upper.calls == 100


def test_an_interrupted_job_goes_on_without_a_row_twice(options):
    """A job that dies in the middle keeps what is done; the same command makes the rest."""

    def die(number):
        return SystemError("killed") if number == 55 else None

    with pytest.raises(SystemError):
        transform_files(options, Upper(die))
    upper = Upper()
    transform_files(options, upper)
    assert [row["number"] for row in rows(options.out)] == list(range(100))
    assert 45 <= upper.calls < 100


def test_what_an_interrupted_job_spent_is_counted(options, monkeypatch):
    """The calls for rows that were not finished have cost something, too; counts of rows are those of the output."""
    monkeypatch.setattr(local, "THREADS", 1)  # so that no earlier chunk has told what a later one costs

    class Counting(Upper):
        counts = ("rows",)

        def costs(self):
            return {**super().costs(), "rows": float(self.calls)}

    first, second = Counting(lambda number: SystemError("killed") if number == 55 else None), Counting()
    with pytest.raises(SystemError):
        transform_files(options, first)
    costs = transform_files(options, second).manifest["summary"]["components"]["upper"]["costs"]
    finished = 100 - second.calls
    assert finished + second.calls + 10 <= costs["calls"] <= first.calls + second.calls
    assert costs["rows"] <= costs["calls"]


def test_a_changed_input_is_noticed(options):
    """Rows of two versions of a file are not mixed."""
    with pytest.raises(SystemError):
        transform_files(options, Upper(lambda number: SystemError() if number == 55 else None))
    with Path(options.inputs[0]).open("a") as file:
        file.write("{}\n")
    with pytest.raises(UsageError, match="has changed since"):
        transform_files(options, Upper())


def test_failures_are_kept_apart_and_tried_again(options):
    """The output holds results only. --retry adds the missing ones, once, and keeps those that fail again."""
    result = transform_files(options, Upper(lambda number: DOWN if number % 20 == 3 else None))
    assert [row["number"] for row in rows(options.out)] == [n for n in range(100) if n % 20 != 3]
    assert result.manifest["summary"]["reward"]["unscored"] == 5
    again = retry_transform(options, Retry(), Upper(lambda number: DOWN if number == 43 else None))
    assert sorted(row["number"] for row in rows(options.out)) == [n for n in range(100) if n != 43]
    assert rows(options.out)[-1]["source_row"] == f"{options.inputs[0]}:84"
    assert again.manifest["summary"]["reward"] | {"n": 99, "unscored": 1} == again.manifest["summary"]["reward"]
    [left] = rows(options.out.with_name("out.jsonl.rejected.jsonl"))
    assert (left["row"], left["kind"]) == (44, "infra")
    retry_transform(options, Retry(), Upper())
    assert sorted(row["number"] for row in rows(options.out)) == list(range(100))
    assert not options.out.with_name("out.jsonl.rejected.jsonl").exists()


def test_a_retry_that_was_killed_adds_nothing_twice(options):
    """Rows that are in the output already are not tried again, though the list of failures still has them."""
    transform_files(options, Upper(lambda number: DOWN if number == 7 else None))
    rejected = options.out.with_name("out.jsonl.rejected.jsonl")
    before = rejected.read_bytes()
    retry_transform(options, Retry(), Upper())
    rejected.write_bytes(before)
    upper = Upper()
    retry_transform(options, Retry(), upper)
    assert upper.calls == 0
    assert len(rows(options.out)) == 100


def test_too_many_failures_end_a_job(options, monkeypatch):
    """A running job stops above the share; what is done is kept. A short one says so at its end."""
    result = transform_files(options, Upper(lambda number: DOWN if number % 2 else None))
    assert "50 of 100 rows (50%) could not be scored" in result.too_many_unscored
    monkeypatch.setattr("rewardkit.scoring.writing.MIN_ROWS_TO_ABORT", 20)
    with pytest.raises(TooManyUnscoredError, match="--abort-above"):
        transform_files(dataclasses.replace(options, fresh=True), Upper(lambda number: DOWN if number % 2 else None))


def test_an_outage_at_the_end_is_not_written(options):
    """Chunks that only an outage left without a result are held back, so that the same command tries them again."""

    def outage(number):
        if number == 95:
            return SystemError("killed")
        return DOWN if number >= 50 else None

    with pytest.raises(SystemError):
        transform_files(options, Upper(outage))
    upper = Upper()
    transform_files(options, upper)
    assert upper.calls == 50
    assert [row["number"] for row in rows(options.out)] == list(range(100))


def test_the_first_unusable_row_is_told_when_there_are_too_many(options):
    """Nobody has to open the file of rejected rows to learn what is wrong."""

    def fails(_number):
        return RowError("the number is unlucky")

    told = transform_files(options, Upper(fails)).too_many_unscored
    assert "100 of 100 rows could not be used" in told
    assert f"The first is {options.inputs[0]}:1: the number is unlucky" in told


def test_rows_that_cant_be_used_are_rejected(options):
    """They are listed with the reason, and are no failure of a service."""
    wrong = RowError("the number is unlucky")
    result = transform_files(options, Upper(lambda number: wrong if number == 13 else None))
    [rejected] = rows(options.out.with_name("out.jsonl.rejected.jsonl"))
    assert (rejected["row"], rejected["reason"], "kind" in rejected) == (14, "the number is unlucky", False)
    assert result.manifest["summary"]["reward"]["unscored"] == 0


def test_a_missing_column_is_refused_at_once(options):
    """The message names the column, those that exist, and the option."""
    upper = Upper()
    upper.needs = ("question",)
    with pytest.raises(DataError, match=r"no column 'question'; columns are prompt, number\..*--map question=COLUMN"):
        transform_files(options, upper)


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet", "out.jsonl.gz"])
def test_groups_are_taken_together(tmp_path, name):
    """Rollouts of one prompt come to one call, whatever their order; a failed group is tried again as a whole."""
    source = tmp_path / "rows.jsonl"
    source.write_text(
        "".join(json.dumps({"prompt": f"p{n % 7}", "completion": f"c{n // 7}"}) + "\n" for n in range(21))
    )
    options = TransformOptions([str(source)], tmp_path / name, {}, abort_above=1.0)
    transform_files(options, Pairs(lambda prompt: DOWN if prompt == "p3" else None))
    retry_transform(options, Retry(), Pairs())
    from rewardkit.scoring.formats.decode import read_row
    from rewardkit.scoring.formats.readers import Reader, find_inputs

    chunks = Reader(find_inputs([str(options.out)])).chunks()
    found = {row["prompt"]: row["joined"] for chunk in chunks for row in (read_row(raw)[0] for raw in chunk.rows)}
    assert found == {f"p{n}": "c0+c1+c2" for n in range(7)}
