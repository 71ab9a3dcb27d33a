"""Damaged files of an earlier run are named, and never stop a run that begins anew; nothing scored is never success."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from rewardkit.errors import OutputError, TooManyUnscoredError

BROKEN_OFF = """
version: 1
components:
  hashed: {use: toy.hashed}
  broken: {use: toy.broken}
unscored: {policy: exclude, abort_above: 0.5}
"""


ROWS = 40
RunOnce = Callable[[str], tuple[Path, Path]]


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs that stopped before their end, one for each kind of output; `interrupted` fills and copies them."""
    return tmp_path_factory.mktemp("states")


@pytest.fixture
def interrupted(states: Path, tmp_path: Path, toy: ModuleType, files: ModuleType) -> RunOnce:
    """Return input and output of a run that stopped before its end, with a journal and a part."""

    def copy(ending: str) -> tuple[Path, Path]:
        # The journal names the input, so all copies read the same one.
        state = states / ending.strip(".")
        if not state.exists():
            state.mkdir()
            _interrupt(state, toy, files, ending)
        for path in state.glob("out*"):
            shutil.copy(path, tmp_path)
        return state / "rows.jsonl", tmp_path / f"out{ending}"

    return copy


def _interrupt(tmp_path: Path, toy: ModuleType, files: ModuleType, ending: str) -> None:
    source = files.write_rows(tmp_path / "rows.jsonl", files.make_rows(ROWS))
    out = tmp_path / f"out{ending}"
    toy.score([source], out)
    manifest = json.loads(Path(f"{out}.manifest.json").read_text())
    Path(f"{out}.manifest.json").unlink()
    size = out.stat().st_size
    out.rename(f"{out}.part")
    segment = {"consumed": ROWS, "rows": ROWS, "rejected": 0, "part_bytes": size, "rejected_bytes": 0}
    lines = [{"version": 1, "job": {**manifest["job"], "order": "input"}}, {"segment": segment}]
    Path(f"{out}.journal").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: b"garbage\n",
        lambda text: os.urandom(300).replace(b"\n", b"") + b"\n",
        lambda text: b"[1]\n",
        lambda text: b"null\n",
        lambda text: b'"version"\n',
        lambda text: b'{"version": 1}\n',
        lambda text: b'{"version": 1, "job": 3}\n',
        lambda text: text.replace(b'"version": 1', b'"version": 2'),
        lambda text: text.replace(b'"consumed": 40', b'"consumed": "x"'),
        lambda text: text.replace(b'"consumed": 40', b'"consumed": -4'),
        lambda text: text.replace(b'"rows": 40', b'"rows": 40, "zz": 1'),
        lambda text: text.replace(b'"rows": 40', b'"emptied": 3'),
        lambda text: text + b"\0" * 100 + b"\n",
        lambda text: text.replace(b"\n", b"\n{bro\n", 1),
        lambda text: b"[" * 100_000 + b"\n",
        lambda text: text.replace(b'"part_bytes": ', b'"part_bytes": 9999'),
    ],
)
def test_damaged_journal(
    damage: Callable[[bytes], bytes], interrupted: RunOnce, toy: ModuleType, files: ModuleType
) -> None:
    """The error names the journal; --fresh scores everything."""
    source, out = interrupted(".jsonl")
    journal = Path(f"{out}.journal")
    journal.write_bytes(damage(journal.read_bytes()))
    with pytest.raises(OutputError, match=r"out\.jsonl\.journal.*--fresh"):
        toy.score([source], out)
    toy.score([source], out, fresh=True)
    assert len(files.read_rows(out)) == 40


@pytest.mark.parametrize(
    ("damage", "ending"),
    [
        *(("emptied", ending) for ending in (".jsonl", ".jsonl.gz", ".jsonl.zst", ".jsonl.bz2", ".parquet")),
        *(("random", ending) for ending in (".jsonl", ".jsonl.gz", ".jsonl.zst", ".jsonl.bz2", ".parquet")),
        ("zeros", ".jsonl"),
        ("zeros", ".parquet"),
        ("folder", ".parquet"),
    ],
)
def test_damaged_part(damage: str, ending: str, interrupted: RunOnce, toy: ModuleType) -> None:
    """The error names the part; --fresh scores everything."""
    source, out = interrupted(ending)
    part = Path(f"{out}.part")
    size = part.stat().st_size
    if damage == "folder":
        part.unlink()
        part.mkdir()
    else:
        part.write_bytes({"emptied": b"", "zeros": b"\0" * size, "random": os.urandom(size)}[damage])
    with pytest.raises(OutputError, match=r"\.part"):
        toy.score([source], out)
    result = toy.score([source], out, fresh=True)
    assert result.manifest["rows_written"] == 40


@pytest.mark.parametrize(
    "content",
    [b"{", b"\xff\xfe\0", b"", b"[]", b'{"job": {}}', b'{"job": null}', b"[" * 200_000, b"3", None],
)
def test_damaged_manifest(content: bytes | None, tmp_path: Path, toy: ModuleType, files: ModuleType) -> None:
    """The error names the manifest; --fresh scores everything."""
    source = files.write_rows(tmp_path / "rows.jsonl", files.make_rows(20))
    out = tmp_path / "out.jsonl"
    toy.score([source], out)
    manifest = Path(f"{out}.manifest.json")
    if content is None:
        data = json.loads(manifest.read_text())
        del data["summary"]
        content = json.dumps(data).encode()
    manifest.write_bytes(content)
    with pytest.raises(OutputError, match=r"out\.jsonl\.manifest\.json is damaged"):
        toy.score([source], out)
    toy.score([source], out, fresh=True)
    assert len(files.read_rows(out)) == 20


def test_no_row_can_be_read(tmp_path: Path, toy: ModuleType) -> None:
    """A run of which every row is set aside has failed, and tells the first reason."""
    (tmp_path / "rows.jsonl").write_text('{"prompt": 1}\n' * 3)
    (tmp_path / "more.jsonl").write_text("nothing\n" * 3)
    result = toy.score([tmp_path / "more.jsonl"], tmp_path / "out.jsonl")
    assert "3 of 3 rows could not be read" in result.too_many_unscored
    assert "more.jsonl:1: not JSON" in result.too_many_unscored


def test_many_rows_cant_be_read(tmp_path: Path, toy: ModuleType) -> None:
    """More rejected rows than abort_above allows fail a run; fewer do not."""
    good, bad = '{"prompt": "p", "completion": "x"}\n', "broken\n"
    for name, text, fails in (("many", good + bad * 2, True), ("few", good * 2 + bad, False)):
        (tmp_path / f"{name}.jsonl").write_text(text)
        result = toy.score([tmp_path / f"{name}.jsonl"], tmp_path / f"{name}.out.jsonl")
        assert bool(result.too_many_unscored) == fails


def test_nothing_scored_is_no_success(tmp_path: Path, toy: ModuleType, files: ModuleType) -> None:
    """A run in which no row got a reward has failed, whatever abort_above allows."""
    source = files.write_rows(tmp_path / "rows.jsonl", files.make_rows(20))
    text = BROKEN_OFF.replace("0.5}", "1.0}")
    result = toy.score([source], tmp_path / "out.jsonl", text)
    assert "all 20 are unscored" in result.too_many_unscored
    assert TooManyUnscoredError.exit_code == 3


@pytest.mark.parametrize("library", ["datasets", "pandas", "polars", "duckdb"])
def test_parquet_opens_elsewhere(library: str, tmp_path: Path, toy: ModuleType, files: ModuleType) -> None:
    """Parquet output, metrics included, opens in the libraries that people use."""
    module = pytest.importorskip(library)
    source = files.write_rows(tmp_path / "rows.jsonl", files.make_rows(100))
    out = tmp_path / "out.parquet"
    toy.score([source], out)
    expected = [row["reward"] for row in files.read_rows(out)]
    if library == "datasets":
        found = module.load_dataset("parquet", data_files=str(out), cache_dir=str(tmp_path / "cache"))["train"][
            "reward"
        ]
    elif library == "duckdb":
        found = [row[0] for row in module.sql(f"select reward, components.hashed.metrics from '{out}'").fetchall()]  # noqa: S608
    else:
        found = module.read_parquet(out)["reward"].to_list()
    assert [value if value == value else None for value in found] == expected
