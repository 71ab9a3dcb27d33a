"""The cache: what is the same row is found again, what is another row never is, and its own failures stop nothing."""

import dataclasses
import datetime as dt
import decimal
import os
import sqlite3
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardkit import Rollout, Score
from rewardkit.composite import cache as module
from rewardkit.composite.cache import ScoreCache, default_folder, unit_key

ROW = Rollout("p", "c", {"x": 1, "y": None}, "g", 3, "stop")


def key(rollout: Rollout) -> bytes | None:
    """Its key, for one component."""
    return unit_key(b"component", [rollout])


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "q"},
        {"completion": "d"},
        {"completion": [{"role": "assistant", "content": "c"}]},
        {"fields": {"x": 2, "y": None}},
        {"fields": {"x": "1", "y": None}},
        {"fields": {"x": 1.5, "y": None}},
        {"fields": {"x": 1, "y": [None]}},
        {"fields": {"x": 1, "y": [float("nan")]}},
        {"fields": {"x": 1, "y": float("inf")}},
        {"fields": {"x": 1, "y": -float("inf")}},
        {"fields": {"x": 1, "y": "null"}},
        {"fields": {"x": 1}},
        {"fields": {"x": 1, "y": None, "z": None}},
        {"fields": {"x": 2**70, "y": None}},
        {"fields": {"x": b"1", "y": None}},
        {"num_tokens": 4},
        {"num_tokens": None},
        {"finish_reason": "length"},
        {"finish_reason": None},
    ],
)
def test_another_row_has_another_key(change: dict) -> None:
    """Whatever of a row a reward may read, a change to it is a change of the key."""
    assert key(dataclasses.replace(ROW, **change)) != key(ROW)


def test_the_order_of_columns_is_no_difference() -> None:
    """Columns in another order are the same row."""
    assert key(dataclasses.replace(ROW, fields={"y": None, "x": 1})) == key(ROW)


@pytest.mark.parametrize(
    "value",
    [
        "\ud800",
        "\0",
        2**70,
        decimal.Decimal("1.50"),
        dt.date(2024, 1, 2),
        b"\xff",
        {"a": [1, {"b": None}]},
        float("nan"),
    ],
)
def test_odd_values_have_keys(value: object) -> None:
    """Whatever a row of a file may hold has a key, always the same one."""
    row = Rollout("p", "c", {"x": value})
    assert key(row) is not None
    assert key(row) == key(Rollout("p", "c", {"x": value}))


@pytest.mark.parametrize("value", [object(), threading.Lock(), {1: "a", "b": "c", "d": object()}])
def test_what_has_no_exact_text_has_no_key(value: object) -> None:
    """A row with an object in it, whose text may be that of another, has no key."""
    assert key(Rollout("p", "c", {"x": value})) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(), json_values, max_size=3), st.dictionaries(st.text(), json_values, max_size=3))
def test_keys_are_equal_just_where_rows_are(first: dict, second: dict) -> None:
    """Two rows share a key only if they are written the same."""
    same = repr_of(first) == repr_of(second)
    assert (key(Rollout("p", "c", first)) == key(Rollout("p", "c", second))) is same


def repr_of(value: object) -> str:
    """A text that differs where values do, 1 from True and 1.0 included, but not with the order of keys."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key!r}:{repr_of(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(repr_of, value)) + "]"
    return repr(value)


def test_units_are_kept_apart() -> None:
    """A group is not the concatenation of its rollouts' texts, and its order counts."""
    one, two = Rollout("p", "ab"), Rollout("p", "c")
    keys = {unit_key(b"k", unit) for unit in ([one, two], [two, one], [one], [Rollout("p", "a"), Rollout("p", "bc")])}
    assert len(keys) == 4
    assert unit_key(b"other", [one]) != unit_key(b"k", [one])


SCORES = {
    b"1": [Score(1.0)],
    b"2": [Score(-0.5, "why é", {"m": 1.0}, [0.0, 1.0]), Score(2.0)],
    b"4": [Score(0.0, extracted="print(1)"), Score(0.5, output="1\n")],
}


def test_scores_come_back_as_they_were(tmp_path: Path) -> None:
    """What is kept is found by another cache of the same folder, reasons, metrics, steps and texts included."""
    first = ScoreCache(tmp_path)
    first.put(SCORES)
    first.close()
    second = ScoreCache(tmp_path)
    assert second.get([b"1", b"2", b"3", b"4", b"1"]) == SCORES
    assert second.hits == 4
    second.close()
    assert second.get([b"1"]) == {}
    second.put(SCORES)


def test_many_keys_at_once(tmp_path: Path) -> None:
    """More keys than SQLite takes in one statement are found."""
    cache = ScoreCache(tmp_path)
    scores = {str(number).encode(): [Score(float(number))] for number in range(70_000)}
    cache.put(scores)
    assert cache.get(list(scores)) == scores
    cache.close()


def test_what_cannot_be_written_is_left_out(tmp_path: Path) -> None:
    """A reason with a lone surrogate is not kept, and does not keep the others from being kept."""
    cache = ScoreCache(tmp_path)
    cache.put({b"1": [Score(1.0, "\ud800")], b"2": [Score(2.0)]})
    assert cache.get([b"1", b"2"]) == {b"2": [Score(2.0)]}
    cache.close()


def damage_by_bytes(file: Path) -> None:
    """Not a database at all."""
    file.write_bytes(b"this is not a database" * 1000)


def damage_by_folder(file: Path) -> None:
    """A folder stands in the file's place."""
    file.mkdir()


def damage_by_other_table(file: Path) -> None:
    """Somebody else's table."""
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE scores (something TEXT)")
    connection.close()


def damage_by_cutting(file: Path) -> None:
    """Cut a cache off."""
    cache = ScoreCache(file.parent)
    cache.put({str(number).encode(): [Score(1.0, "x" * 500)] for number in range(500)})
    cache.close()
    file.write_bytes(file.read_bytes()[:5000])


def damage_by_version(file: Path) -> None:
    """A version that never was."""
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA user_version=-3")
    connection.close()


@pytest.mark.parametrize("damage", [damage_by_bytes, damage_by_other_table, damage_by_cutting, damage_by_version])
def test_a_damaged_file_is_replaced(tmp_path: Path, damage, caplog: pytest.LogCaptureFixture) -> None:
    """A file that is not a cache, or a broken one, is set aside with a warning that names it; a new one is used."""
    file = tmp_path / "scores.sqlite"
    damage(file)
    cache = ScoreCache(tmp_path)
    assert cache.get([b"1"]) == {}
    cache.put(SCORES)
    assert cache.get(list(SCORES)) == SCORES
    cache.close()
    (message,) = caplog.messages
    assert message.startswith(f"the score cache {file} can't be used (")
    assert (tmp_path / "scores.damaged").exists()


def test_a_folder_in_place_of_the_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where the file can't be opened nothing is found or kept, with one warning."""
    damage_by_folder(tmp_path / "scores.sqlite")
    cache = ScoreCache(tmp_path)
    cache.put(SCORES)
    assert cache.get([b"1"]) == {}
    cache.close()
    (message,) = caplog.messages
    assert "can't be used, so scores are not cached" in message


def test_a_later_version_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A cache that a later version wrote is neither used nor replaced."""
    ScoreCache(tmp_path).close()
    with sqlite3.connect(tmp_path / "scores.sqlite") as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    cache = ScoreCache(tmp_path)
    assert cache.get([b"1"]) == {}
    cache.close()
    assert "a later version of rewardkit wrote it (version 99, known is 1)" in caplog.text
    assert not (tmp_path / "scores.damaged").exists()


def test_a_cache_without_a_version_is_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The first versions wrote no version; what they kept is found."""
    cache = ScoreCache(tmp_path)
    cache.put(SCORES)
    cache.close()
    with sqlite3.connect(cache.file) as connection:
        connection.execute("PRAGMA user_version=0")
    connection.close()
    cache = ScoreCache(tmp_path)
    assert cache.get(list(SCORES)) == SCORES
    cache.close()
    assert caplog.messages == []


def test_a_forked_process_has_a_connection_of_its_own(tmp_path: Path) -> None:
    """A cache that is inherited through a fork is opened again, and both processes go on."""
    cache = ScoreCache(tmp_path)
    child = os.fork()
    if child == 0:
        cache.put(SCORES)
        os._exit(cache.get(list(SCORES)) != SCORES)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert cache.get(list(SCORES)) == SCORES
    cache.close()


@pytest.mark.parametrize("value", ["[", '[[null, "", null, null]]', "[[1]]{", "7", "[[1, 2, 3, 4, 5, 6]]", "[{}]"])
def test_a_damaged_entry_is_left_aside(tmp_path: Path, value: str, caplog: pytest.LogCaptureFixture) -> None:
    """An entry that is no score is not found, with a warning."""
    cache = ScoreCache(tmp_path)
    with sqlite3.connect(cache.file) as connection:
        connection.execute("INSERT INTO scores VALUES (?, ?)", (b"1", value.encode()))
    connection.close()
    assert cache.get([b"1"]) == {}
    assert "can't be used, so scores are not cached" in caplog.text
    cache.close()


def test_a_folder_that_cannot_be_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where there can be no folder the cache is empty, and says so."""
    (tmp_path / "file").write_text("")
    cache = ScoreCache(tmp_path / "file" / "cache")
    cache.put(SCORES)
    assert cache.get([b"1"]) == {}
    assert "can't be used, so scores are not cached" in caplog.text


def test_threads_and_caches_share_a_file(tmp_path: Path) -> None:
    """Several caches of one folder, each used by several threads, lose nothing and fail in nothing."""
    caches = [ScoreCache(tmp_path) for _ in range(3)]
    failures: list[object] = []

    def work(cache: ScoreCache, start: int) -> None:
        for number in range(start, start + 30):
            scores = {str(number).encode(): [Score(float(number))]}
            cache.put(scores)
            if cache.get(list(scores)) != scores:
                failures.append(number)

    threads = [threading.Thread(target=work, args=(cache, 100 * n)) for n, cache in enumerate(caches * 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for cache in caches:
        cache.close()


def test_it_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file above the limit loses its older half when it is opened."""
    cache = ScoreCache(tmp_path)
    for number in range(100):
        cache.put({str(number).encode(): [Score(float(number))]})
    cache.close()
    monkeypatch.setattr(module, "MAX_BYTES", 1)
    cache = ScoreCache(tmp_path)
    kept = sorted(int(key) for key in cache.get([str(number).encode() for number in range(100)]))
    assert 40 <= len(kept) <= 60
    assert kept[-1] == 99
    assert kept[0] == 100 - len(kept)
    cache.close()


def test_where_it_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The folder is REWARDKIT_CACHE_DIR, or rewardkit in the user's cache folder."""
    monkeypatch.setenv("REWARDKIT_CACHE_DIR", str(tmp_path / "mine"))
    assert default_folder() == tmp_path / "mine"
    monkeypatch.delenv("REWARDKIT_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_folder() == tmp_path / "xdg" / "rewardkit"
