"""Restores the order of the input if groups were scored in another.

While the job runs, its part is a sequence of small Arrow streams: batches with the number of each row in the input. At the end they are
read through a memory map, window by window, and written as the requested file.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rewardkit.files import sync_file
from rewardkit.scoring.formats.format import Payload, open_part
from rewardkit.scoring.formats.parquet import SEGMENT_ROWS, SchemaUnion, conform

if TYPE_CHECKING:
    import pyarrow as pa

_WINDOW_ROWS = 4096


def with_ordinals(payload: Payload, ordinals: Sequence[int]) -> pa.RecordBatch:
    """Return the payload as one column beside the numbers of its rows in the input."""
    import pyarrow as pa

    if isinstance(payload, list):
        rows = pa.array(payload, pa.large_binary())
    else:
        rows = pa.StructArray.from_arrays(payload.columns, fields=list(payload.schema))
    return pa.RecordBatch.from_arrays([pa.array(ordinals, pa.int64()), rows], names=["ordinal", "row"])


class UnorderedPart:
    """A part whose rows are in the order in which they were scored."""

    def __init__(self, path: Path, kind: str) -> None:
        self._path = path
        self._kind = kind
        self._batches: list[pa.RecordBatch] = []

    def write(self, payload: Payload, place: str) -> int:  # noqa: ARG002 - types are reconciled at the end
        """Add a batch made by ``with_ordinals``."""
        batch: Any = payload
        self._batches.append(batch)
        return int(batch.nbytes)

    def commit(self) -> int:
        """Append the batches, each as a stream of its own, since their columns may differ."""
        import pyarrow as pa

        with pa.OSFile(str(self._path), "ab") as sink:
            for batch in self._batches:
                with pa.ipc.new_stream(sink, batch.schema) as writer:
                    writer.write_batch(batch)
        self._batches = []
        sync_file(self._path)
        return self._path.stat().st_size

    def finish(self, ends: Sequence[int], rewritten: Path) -> Path:
        """Write the requested file."""
        inner_path = rewritten.with_name(rewritten.name + ".part")
        inner_path.write_bytes(b"")
        inner = open_part(inner_path, self._kind, [])
        inner_ends: list[int] = []
        waiting = 0
        for payload in _in_order(self._path, ends[-1] if ends else 0):
            inner.write(payload, "the input's order")
            waiting += len(payload)
            if waiting >= SEGMENT_ROWS:
                inner_ends.append(inner.commit())
                waiting = 0
        if waiting:
            inner_ends.append(inner.commit())
        finished = inner.finish(inner_ends, rewritten)
        if finished != rewritten:
            finished.replace(rewritten)
        else:
            inner_path.unlink()
        return rewritten


def _in_order(path: Path, end: int) -> Iterator[Payload]:
    """Yield the rows in the order of the input, a window at a time."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not end:
        return
    with pa.memory_map(str(path)) as file:
        offsets: list[int] = []
        starts = array("q")
        ordinals: list[pa.Array] = []
        union = SchemaUnion()
        lines = False
        count = 0
        while file.tell() < end:
            offsets.append(file.tell())
            starts.append(count)
            batch = _next_batch(file)
            lines = not pa.types.is_struct(batch.schema.field("row").type)
            union.add(batch.schema if lines else pa.schema(list(batch.schema.field("row").type)), f"row {count + 1}")
            # A copy, so that the file's pages need not stay.
            ordinals.append(pa.array(batch.column("ordinal").to_pylist(), pa.int64()))
            count += batch.num_rows
        order = pc.sort_indices(pa.chunked_array(ordinals, pa.int64()))
        for window in range(0, count, _WINDOW_ROWS):
            rows = order.slice(window, _WINDOW_ROWS).to_pylist()
            by_batch: dict[int, list[int]] = {}
            for row in rows:
                by_batch.setdefault(bisect_right(starts, row) - 1, []).append(row)
            taken = []
            places: dict[int, int] = {}
            for number, wanted in by_batch.items():
                file.seek(offsets[number])
                column = _next_batch(file).column("row").take(pa.array([row - starts[number] for row in wanted]))
                for row in wanted:
                    places[row] = len(places)
                taken.append(
                    pa.RecordBatch.from_arrays([column], names=["row"])
                    if lines
                    else conform(pa.RecordBatch.from_struct_array(column), union.schema)
                )
            table = pa.Table.from_batches(taken).take(pa.array([places[row] for row in rows])).combine_chunks()
            if lines:
                yield table.column("row").to_pylist()
            else:
                yield from table.to_batches()


def read_batches(path: Path, end: int) -> Iterator[pa.RecordBatch]:
    """Yield the batches of a part in the order in which they were scored."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as file:
        while file.tell() < end:
            yield _next_batch(file)


def _next_batch(file: Any) -> pa.RecordBatch:
    import pyarrow as pa

    with pa.ipc.open_stream(file) as stream:
        batch = stream.read_next_batch()
        # Go to the end of the stream, where the next begins.
        for _ in stream:
            pass
    return batch
