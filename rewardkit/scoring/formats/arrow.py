"""Arrow and Feather files, as `datasets` keeps them. Only read. Also turns Arrow columns of any file into rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

from rewardkit.errors import DataError
from rewardkit.scoring.formats.format import Block, FileFormat, RawRow, Source, UnreadableRow

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH_ROWS = 1024


class ArrowFile(FileFormat):
    """Arrow IPC: files (Feather version 2) and streams."""

    name = "Arrow"
    suffixes = (".arrow", ".feather", ".ipc")
    magic = (b"ARROW1", b"\xff\xff\xff\xff")

    def refuse(self, source: Source) -> None:
        """Refuse a compressed file, which can't be mapped. Raises DataError."""
        refuse_compressed(self, source)

    def read(self, source: Source) -> Iterator[Block]:
        """Yield the rows of every record batch."""
        import pyarrow as pa

        is_file = source.start.startswith(b"ARROW1")
        try:
            with pa.memory_map(str(source.path)) as mapped:
                opened = pa.ipc.open_file(mapped) if is_file else pa.ipc.open_stream(mapped)
                batches = map(opened.get_batch, range(opened.num_record_batches)) if is_file else iter(opened)
                types = column_types(opened.schema, source.name)
                number = 0
                for whole in batches:
                    for start in range(0, whole.num_rows, _BATCH_ROWS):
                        rows = rows_of(whole.slice(start, _BATCH_ROWS))
                        position = mapped.size() if is_file else mapped.tell()
                        yield Block(rows, range(number + 1, number + 1 + len(rows)), position, types)
                        number += len(rows)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{source.name} is no Arrow file that can be read: {error}") from error


def refuse_compressed(known: FileFormat, source: Source) -> None:
    """Refuse a file that is compressed as a whole. Raises DataError."""
    if source.compression:
        raise DataError(
            f"{source.name} is {known.name} inside {source.compression}; decompress it first ({known.name} compresses its columns itself)"
        )


def column_types(schema: pa.Schema, name: str) -> dict[str, Any]:
    """Return the type of each column.

    Raises:
        DataError: Two columns have one name, so that one of them would be lost.
    """
    names = schema.names
    double = next((column for column in names if names.count(column) > 1), None)
    if double is not None:
        raise DataError(f"{name}: two columns are called {double!r}; rename or drop one of them")
    return {column.name: column.type for column in schema}


class ExactTime(str):  # noqa: SLOT000 - a text can't have slots
    """A time as text that Python's own types can't hold: nanoseconds, years beyond 9999, unknown time zones."""

    value: int
    """The stored number: a count of the type's unit since the epoch, or a duration."""

    def __new__(cls, text: str, value: int) -> Self:
        """Make the text with its value."""
        self = super().__new__(cls, text)
        self.value = value
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the text and the value."""
        return ExactTime, (str(self), self.value)


def rows_of(batch: pa.RecordBatch) -> Sequence[RawRow]:
    """Return the rows of a batch. Times that Python can't hold become ``ExactTime``; a row that can't be read is unreadable."""
    columns: dict[str, list[Any]] = {}
    unreadable: dict[int, str] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        columns[name] = _values(name, column, unreadable)
    rows: list[RawRow] = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    if not columns:
        rows = [{} for _ in range(batch.num_rows)]
    for index, reason in unreadable.items():
        rows[index] = UnreadableRow(reason, str({name: values[index] for name, values in columns.items()}))
    return rows


def _values(name: str, column: pa.Array, unreadable: dict[int, str]) -> list[Any]:
    import pyarrow as pa

    if not _has_exact_times(column.type):
        try:
            values: list[Any] = column.to_pylist()
        except (pa.ArrowException, ValueError, OverflowError, KeyError, LookupError):
            pass  # one of the values is beyond Python's types: each is converted alone
        else:
            return values
    result: list[Any] = []
    for index in range(len(column)):
        try:
            result.append(_value(column[index]))
        except (pa.ArrowException, ValueError, OverflowError, LookupError) as error:
            unreadable[index] = f"column {name!r} holds a value that can't be read: {' '.join(str(error).split())}"
            result.append(None)
    return result


def _has_exact_times(kind: pa.DataType) -> bool:
    """Return whether a type holds nanoseconds, which Python's times would cut."""
    import pyarrow as pa

    if pa.types.is_timestamp(kind) or pa.types.is_time(kind) or pa.types.is_duration(kind):
        return bool(kind.unit == "ns")
    if pa.types.is_dictionary(kind):
        return False
    return any(_has_exact_times(kind.field(index).type) for index in range(kind.num_fields))


def _value(scalar: Any) -> Any:
    """Return a scalar as a Python value, member by member where it is nested."""
    import pyarrow as pa

    kind = scalar.type
    if not scalar.is_valid:
        return None
    if pa.types.is_struct(kind):
        return {part.name: _value(scalar[index]) for index, part in enumerate(kind)}
    if pa.types.is_map(kind):
        return [(_value(pair["key"]), _value(pair["value"])) for pair in scalar.values]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return [_value(item) for item in scalar.values]
    if pa.types.is_temporal(kind):
        return _time(scalar)
    return scalar.as_py()


def _time(scalar: Any) -> Any:
    import pyarrow as pa

    kind = scalar.type
    if getattr(kind, "unit", "") != "ns":
        try:
            return scalar.as_py()
        except (pa.ArrowException, ValueError, OverflowError, LookupError):
            pass
    if pa.types.is_duration(kind):
        return ExactTime(f"{scalar.value} {kind.unit}", scalar.value)
    try:
        text = str(scalar.cast(pa.string()).as_py())
    except pa.ArrowException:  # an unknown time zone: the time is told in UTC
        text = f"{scalar.cast(pa.timestamp(kind.unit)).cast(pa.string()).as_py()} UTC ({kind.tz})"
    return ExactTime(text, scalar.value)


FORMAT = ArrowFile()
