"""Damage of a folder's files is found and named."""

from pathlib import Path

import pytest

from rewardkit.train.trainer.checksums import FILE, find_damage, write_checksums


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two files, one of them in a folder of its own, and their checksums."""
    (tmp_path / "policy.safetensors").write_bytes(bytes(range(256)) * 40)
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/state.json").write_text('{"step": 3}')
    write_checksums(tmp_path)
    return tmp_path


def test_an_intact_folder_has_no_damage(folder: Path) -> None:
    """Nothing is reported where every file is as it was written."""
    assert find_damage(folder) is None


def test_more_files_are_no_damage(folder: Path) -> None:
    """A file that was added later does not make a checkpoint unusable."""
    (folder / "notes.txt").write_text("mine")
    assert find_damage(folder) is None


@pytest.mark.parametrize("position", [0, 5_000, 10_239])
def test_a_flipped_bit_is_found(folder: Path, position: int) -> None:
    """One changed bit anywhere in a file is found, and the file is named."""
    data = bytearray((folder / "policy.safetensors").read_bytes())
    data[position] ^= 1
    (folder / "policy.safetensors").write_bytes(data)
    assert find_damage(folder) == "the content of policy.safetensors differs from what was written"


@pytest.mark.parametrize("size", [0, 1, 10_239])
def test_a_truncated_file_is_found(folder: Path, size: int) -> None:
    """A file that was cut off is named with both sizes."""
    with (folder / "policy.safetensors").open("rb+") as file:
        file.truncate(size)
    assert find_damage(folder) == f"policy.safetensors has {size:,} bytes where 10,240 were written"


def test_a_missing_file_is_found(folder: Path) -> None:
    """A file that was removed is named, with its folder."""
    (folder / "inner/state.json").unlink()
    assert find_damage(folder) == "inner/state.json is missing"


def test_missing_checksums_are_damage(folder: Path) -> None:
    """A folder without checksums is never taken as intact."""
    (folder / FILE).unlink()
    assert find_damage(folder) == f"{FILE} is missing"


@pytest.mark.parametrize("text", ["", "{", "[]", "1", '{"a": 1}', '{"a": {"bytes": "x", "sha256": ""}}', "\x00"])
def test_damaged_checksums_are_damage(folder: Path, text: str) -> None:
    """A damaged list of checksums is itself reported, whatever is in it."""
    (folder / FILE).write_text(text)
    assert str(find_damage(folder)).startswith(f"{FILE} can't be read")
