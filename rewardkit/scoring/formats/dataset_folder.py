"""Data sets of Hugging Face's `datasets`: folders that ``save_to_disk`` writes, read and written, and names on the hub.

A folder holds Arrow files, which ``state.json`` lists in order. Reading and writing one needs no further library; a name on the hub,
``hf:ORG/NAME``, needs `datasets`.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rewardkit.errors import DataError, OutputError, UsageError
from rewardkit.files import sync_file, sync_folder
from rewardkit.scoring.formats.format import Part
from rewardkit.scoring.formats.parquet import Parquet, ParquetPart, conform, read_segments

if TYPE_CHECKING:
    import pyarrow as pa

HUB = "hf:"
"""What a name on the hub begins with: ``hf:ORG/NAME[@REVISION][:CONFIG][:SPLIT]``."""
STATE = "state.json"
_SPLITS = "dataset_dict.json"
_INFO = "dataset_info.json"
_SHARD_BYTES = 500_000_000
"""The size of an Arrow file of an output, roughly; as `datasets` has it by default."""


def files_of_folder(folder: Path, name: str) -> list[Path]:
    """Return the Arrow files of a folder that ``save_to_disk`` wrote, in order.

    Args:
        folder: The folder.
        name: Its name for messages.

    Raises:
        DataError: It is no such folder, holds several splits, or is damaged.
    """
    if (folder / _SPLITS).is_file():
        splits = list(map(str, _json(folder / _SPLITS, name).get("splits") or ["train"]))
        raise DataError(f"{name} holds the splits {', '.join(splits)}; name one of them, such as {folder / splits[0]}")
    if not (folder / STATE).is_file():
        raise DataError(f"{name} is a folder; name its files, such as {str(folder / '*.jsonl')!r}")
    state = _json(folder / STATE, name)
    if state.get("_indices_data_files"):
        raise DataError(
            f"{name} holds a selection of its rows, as old versions of datasets wrote it; load it and save it again"
        )
    try:
        files = [folder / Path(item["filename"]).name for item in state["_data_files"]]
    except (KeyError, TypeError):
        raise DataError(f"{folder / STATE} does not list the files of the data set") from None
    if missing := next((file for file in files if not file.is_file()), None):
        raise DataError(f"{name} is incomplete: {STATE} lists {missing.name}, which is not there")
    return files


def _json(file: Path, name: str) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{name} is no data set that can be read: {file.name}: {error}") from error
    if not isinstance(found, dict):
        raise DataError(f"{name} is no data set that can be read: {file.name} holds no object")
    return found


def files_of_hub(name: str) -> list[Path]:
    """Return the Arrow files of a data set on the hub, which `datasets` downloads into its cache.

    Args:
        name: ``hf:ORG/NAME``, with ``@REVISION``, ``:SPLIT`` or ``:CONFIG:SPLIT`` behind it.

    Raises:
        UsageError: `datasets` is not installed, or the name has another form.
        DataError: The data set can't be loaded, or has several splits and none is named.
    """
    where, *rest = name.removeprefix(HUB).split(":")
    place, _, revision = where.partition("@")
    if not place or len(rest) > 2 or not all(rest):
        raise UsageError(f"{name}: write hf:ORG/NAME, hf:ORG/NAME:SPLIT or hf:ORG/NAME:CONFIG:SPLIT")
    split = rest[-1] if rest else None
    if "[" in "".join(rest):
        raise UsageError(f"{name}: name a whole split, and limit the rows with --limit")
    try:
        import datasets
    except ImportError:
        raise UsageError(f"{name} needs datasets: pip install 'rewardkit[datasets]'") from None
    try:
        found = datasets.load_dataset(
            place, rest[0] if len(rest) > 1 else None, split=split, revision=revision or None, keep_in_memory=False
        )
    # The boundary: what fails may come from any of the libraries for files, networks and formats behind it.
    except Exception as error:
        raise DataError(f"{name} can't be loaded: {type(error).__name__}: {error}") from error
    if isinstance(found, dict):
        if len(found) > 1:
            raise DataError(f"{name} has the splits {', '.join(found)}; name one of them: {name}:{next(iter(found))}")
        (found,) = found.values()
    return [Path(item["filename"]) for item in found.cache_files]


class DataSetFolder(Parquet):
    """A folder for ``load_from_disk``. While it is written, its part is Parquet."""

    name = "data set folder"
    suffixes = (".hf",)
    magic = ()

    def recognises(self, name: str, start: bytes) -> bool:  # noqa: ARG002 - a folder's files are Arrow
        """Return False: what is read are the Arrow files inside."""
        return False

    def open_part(self, path: Path, compression: str, ends: Sequence[int]) -> Part:  # noqa: ARG002 - Arrow is not compressed
        """Open a file that holds the segments that end at ``ends``."""
        return _FolderPart(path, ends)


class _FolderPart(ParquetPart):
    """Parquet segments that become a folder in the end."""

    def finish(self, ends: Sequence[int], rewritten: Path) -> Path:
        """Write the folder."""
        import pyarrow as pa

        shutil.rmtree(rewritten, ignore_errors=True)
        rewritten.mkdir()
        schema = self._union.schema if ends and self._union.schema is not None else pa.schema([])
        names = _write_shards(rewritten, schema, (conform(batch, schema) for batch in read_segments(self._path, ends)))
        whole = [f"data-{index:05d}-of-{len(names):05d}.arrow" for index in range(len(names))]
        for old, new in zip(names, whole, strict=True):
            (rewritten / old).rename(rewritten / new)
        state: dict[str, Any] = {
            "_data_files": [{"filename": name} for name in whole],
            "_fingerprint": uuid.uuid4().hex[:16],
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": None,
        }
        info = {"citation": "", "description": "", "homepage": "", "license": ""}
        for name, data in ((_INFO, info), (STATE, state)):
            (rewritten / name).write_text(json.dumps(data, indent=2), encoding="utf-8")
            sync_file(rewritten / name)
        sync_folder(rewritten)
        return rewritten


def _write_shards(folder: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> list[str]:
    """Write batches as Arrow streams of limited size. Returns their names."""
    import pyarrow as pa

    names: list[str] = []
    following = next(batches, None)
    while following is not None or not names:
        names.append(f"shard-{len(names)}.arrow")
        size = 0
        with pa.ipc.new_stream(folder / names[-1], schema) as writer:
            while following is not None and size < _SHARD_BYTES:
                writer.write_batch(following)
                size += following.nbytes
                following = next(batches, None)
        sync_file(folder / names[-1])
    return names


def put_in_place(finished: Path, out: Path) -> None:
    """Give a finished output its name. An earlier folder of that name is removed after that.

    Args:
        finished: The finished file or folder.
        out: Its name.

    Raises:
        OutputError: There is a folder of that name that holds no data set.
    """
    if not out.is_dir():
        finished.replace(out)
        return
    if not (out / STATE).is_file() and any(out.iterdir()):
        raise OutputError(f"{out} is a folder that holds no data set, and is not replaced; give another --out")
    old = out.with_name(f"{out.name}.old-{os.getpid()}")
    out.replace(old)
    finished.replace(out)
    shutil.rmtree(old)


FORMAT = DataSetFolder()
