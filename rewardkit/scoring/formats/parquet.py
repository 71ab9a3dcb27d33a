"""Parquet: reading, and appending segments of scored rows to a file that is whole again after any cut at a segment's end.

A segment is row groups and a footer. The footers in between stay as dead bytes; the last one, written at the end, lists the row groups
of all segments. If segments have different columns, or there are many small ones, the file is written once more at the end, in a stream.
"""

from __future__ import annotations

import fcntl
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rewardkit.errors import DataError, OutputError
from rewardkit.files import sync_file
from rewardkit.scoring.formats.arrow import column_types, refuse_compressed, rows_of
from rewardkit.scoring.formats.format import Block, FileFormat, Part, Payload, Source

if TYPE_CHECKING:
    import pyarrow as pa

SEGMENT_ROWS = 32_768
"""Rows in a segment of an output; in Parquet, in a row group."""
_MAGIC_BYTES = 4
_BATCH_ROWS = 1024


class Parquet(FileFormat):
    """Parquet."""

    name = "Parquet"
    suffixes = (".parquet",)
    magic: tuple[bytes, ...] = (b"PAR1",)
    payload = "table"

    def refuse(self, source: Source) -> None:
        """Refuse a compressed file, whose footer can't be found. Raises DataError."""
        refuse_compressed(self, source)

    def read(self, source: Source) -> Iterator[Block]:
        """Yield the rows of the file in order."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(source.path) as file:
                types = column_types(file.schema_arrow, source.name)
                number = 0
                for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                    rows = rows_of(batch)
                    position = int(source.size * (number + len(rows)) / max(1, file.metadata.num_rows))
                    yield Block(rows, range(number + 1, number + 1 + len(rows)), position, types)
                    number += len(rows)
        except (pa.ArrowException, OSError) as error:
            text = str(error)
            if "encrypt" in text.lower():
                raise DataError(
                    f"{source.name} is an encrypted Parquet file; write it again without encryption"
                ) from error
            raise DataError(f"{source.name} is no Parquet file that can be read: {text}") from error

    def open_part(self, path: Path, compression: str, ends: Sequence[int]) -> Part:  # noqa: ARG002 - it compresses columns
        """Open a file that holds the segments that end at ``ends``."""
        return ParquetPart(path, ends)

    def read_part(self, path: Path, ends: Sequence[int], columns: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
        """Yield the rows of a part's segments."""
        for batch in read_segments(path, ends, columns):
            yield batch.to_pylist()


class ParquetPart:
    """A Parquet file that grows by a row group per segment."""

    def __init__(self, path: Path, ends: Sequence[int] = ()) -> None:
        self._path = path
        self._batches: list[pa.RecordBatch] = []
        self._union = SchemaUnion()
        for end in ends:
            self._union.add(self._footer(end).schema.to_arrow_schema(), "the rows written before")

    def write(self, payload: Payload, place: str) -> int:
        """Add a batch. Raises OutputError if the type of a column contradicts earlier batches."""
        batch: Any = payload
        self._union.add(batch.schema, place)
        self._batches.append(batch)
        return int(batch.nbytes)

    def commit(self) -> int:
        """Write the segment as a row group."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._batches and self._union.schema is not None:
            table = pa.Table.from_batches([conform(batch, self._union.schema) for batch in self._batches])
            self._batches = []
            with pa.OSFile(str(self._path), "ab") as sink:
                # Arrow begins a file only where it believes itself at offset 0; from its first write on, the kernel
                # appends, so that every offset it takes down is the true one.
                os.lseek(_descriptor(self._path), 0, os.SEEK_SET)
                with pq.ParquetWriter(sink, table.schema) as writer:
                    writer.write_table(table, row_group_size=max(1, table.num_rows))
            sync_file(self._path)
        return self._path.stat().st_size

    def finish(self, ends: Sequence[int], rewritten: Path) -> Path:
        """Append the footer of all segments, or rewrite the file if their schemas differ."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        footers = [self._footer(end) for end in ends]
        if not footers:
            pq.write_table(pa.table({}), rewritten)
            return rewritten
        rows = sum(footer.num_rows for footer in footers)
        schema = footers[0].schema.to_arrow_schema()
        same = all(footer.schema.to_arrow_schema().equals(schema) for footer in footers)
        if not same or len(footers) > 16 + 2 * rows // SEGMENT_ROWS:
            self._rewrite(ends, rewritten)
            return rewritten
        merged = footers[0]
        for footer in footers[1:]:
            merged.append_row_groups(footer)
        buffer = io.BytesIO()
        merged.write_metadata_file(buffer)
        with self._path.open("ab") as file:
            file.write(buffer.getvalue()[_MAGIC_BYTES:])
            file.flush()
            os.fsync(file.fileno())
        return self._path

    def _rewrite(self, ends: Sequence[int], rewritten: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = self._union.schema
        assert schema is not None  # noqa: S101 - there are segments
        with pq.ParquetWriter(rewritten, schema) as writer:
            waiting: list[pa.RecordBatch] = []
            for batch in read_segments(self._path, ends):
                waiting.append(conform(batch, schema))
                if sum(item.num_rows for item in waiting) >= SEGMENT_ROWS:
                    writer.write_table(pa.Table.from_batches(waiting))
                    waiting = []
            if waiting:
                writer.write_table(pa.Table.from_batches(waiting))
        sync_file(rewritten)

    def _footer(self, end: int) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        with pa.memory_map(str(self._path)) as file:
            return pq.read_metadata(pa.BufferReader(file.read_buffer(end)))


def _descriptor(path: Path) -> int:
    """Return the descriptor by which this process appends to a file. Arrow has no way to ask for it before version 24."""
    wanted = path.stat()
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - the names are numbers
        try:
            found, flags = os.fstat(int(name)), fcntl.fcntl(int(name), fcntl.F_GETFL)
        except OSError:  # closed since, such as the one of this listing
            continue
        if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino) and flags & os.O_APPEND:
            return int(name)
    raise OutputError(f"{path} was opened and can't be found among the open files")


class SchemaUnion:
    """The columns of all batches so far, with types that hold all values."""

    def __init__(self) -> None:
        self.schema: pa.Schema | None = None
        self._since: dict[str, str] = {}
        """Where each column first had the type that it has in the schema."""

    def add(self, schema: pa.Schema, place: str) -> None:
        """Add the columns of a batch. Raises OutputError if the types of a column contradict each other."""
        import pyarrow as pa

        known = self.schema
        if known is not None and known.equals(schema):
            return
        try:
            united = schema if known is None else pa.unify_schemas([known, schema], promote_options="permissive")
        except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
            raise OutputError(self._clash(known, schema, place, error)) from error
        for column in united:
            index = known.get_field_index(column.name) if known is not None else -1
            if index < 0 or known is None or known.field(index).type != column.type:
                self._since[column.name] = place
        self.schema = united

    def _clash(self, known: pa.Schema | None, schema: pa.Schema, place: str, error: Exception) -> str:
        import pyarrow as pa

        for column in schema:
            index = known.get_field_index(column.name) if known is not None else -1
            if index < 0 or known is None:
                continue
            before = known.field(index)
            try:
                pa.unify_schemas([pa.schema([before]), pa.schema([column])], promote_options="permissive")
            except (pa.ArrowTypeError, pa.ArrowInvalid):
                return (
                    f"column {column.name!r} has no one type, as Parquet needs: {before.type} "
                    f"(at {self._since[column.name]}) and {column.type} (from {place} on). "
                    "JSON Lines can hold it: use --out FILE.jsonl"
                )
        return f"columns don't fit together from {place} on: {error}. JSON Lines can hold them: use --out FILE.jsonl"


def conform(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch with all columns of a schema, in its types."""
    import pyarrow as pa

    if batch.schema.equals(schema):
        return batch
    arrays = []
    for column in schema:
        index = batch.schema.get_field_index(column.name)
        if index < 0:
            arrays.append(pa.nulls(batch.num_rows, column.type))
            continue
        array = batch.column(index)
        if array.type != column.type:
            try:
                array = array.cast(column.type)
            except pa.ArrowException:  # structs that gain members
                array = pa.array(array.to_pylist(), column.type)
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def read_segments(path: Path, ends: Sequence[int], columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a Parquet file's segments in order."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for end in ends:
        with pa.memory_map(str(path)) as file:
            segment = pq.ParquetFile(pa.BufferReader(file.read_buffer(end)))
            known = segment.schema_arrow.names
            wanted = None if columns is None else [name for name in columns if name.split(".")[0] in known]
            yield from segment.iter_batches(batch_size=4096, columns=wanted)


FORMAT = Parquet()
