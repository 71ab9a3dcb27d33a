"""File formats: the table of them, and one that another distribution adds."""

import importlib.metadata
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from rewardkit.errors import UsageError
from rewardkit.scoring.formats import format as table
from rewardkit.scoring.formats.format import Block, FileFormat, Part, Source, formats, output_format
from rewardkit.scoring.formats.jsonl import LinesPart, read_lines


class Tagged(FileFormat):
    """Lines of JSON after a first line that says TAGGED: a format of another distribution."""

    name = "Tagged"
    suffixes = (".tagged",)
    magic = (b"TAGGED\n",)
    payload = "lines"

    def read(self, source: Source) -> Iterator[Block]:
        """Yield the lines after the first."""
        source.stream.read(len(self.magic[0]))
        yield from read_lines(source.stream, source.raw)

    def open_part(self, path: Path, compression: str, ends: Sequence[int]) -> Part:
        """Begin with the first line."""
        if not ends:
            path.write_bytes(self.magic[0])
        return LinesPart(path, compression)

    def read_part(self, path: Path, ends: Sequence[int], columns: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
        """Yield all rows at once."""
        yield [json.loads(line) for line in path.read_bytes().splitlines()[1:]]


@pytest.fixture
def tagged(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The format is installed: another distribution has an entry point for it."""
    found = importlib.metadata.entry_points

    def entry_points(**wanted: str) -> Any:
        entry = SimpleNamespace(name="tagged", load=Tagged)
        return [entry] if wanted == {"group": table.ENTRY_POINTS} else found(**wanted)

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    formats.cache_clear()
    yield
    formats.cache_clear()


@pytest.mark.usefixtures("tagged")
def test_another_distribution_adds_a_format(tmp_path: Path, toy: ModuleType, files: ModuleType) -> None:
    """One object behind an entry point is enough to score from and into a new format."""
    rows = files.make_rows(20)
    (tmp_path / "rows.tagged").write_text("TAGGED\n" + "".join(json.dumps(row) + "\n" for row in rows))
    toy.score([tmp_path / "rows.tagged"], tmp_path / "out.tagged")
    first, *lines = (tmp_path / "out.tagged").read_text().splitlines()
    assert first == "TAGGED"
    assert [json.loads(line)["id"] for line in lines] == [row["id"] for row in rows]


def test_format_that_is_only_read_is_no_output() -> None:
    """An output's name must end as a format that can be written does."""
    assert output_format(Path("a.jsonl.bz2")) == "jsonl.bz2"
    with pytest.raises(UsageError, match=r"one of .*\.jsonl"):
        output_format(Path("a.csv"))
