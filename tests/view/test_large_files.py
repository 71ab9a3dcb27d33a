"""A large file of scored JSON Lines is shown at once, and all of its rows are those that a small one would show."""

import gzip
import json

import pytest

from rewardkit.view import conversion, reading, sources
from rewardkit.view.conversion import Conversion, NotConvertibleError
from tests.view.conftest import scored_rows

ROW = {"prompt": "p", "completion": "c", "reward": 1.0, "reward_status": "scored", "reward_id": "x"}
PART = {"value": 1.0, "weight": 1.0, "contribution": 1.0, "status": "scored", "reason": "right", "kind": None}


@pytest.fixture
def large(monkeypatch):
    """Take every file for a large one, of which two rows are shown first."""
    monkeypatch.setattr(sources, "LARGE_BYTES", 1)
    monkeypatch.setattr(reading, "FIRST_ROWS", 2)


def write(path, rows):
    """Write rows as lines of JSON."""
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def wait(ask):
    """Wait until all rows are read, and return the source."""
    [source] = ask.sources.sources
    source.loading.join(60)
    assert not source.is_loading
    return source


def told(ask):
    """Return what the page is told of a file, without what depends on how its rows are kept: a missing step, and a heading."""
    found = [ask(address) for address in ("0/rows", "0/groups", "0/summary")]
    found += [ask("0/rows", sort="-reward"), ask("0/rows", q="so"), ask("0/rows", f='["reward",">",0]')]
    for page in found:
        for row in page.get("rows", ()):
            row.pop("step", None)
        for number in page.get("numbers", ()):
            del number["title"]
    return [*found, [ask(f"0/row/{number}") for number in range(ask("state")["sources"][0]["rows"])]]


SHAPES = {
    "as score writes them": scored_rows(12),
    "chat": [
        {
            **ROW,
            "prompt": [{"role": "user", "content": "2+2?"}],
            "completion": [{"role": "assistant", "content": f"it's {n}"}],
        }
        for n in range(5)
    ],
    "texts that look like other things": [
        {**ROW, "day": "2024-01-01", "time": "10:00:00", "id": "550e8400-e29b-41d4-a716-446655440000", "number": "007"}
    ]
    * 4,
    "components with more": [
        {**ROW, "components": {"a": {**PART, "metrics": {"x": 0.5}, "extracted": "<b>...</b>"}, "b b": PART}},
        {
            **ROW,
            "completion": "<b>c</b>",
            "components": {"a": {**PART, "kind": "infra", "status": "unscored"}, "b b": PART},
        },
    ]
    * 3,
    "a key that is not in all rows": [ROW, ROW, {**ROW, "late": 5}],
    "text or messages": [ROW, {**ROW, "completion": [{"role": "assistant", "content": "c"}]}],
    "keys that differ in case": [{**ROW, "a": 1.5, "A": 2.5}] * 3,
    "numbers beyond 64 bits": [{**ROW, "n": 2**63 + number} for number in range(3)],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_all_rows_are_those_of_a_small_file(tmp_path, opened, monkeypatch, shape):
    """Pages, filters, groups, statistics and whole rows do not depend on how the file is read."""
    path = write(tmp_path / "s.jsonl", SHAPES[shape])
    small = told(opened(path))
    monkeypatch.setattr(sources, "LARGE_BYTES", 1)
    monkeypatch.setattr(reading, "FIRST_ROWS", 2)
    ask = opened(path)
    wait(ask)
    if shape == "chat":  # in columns the length of messages is that of their JSON
        assert [row["completion"] for row in ask("0/rows")["rows"]] == [f"it's {number}" for number in range(5)]
    else:
        assert told(ask) == small


@pytest.mark.usefixtures("large")
def test_a_field_of_several_types_is_text(tmp_path, opened):
    """No value is lost or changed."""
    values = ["a", 5.0, None, "2024-01-01", {"b": [1]}]
    ask = opened(write(tmp_path / "s.jsonl", [{**ROW, "mixed": value} for value in values]))
    assert not wait(ask).relation.is_table
    shown = [row["field:mixed"] for row in ask("0/rows")["rows"]]
    assert shown == ["a", "5.0", None, "2024-01-01", '{"b":[1]}'] or shown[-1] == '{"b": [1]}'


@pytest.mark.usefixtures("large")
def test_the_first_rows_are_shown_at_once(tmp_path, opened, monkeypatch):
    """The title says that there are more; then the others are there, and the version tells the page."""
    started = []
    monkeypatch.setattr(
        reading.Loading, "is_alive", lambda self: not started or self.__class__.__mro__[1].is_alive(self)
    )
    ask = opened(write(tmp_path / "s.jsonl.gz", scored_rows(40)))
    first = ask("state")["sources"][0]
    assert (first["title"], ask("0/rows")["total"] >= 2) == ("s.jsonl.gz (first rows; reading)", True)
    started.append(True)
    source = wait(ask)
    assert not source.relation.is_table
    last = ask("state")["sources"][0]
    assert (last["title"], last["rows"], last["version"] > 1) == ("s.jsonl.gz", 40, True)
    assert len(ask("0/rows", offset=30)["rows"]) == 10


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize(
    ("line", "message"),
    [('{"prompt": "p",\n', "s.jsonl:7 is not JSON"), ("[1]\n", "s.jsonl:7 is not a JSON object but list")],
)
def test_a_wrong_row_is_named(tmp_path, opened, line, message):
    """The page tells the line; the rows before it are shown."""
    path = write(tmp_path / "s.jsonl", scored_rows(6))
    with path.open("a") as file:
        file.write(line + json.dumps(ROW) + "\n")
    ask = opened(path)
    wait(ask)
    state = ask("state")
    assert message in state["problem"]
    assert state["sources"][0]["rows"] <= 6


@pytest.mark.usefixtures("large")
def test_a_file_that_is_read_row_by_row_is_followed(tmp_path, opened):
    """Rows that DuckDB can't read without a loss are read one by one, and appended rows appear."""
    path = write(tmp_path / "s.jsonl", SHAPES["text or messages"])
    ask = opened(path)
    assert wait(ask).relation.is_table
    with path.open("a") as file:
        file.write(json.dumps({**ROW, "completion": "new"}) + "\n")
    assert ask("state")["sources"][0]["rows"] == 3
    assert ask("0/rows", q="new")["total"] == 1


@pytest.mark.usefixtures("large")
def test_a_changed_file_is_read_again(tmp_path, opened):
    """Once it no longer changes; until then the old rows are shown."""
    path = write(tmp_path / "s.jsonl", scored_rows(8))
    ask = opened(path)
    version = wait(ask).relation.version
    write(tmp_path / "new.jsonl", scored_rows(20)).replace(path)
    assert ask("state")["sources"][0]["rows"] == 8
    ask("state")
    wait(ask)
    source = ask("state")["sources"][0]
    assert (source["rows"], source["version"] > version) == (20, True)


@pytest.mark.usefixtures("large")
def test_closing_ends_the_reading(tmp_path, opened):
    """Nothing is left of a conversion that was stopped."""
    ask = opened(write(tmp_path / "s.jsonl", scored_rows(2000)))
    [source] = ask.sources.sources
    ask.sources.close()
    assert not source.is_loading
    assert not ask.sources.database.folder.exists()


def test_a_stopped_conversion_leaves_no_file(tmp_path, monkeypatch):
    """Only a whole Parquet file is put in place."""
    path = write(tmp_path / "s.jsonl", [ROW, {**ROW, "n": 2**63}])
    with pytest.raises(NotConvertibleError, match="numbers are of type"):
        Conversion(path, tmp_path / "s.parquet", tmp_path).run()
    monkeypatch.setattr(conversion, "MOST_TYPES", 10)
    with pytest.raises(NotConvertibleError, match="too many"):
        Conversion(write(path, [ROW]), tmp_path / "s.parquet", tmp_path).run()
    assert [file.name for file in tmp_path.iterdir()] == ["s.jsonl"]
