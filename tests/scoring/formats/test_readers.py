"""Raw rows out of files."""

import io
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rewardkit.errors import DataError
from rewardkit.scoring.formats import jsonl, readers
from rewardkit.scoring.formats.readers import Reader, find_inputs


def _all(path: Path, **options: Any) -> list[tuple[int, Any]]:
    reader = Reader(find_inputs([str(path)]), **options)
    return [pair for chunk in reader.chunks() for pair in zip(chunk.numbers, chunk.rows, strict=True)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    lines=st.lists(st.binary(max_size=30).map(lambda data: data.replace(b"\n", b"").replace(b"\0", b"")), max_size=30),
    end=st.booleans(),
    block=st.integers(1, 40),
    rows=st.integers(1, 7),
)
def test_lines_keep_their_numbers(
    lines: list[bytes], end: bool, block: int, rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the blocks and chunks, every line that holds something comes once, with its number."""
    monkeypatch.setattr(jsonl, "BLOCK_BYTES", block)
    monkeypatch.setattr(readers, "format_of", lambda _source: jsonl.FORMAT)
    data = b"{}\n" + b"\n".join(lines) + (b"\n" if end else b"")
    path = tmp_path / "rows.jsonl"
    path.write_bytes(data)
    expected = [(number, line) for number, line in enumerate(data.split(b"\n"), 1) if line.strip()]
    assert [(number, line) for number, line in _all(path, max_rows=rows) if line.strip()] == expected


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet"])
def test_kinds_of_files(ending: str, tmp_path: Path, files: ModuleType) -> None:
    """Every kind gives the same rows, and may start anywhere."""
    rows = files.make_rows(5000)
    path = files.write_rows(tmp_path / f"rows{ending}", rows)
    for skip in (0, 1, 2047, 2048, 4999, 5000):
        chunks = list(Reader(find_inputs([str(path)])).chunks(skip))
        found = [row if isinstance(row, dict) else orjson.loads(row) for chunk in chunks for row in chunk.rows]
        assert found == rows[skip:]
        assert [ordinal for chunk in chunks for ordinal in chunk.ordinals] == list(range(skip, 5000))


def test_kind_is_told_by_content(tmp_path: Path, files: ModuleType) -> None:
    """A name may lie."""
    path = files.write_rows(tmp_path / "rows.gz", files.make_rows(3))
    assert len(_all(path.rename(tmp_path / "rows.txt"))) == 3


def test_members_of_gzip(tmp_path: Path, files: ModuleType) -> None:
    """Compressed files that were appended to are read to the end."""
    one = files.write_rows(tmp_path / "a.gz", files.make_rows(3)).read_bytes()
    (tmp_path / "b.gz").write_bytes(one + one)
    assert len(_all(tmp_path / "b.gz")) == 6


def test_byte_order_mark_and_windows_lines(tmp_path: Path) -> None:
    """A BOM is no part of the first row; CR LF ends a line; blank lines count only for numbers."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\r\n  \n{"a": 2}')
    assert [(number, orjson.loads(row)) for number, row in _all(path)] == [(1, {"a": 1}), (4, {"a": 2})]


def test_limit(tmp_path: Path, files: ModuleType) -> None:
    """A limit ends over all files."""
    paths = [str(files.write_rows(tmp_path / f"{name}.jsonl", files.make_rows(10))) for name in "ab"]
    chunks = list(Reader(find_inputs(paths), max_rows=4, limit=13).chunks())
    assert sum(len(chunk.rows) for chunk in chunks) == 13


def test_globs(tmp_path: Path) -> None:
    """Globs are sorted, give a file once, and leave out what is said."""
    for name in ("b", "a", "out"):
        (tmp_path / f"{name}.jsonl").write_text("{}\n")
    found = find_inputs([str(tmp_path / "a.jsonl"), str(tmp_path / "*.jsonl")], leave_out=[tmp_path / "out.jsonl"])
    assert [item.path.name for item in found] == ["a.jsonl", "b.jsonl"]


def test_nanoseconds(tmp_path: Path) -> None:
    """Times finer than Python's keep their nanoseconds."""
    pq.write_table(pa.table({"t": pa.array([1_000_000_001], pa.timestamp("ns"))}), tmp_path / "t.parquet")
    [(_, row)] = _all(tmp_path / "t.parquet")
    assert row["t"] == "1970-01-01 00:00:01.000000001"


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard input can be read twice, and is told apart by its content."""
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b'{"a": 1}\n')))
    [item] = find_inputs(["-"])
    reader = Reader([item])
    assert list(reader.chunks()) == list(reader.chunks())
    assert item.name == "stdin"
    assert "content" in item.identity()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "the file is empty"),
        (b"\n \n", "the file is empty"),
        (b"PK\x03\x04" + b"\0" * 50, "a ZIP archive"),
        (b"PARE" + b"\0" * 50, "an encrypted Parquet file"),
        (b"\xfd7zXZ\x00", "compressed with xz"),
        ("[]".encode("utf-32"), "UTF-32"),
        ("[]".encode("utf-16"), "iconv"),
        (b"PAR1 but no more", "no Parquet file that can be read"),
        (b"\x1f\x8b\x08\x00\x00", "damaged or cut off"),
    ],
)
def test_bad_files(content: bytes, told: str, tmp_path: Path) -> None:
    """What is no file of rows is refused with what to do."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"rows\.jsonl") as raised:
        list(Reader(find_inputs([str(path)])).first_rows())
    assert told in str(raised.value)


@pytest.mark.parametrize(
    ("pattern", "told"), [("none.jsonl", "there is no file"), ("*.none", "no file matches"), ("", "is a folder")]
)
def test_bad_names(pattern: str, told: str, tmp_path: Path) -> None:
    """Names that lead nowhere are errors."""
    with pytest.raises(DataError, match=re.escape(told)):
        find_inputs([str(tmp_path / pattern) if pattern else str(tmp_path)])
