"""Files that are on the disk whole, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from rewardkit.errors import OutputError
from rewardkit.files import write_page, write_whole


def test_what_can_not_be_written_leaves_what_was_there(tmp_path, monkeypatch):
    """After a failure the old content is unchanged, and no temporary file is left."""
    write_whole(tmp_path / "config.json", b"first")

    def half(path, data):
        with path.open("wb") as stream:
            stream.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path / "config.json", b"second")
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert (tmp_path / "config.json").read_bytes() == b"first"


def test_what_is_written_takes_the_place_of_what_was_there(tmp_path):
    """And nothing is left beside it."""
    write_whole(tmp_path / "config.json", b"first")
    write_whole(tmp_path / "config.json", b"second")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"config.json": b"second"}


def test_a_page_that_can_not_be_written_is_named(tmp_path, monkeypatch):
    """The error of a full disk alone does not say which file it was."""

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match=r"page\.html can't be written: No space left on device"):
        write_page(tmp_path / "page.html", "text")
