"""What tests of scoring share: rewards of their own, files of rows, and ways to look at what was written."""

import gzip
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest


@pytest.fixture(scope="session")
def toy() -> ModuleType:
    """The module ``toy.py`` beside this file."""
    spec = importlib.util.spec_from_file_location("scoring_toy", Path(__file__).with_name("toy.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_rows(count: int, group: int = 4) -> list[dict[str, Any]]:
    """Rows in groups of ``group``, all different."""
    return [
        {
            "prompt": f"question {index // group}",
            "completion": f"answer {index} " + "x" * (index * 7 % 40),
            "id": index,
            "answer": str(index % 3),
            "nested": {"level": index % 5, "tags": ["a"] * (index % 3)},
        }
        for index in range(count)
    ]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as the name's ending asks for."""
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if path.name.endswith(".gz"):
        path.write_bytes(gzip.compress(text))
    elif path.name.endswith(".zst"):
        with pa.CompressedOutputStream(str(path), "zstd") as stream:
            stream.write(text)
    elif path.name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_bytes(text)
    return path


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read any output; rows of tables without the nulls that lines of JSON leave out."""
    if path.is_dir():
        tables = [pa.ipc.open_stream(file.read_bytes()).read_all() for file in sorted(path.glob("*.arrow"))]
        return [_without_nulls(row) for row in pa.concat_tables(tables).to_pylist()]
    if path.name.endswith(".parquet"):
        return [_without_nulls(row) for row in pq.read_table(path).to_pylist()]
    if path.name.endswith(".gz"):
        data = gzip.decompress(path.read_bytes())
    elif path.name.endswith(".zst"):
        with pa.CompressedInputStream(str(path), "zstd") as stream:
            data = stream.read()
    else:
        data = path.read_bytes()
    return [json.loads(line) for line in data.splitlines()]


def _without_nulls(row: dict[str, Any]) -> dict[str, Any]:
    for cell in row.get("components", {}).values():
        for name in ("kind", "metrics", "steps", "traceback", "extracted", "output"):
            if cell[name] is None:
                del cell[name]
        if "metrics" in cell:
            cell["metrics"] = {name: value for name, value in cell["metrics"].items() if value is not None}
    return row


@pytest.fixture
def files() -> ModuleType:
    """``make_rows``, ``write_rows`` and ``read_rows``."""
    module = ModuleType("files")
    vars(module).update(make_rows=make_rows, write_rows=write_rows, read_rows=read_rows)
    return module
