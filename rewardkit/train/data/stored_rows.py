"""Rendered rows in an Arrow file that all processes of a machine map into memory, so that none holds them as Python objects.

The main process renders the rows once and writes the file; a later start with the same data, tokenizer and settings finds it. The file's
name has a hash of its content, so that a damaged or changed file is rendered again. Needs no torch, except to wait for the main process.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, get_args, get_origin, get_type_hints, overload

import orjson
import pyarrow as pa

from rewardkit.errors import OutputError
from rewardkit.files import sync_file
from rewardkit.train.config import Source, TextData, paths
from rewardkit.train.data.rows import data_hashes
from rewardkit.train.distributed import collectives

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

T = TypeVar("T")
BATCH = 512
"""Rows that are written at once. While they are rendered, the other processes wait in one collective."""
FORMAT = 2
"""The number of the file's format, which is part of its key."""
FACTS = b"facts"
_ARROW = {int: pa.int64(), float: pa.float64(), bool: pa.bool_(), str: pa.string()}
_ITEMS = {int: pa.int32(), float: pa.float32()}
"""The types of the items of tuples: tokens, and weights in the loss."""


class StoredRows(Sequence[T], Generic[T]):
    """Rows of a frozen dataclass in an Arrow file. Each access decodes one row."""

    def __init__(self, kind: type[T], file: Path) -> None:
        """Map the file into memory.

        Args:
            kind: The class of the rows: a dataclass of numbers, texts, tuples of numbers, and other such dataclasses.
            file: A file that ``write_rows`` has written.

        Raises:
            OSError: The file can't be read.
            pyarrow.ArrowInvalid: It is no such file.
        """
        self.kind = kind
        reader = pa.ipc.open_file(pa.memory_map(str(file)))
        last = reader.num_record_batches - 1
        self.facts: Mapping[str, Any] = orjson.loads(reader.get_batch_with_custom_metadata(last).custom_metadata[FACTS])
        """What is known of all rows together, as counted while they were rendered."""
        self._batches = [
            pa.StructArray.from_arrays(batch.columns, fields=list(batch.schema))
            for batch in map(reader.get_batch, range(last))
        ]
        self._ends = list(accumulate(len(batch) for batch in self._batches))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        batch = bisect_right(self._ends, index)
        before = self._ends[batch - 1] if batch else 0
        found: T = _decode(self.kind, self._batches[batch][index - before])
        return found

    def sizes(self, *path: str) -> list[int]:
        """Return the number of items of a tuple in every row, without decoding the rows.

        Args:
            path: The name of the tuple, behind the name of the dataclass that holds it, if that is not the row itself.
        """
        found: list[int] = []
        for batch in self._batches:
            column = batch
            for name in path:
                column = column.field(name)
            found += column.value_lengths().to_pylist()
        return found


def stored_rows(
    folder: Path,
    name: str,
    kind: type[T],
    key: Callable[[], Mapping[str, Any]] | None,
    render: Callable[[dict[str, Any]], Iterable[T]],
) -> StoredRows[T]:
    """Return rendered rows, which the main process renders unless a file has them. All processes must call this together.

    Args:
        folder: The folder of the file, which every process sees.
        name: What the rows are for, such as "train". A file of that name that is no longer used is removed.
        kind: The class of the rows.
        key: Returns everything that the rows depend on, as JSON data; None if that is not known, so that they are always rendered.
        render: Returns the rows. It may put facts about them all, as JSON data, into the mapping that it is given.

    Raises:
        OutputError: The file can't be written.
    """
    path = folder / f"{name}.arrow"
    if collectives.is_main_process():
        stem = name
        found: Iterable[Path] = ()
        if key is not None:
            stem = f"{name}-{digest({'format': FORMAT, 'kind': kind.__name__, **key()})}"
            found = (file for file in folder.glob(f"{stem}-*.arrow") if _is_intact(kind, file))
        known = next(iter(found), None)
        if known is None:
            facts: dict[str, Any] = {}
            known = write_rows(folder, stem, kind, render(facts), facts)
            for other in folder.glob(f"{name}*.arrow"):
                if other != known:
                    other.unlink(missing_ok=True)
        path = known
    while collectives.any_rank(value=False):  # true as often as the main process has written some rows
        pass
    return StoredRows(kind, Path(collectives.all_gather([str(path)])[0]))


def rendering_key(
    data: TextData, files: Source | Sequence[Source] | None, tokenizer: PreTrainedTokenizerBase, **settings: Any
) -> dict[str, Any]:
    """Return what rendered rows depend on, for ``stored_rows``.

    Args:
        data: The section ``data`` of the configuration.
        files: The files of the rows.
        tokenizer: The tokenizer.
        settings: Everything else, as JSON data.
    """
    return {
        "rewardkit": importlib.metadata.version("rewardkit"),
        "files": list(data_hashes(paths(files)).items()),
        "data": data.model_dump(mode="json"),
        "tokenizer": tokenizer_digest(tokenizer),
        **settings,
    }


def write_rows(folder: Path, stem: str, kind: type[T], rows: Iterable[T], facts: Mapping[str, Any]) -> Path:
    """Write rows into a file atomically. Only the main process calls this, while the others are in ``stored_rows``.

    Args:
        folder: The folder of the file.
        stem: What the file's name begins with. A hash of its content follows.
        kind: The class of the rows.
        rows: The rows.
        facts: Facts about them all, read after the last row.

    Returns:
        The file.

    Raises:
        OutputError: The file can't be written.
    """
    part = folder / f".{stem}.part"
    schema = pa.schema(list(_arrow_type(kind)))
    rows = iter(rows)
    some = list(islice(rows, BATCH))  # before the folder is made, so that a bad row near the beginning leaves no folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with pa.OSFile(str(part), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            while some:
                writer.write_batch(pa.RecordBatch.from_pylist([_encode(row) for row in some], schema))
                collectives.any_rank(value=True)
                some = list(islice(rows, BATCH))
            last = pa.RecordBatch.from_pylist([], schema)
            writer.write_batch(last, custom_metadata={FACTS: orjson.dumps(facts)})
        sync_file(part)
        path = folder / f"{stem}-{_content_hash(part)}.arrow"
        part.replace(path)
    except OSError as error:
        raise OutputError(f"{folder / stem}.arrow can't be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
    return path


def digest(data: Mapping[str, Any]) -> str:
    """Return a hash of JSON data."""
    text = orjson.dumps(data, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS, default=str)
    return hashlib.blake2b(text, digest_size=8).hexdigest()


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a hash of everything in a tokenizer that tokens depend on, its chat template included."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return digest(
        {
            "class": type(tokenizer).__name__,
            "model": backend.to_str() if backend is not None else sorted(tokenizer.get_vocab().items()),
            "special": {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
            "template": tokenizer.chat_template,
        }
    )


def _is_intact(kind: type[Any], path: Path) -> bool:
    """Return whether a file has the content that was written, and can be read."""
    try:
        if not path.stem.endswith(f"-{_content_hash(path)}"):
            return False
        StoredRows(kind, path)
    except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError):
        return False
    return True


def _content_hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=8)).hexdigest()


def _arrow_type(kind: Any) -> Any:
    """Return the Arrow type of a class of values."""
    if dataclasses.is_dataclass(kind):
        return pa.struct([pa.field(name, _arrow_type(inner)) for name, inner in get_type_hints(kind).items()])
    if get_origin(kind) is tuple:
        return pa.list_(_ITEMS[get_args(kind)[0]])
    return _ARROW[kind]


def _encode(row: Any) -> dict[str, Any]:
    """Return a row as Arrow takes it."""
    found = {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
    return {name: _encode(value) if dataclasses.is_dataclass(value) else value for name, value in found.items()}


def _decode(kind: Any, value: Any) -> Any:
    """Return an Arrow value as a value of a class."""
    if dataclasses.is_dataclass(kind):
        return kind(**{name: _decode(inner, value[name]) for name, inner in get_type_hints(kind).items()})  # type: ignore[operator]
    if get_origin(kind) is tuple:
        return tuple(value.values.to_numpy(zero_copy_only=True).tolist())
    return value.as_py()
