"""Every format that can be read gives the same rows; what can't be read is refused by name."""

import bz2
import json
import os
import threading
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from rewardkit.errors import DataError
from rewardkit.scoring.columns.paths import RowError
from rewardkit.scoring.formats.decode import read_row
from rewardkit.scoring.formats.format import UnreadableRow
from rewardkit.scoring.formats.readers import Reader, find_inputs, read_blocks

ROWS = [{"prompt": f"p {index}, é", "completion": f"line\nof {index}", "answer": str(index)} for index in range(2500)]


def _rows(path: Path) -> list[Any]:
    rows = [row for chunk in Reader(find_inputs([str(path)])).chunks() for row in chunk.rows]
    return [orjson.loads(row) if isinstance(row, bytes) else row for row in rows]


def _delimited(delimiter: str) -> bytes:
    import csv
    import io

    text = io.StringIO()
    writer = csv.DictWriter(text, list(ROWS[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return text.getvalue().encode()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", _delimited(",")),
        ("rows.tsv", _delimited("\t")),
        ("semicolons.csv", _delimited(";")),
        ("with_bom.csv", b"\xef\xbb\xbf" + _delimited(",")),
        ("csv_by_content.txt", _delimited(",")),
        ("rows.csv.bz2", bz2.compress(_delimited(","))),
        ("array.json", json.dumps(ROWS).encode()),
        ("pretty_array.json", json.dumps(ROWS, indent=1).encode()),
        ("pretty.json", b"\n".join(json.dumps(row, indent=2).encode() for row in ROWS)),
        ("array.jsonl", b"\n [" + json.dumps(ROWS)[1:].encode()),
        ("rows.jsonl.bz2", bz2.compress(b"".join(json.dumps(row).encode() + b"\n" for row in ROWS))),
        (
            "parts.bz2",
            b"".join(
                bz2.compress(b"".join(json.dumps(row).encode() + b"\n" for row in part))
                for part in (ROWS[:9], ROWS[9:])
            ),
        ),
    ],
)
def test_text_formats(name: str, content: bytes, tmp_path: Path) -> None:
    """CSV, JSON arrays, pretty-printed objects and bzip2 give the rows that lines of JSON give."""
    (tmp_path / name).write_bytes(content)
    assert _rows(tmp_path / name) == ROWS


@pytest.mark.parametrize("kind", ["file", "stream", "compressed"])
def test_arrow_files(kind: str, tmp_path: Path) -> None:
    """Arrow files, Arrow streams (as `datasets` keeps them) and Feather give the same rows."""
    table = pa.Table.from_pylist(ROWS)
    path = tmp_path / "rows.arrow"
    if kind == "compressed":
        pyarrow.feather.write_feather(table, str(path), compression="zstd")
    else:
        make = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
        with make(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=700)
    assert _rows(path) == ROWS


def test_zstandard_with_frames_to_skip(tmp_path: Path) -> None:
    """A frame that readers have to skip is skipped wherever it stands."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(b'{"a": 1}\n')
    frame, skipped = sink.getvalue().to_pybytes(), b"\x53\x2a\x4d\x18\x04\0\0\0abcd"
    (tmp_path / "a.zst").write_bytes(skipped + skipped + frame + skipped + frame)
    assert _rows(tmp_path / "a.zst") == [{"a": 1}, {"a": 1}]


def test_bad_row_of_an_array_is_alone(tmp_path: Path) -> None:
    """An element that is no JSON object is set aside with its line."""
    (tmp_path / "a.json").write_text('[\n{"a": 1},\n{"a": }, \n3,\n{"a": [1, {"b": "]"}]}\n]')
    blocks = list(read_blocks(find_inputs([str(tmp_path / "a.json")])[0]))
    assert [number for block in blocks for number in block.numbers] == [2, 3, 4, 5]
    found = []
    for row in blocks[0].rows:
        try:
            found.append(read_row(row)[0])
        except RowError as error:
            found.append(str(error)[:8])
    assert found == [{"a": 1}, "not JSON", "a row mu", {"a": [1, {"b": "]"}]}]


def test_cells_of_csv(tmp_path: Path) -> None:
    """An empty cell is missing, an empty completion is an empty text, and a row of another width is set aside."""
    (tmp_path / "a.csv").write_text("prompt,completion,answer,num_tokens\np,,,7\np,x\np,y,1,\n")
    [full, short, last] = _rows(tmp_path / "a.csv")
    assert full == {"prompt": "p", "completion": "", "answer": None, "num_tokens": 7}
    assert isinstance(short, UnreadableRow)
    assert "2 values, but the header names 4 columns" in short.reason
    assert last["num_tokens"] is None


TIMES = [
    (pa.timestamp("ns"), 1_577_836_800_123_456_789, "2020-01-01 00:00:00.123456789"),
    (pa.timestamp("ms", "Mars/Phobos"), 1_577_836_800_123, "2020-01-01 00:00:00.123 UTC (Mars/Phobos)"),
    (pa.timestamp("us"), 316_537_891_200_000_000, "12000-09-08 00:00:00.000000"),
    (pa.date32(), -900_000, "-0495-11-20"),
    (pa.time64("ns"), 123_456_789, "00:00:00.123456789"),
    (pa.duration("ns"), 123_456_789, "123456789 ns"),
]


@pytest.mark.parametrize("nested", ["", "list", "struct"])
def test_times_that_python_cant_hold(nested: str, tmp_path: Path, toy: Any) -> None:
    """They are text for rewards and in JSON, and come out of Parquet as they went in."""

    def cell(value: Any) -> Any:
        return {"": value, "list": [value], "struct": {"a": value}}[nested]

    kinds = [{"": kind, "list": pa.list_(kind), "struct": pa.struct([("a", kind)])}[nested] for kind, _, _ in TIMES]
    columns = {
        f"t{number}": pa.array([cell(value), None], kind)
        for number, (kind, (_, value, _)) in enumerate(zip(kinds, TIMES, strict=True))
    }
    pq.write_table(pa.table({"prompt": ["p", "q"], "completion": ["x", "yy"], **columns}), tmp_path / "rows.parquet")
    toy.score([tmp_path / "rows.parquet"], tmp_path / "out.jsonl")
    first = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
    assert [first[name] for name in columns] == [cell(text) for _, _, text in TIMES]
    toy.score([tmp_path / "rows.parquet"], tmp_path / "out.parquet")
    out = pq.read_table(tmp_path / "out.parquet")
    for kind, (name, column) in zip(kinds, columns.items(), strict=True):
        assert out.column(name).combine_chunks().cast(kind).equals(column), name


def test_double_columns_are_told(tmp_path: Path) -> None:
    """A file with two columns of one name is refused, since one of them would be lost."""
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["q", "q"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="two columns are called 'q'"):
        _rows(tmp_path / "a.parquet")


@pytest.mark.parametrize("kind", ["[]", "{}"])
def test_deep_rows_are_set_aside(kind: str, tmp_path: Path, toy: Any) -> None:
    """A row that is nested too deeply, however deeply, is set aside; its neighbours are scored."""
    good = '{"prompt": "p", "completion": "x"}\n'
    lines = [good]
    for depth in (201, 900, 5000, 100_000):
        inner = "[" * depth + "]" * depth if kind == "[]" else '{"a":' * depth + "1" + "}" * depth
        lines += [f'{{"prompt": "p", "completion": "x", "f": {inner}}}\n', good]
    (tmp_path / "rows.jsonl").write_text("".join(lines))
    result = toy.score([tmp_path / "rows.jsonl"], tmp_path / "out.parquet")
    assert (result.manifest["rows_written"], result.manifest["rows_rejected"]) == (5, 4)


def test_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    """A named pipe, as a shell makes for <(…), is read like a file."""
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=('{"a": 1}\n{"a": 2}\n',))
    writer.start()
    [item] = find_inputs([str(tmp_path / "pipe")])
    writer.join()
    assert [orjson.loads(row) for block in read_blocks(item) for row in block.rows] == [{"a": 1}, {"a": 2}]  # type: ignore[arg-type]


@pytest.mark.parametrize("change", ["append", "truncate", "overwrite", "replace", "remove"])
def test_change_while_reading_is_noticed(change: str, tmp_path: Path) -> None:
    """A file that changes between the search for it and its end fails the run."""
    path = tmp_path / "rows.jsonl"
    text = "".join(json.dumps({"a": index, "b": "x" * 1000}) + "\n" for index in range(3000))
    path.write_text(text)
    os.utime(path, ns=(1, 1))
    chunks = Reader(find_inputs([str(path)]), max_rows=10).chunks()
    next(chunks)
    if change == "append":
        with path.open("a") as file:
            file.write(text)
    elif change == "truncate":
        os.truncate(path, 2_000_000)
    elif change == "overwrite":
        with path.open("r+") as file:
            file.write(text.replace("x", "y"))
    elif change == "replace":
        (tmp_path / "other").write_text(text)
        (tmp_path / "other").replace(path)
    else:
        path.unlink()
    with pytest.raises(DataError, match="while it was read"):
        list(chunks)


def test_input_is_known_by_content(tmp_path: Path) -> None:
    """A touched file is the same input; other content of the same size and time is another."""
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n')
    before = find_inputs([str(path)])[0].identity()
    os.utime(path, ns=(5, 5))
    assert find_inputs([str(path)])[0].identity() == before
    path.write_text('{"a": 2}\n')
    os.utime(path, ns=(5, 5))
    assert find_inputs([str(path)])[0].identity() != before
