"""Data sets of Hugging Face's datasets are read and written as that library has them."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rewardkit.errors import DataError, OutputError, UsageError
from rewardkit.scoring.formats.dataset_folder import put_in_place
from rewardkit.scoring.formats.readers import Reader, find_inputs

datasets = pytest.importorskip("datasets", reason="needs datasets, of the extra datasets")


@pytest.fixture
def saved(tmp_path: Path, files: ModuleType) -> tuple[Path, list[dict[str, Any]]]:
    """A folder of two files, and its rows."""
    datasets.disable_progress_bars()
    rows = [{**row, "nested": {"level": index}} for index, row in enumerate(files.make_rows(50))]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "data", num_shards=2)
    return tmp_path / "data", rows


def read(pattern: str) -> list[Any]:
    """Read the rows that a pattern names."""
    return [row for chunk in Reader(find_inputs([pattern])).chunks() for row in chunk.rows]


def test_a_saved_folder_is_read_in_order(saved: tuple[Path, list[dict[str, Any]]]) -> None:
    """All files of the folder are read, in the order of the data set."""
    folder, rows = saved
    assert read(str(folder)) == rows


def test_the_output_is_a_folder_for_the_library(
    saved: tuple[Path, list[dict[str, Any]]], tmp_path: Path, toy: ModuleType
) -> None:
    """``load_from_disk`` reads what ``--out NAME.hf`` writes: all columns of the input, and the scores."""
    folder, rows = saved
    toy.score([folder], tmp_path / "out.hf")
    found = datasets.load_from_disk(tmp_path / "out.hf")
    assert found["id"][:] == [row["id"] for row in rows]
    assert found.features["nested"]["level"].dtype == "int64"
    assert {"reward", "reward_status", "reward_id", "components"} <= found.features.keys()


def test_a_finished_folder_is_known(
    saved: tuple[Path, list[dict[str, Any]]], tmp_path: Path, toy: ModuleType, files: ModuleType
) -> None:
    """A second run finds the work done; a changed file of the input is noticed; ``fresh`` replaces the folder."""
    folder, rows = saved
    toy.score([folder], tmp_path / "out.hf")
    assert toy.score([folder], tmp_path / "out.hf").already_complete
    datasets.Dataset.from_list(rows[:20]).save_to_disk(folder)
    with pytest.raises(UsageError, match="written by another job"):
        toy.score([folder], tmp_path / "out.hf")
    toy.score([folder], tmp_path / "out.hf", fresh=True)
    assert len(files.read_rows(tmp_path / "out.hf")) == 20
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out.hf", "out.hf.manifest.json"]


def test_a_folder_is_not_both_input_and_output(saved: tuple[Path, list[dict[str, Any]]], toy: ModuleType) -> None:
    """An output folder that is read is refused."""
    folder, _ = saved
    folder.rename(folder.with_name("data.hf"))
    with pytest.raises(UsageError, match="is both input and output"):
        toy.score([folder.with_name("data.hf")], folder.with_name("data.hf"), fresh=True)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"dataset_dict.json": {"splits": ["train", "test"]}}, "holds the splits train, test; name one of them"),
        ({"state.json": {"_data_files": [{"filename": "a.arrow"}]}}, "lists a.arrow, which is not there"),
        ({"state.json": {"_data_files": [], "_indices_data_files": [{"filename": "i"}]}}, "load it and save it again"),
        ({"state.json": []}, "holds no object"),
        ({"rows.jsonl": {}}, "is a folder; name its files"),
    ],
)
def test_other_folders_are_refused(files: dict[str, Any], message: str, tmp_path: Path) -> None:
    """The message says what the folder is and what to do."""
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        find_inputs([str(tmp_path)])


def test_a_folder_of_something_else_is_never_replaced(tmp_path: Path) -> None:
    """An output's name may be that of an earlier data set, but not of a folder of other files."""
    (tmp_path / "out.hf").mkdir()
    (tmp_path / "out.hf" / "thesis.tex").touch()
    (tmp_path / "new").mkdir()
    with pytest.raises(OutputError, match="holds no data set, and is not replaced"):
        put_in_place(tmp_path / "new", tmp_path / "out.hf")
    assert (tmp_path / "out.hf" / "thesis.tex").exists()


def test_a_name_for_the_library_is_loaded(tmp_path: Path, files: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """``hf:NAME:SPLIT`` is what ``load_dataset`` loads; a folder of files stands for a name on the hub here."""
    load = datasets.load_dataset
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: load(*a, **k, cache_dir=str(tmp_path / "cache")))
    (tmp_path / "hub").mkdir()
    for split in ("train", "test"):
        files.write_rows(tmp_path / "hub" / f"{split}.jsonl", files.make_rows(6 if split == "test" else 9))
    assert [row["id"] for row in read(f"hf:{tmp_path}/hub:test")] == list(range(6))
    with pytest.raises(DataError, match=r"has the splits train, test; name one of them: hf:.*:train"):
        find_inputs([f"hf:{tmp_path}/hub"])
    with pytest.raises(DataError, match="can't be loaded: "):
        find_inputs([f"hf:{tmp_path}/nowhere:test"])


@pytest.mark.parametrize("name", ["hf:", "hf:a/b:c:d:e", "hf:a/b::test", "hf:a/b:train[:5]"])
def test_wrong_names_are_refused(name: str) -> None:
    """The message shows the form of a name."""
    with pytest.raises(UsageError, match=r"write hf:ORG/NAME|name a whole split"):
        find_inputs([name])


def test_the_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only names on the hub need datasets; the message says how to install it."""
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"pip install 'rewardkit\[datasets\]'"):
        find_inputs(["hf:openai/gsm8k:main:test"])
