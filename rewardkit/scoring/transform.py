"""Makes rows from rows: each row, or each group of rollouts, gives any number of new rows, made by a coroutine that may ask services.

The files, the journal and the guarantees are those of scoring: an interrupted job is resumed, no row is written twice, a changed input
is noticed, and what could not be made is never written as if it had been. Rows without a result are kept in ``OUT.rejected.jsonl`` with
the kind of their failure, so that training reads only results; ``retry_transform`` tries them again.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from rewardkit.composite.event_loop import EventLoop
from rewardkit.errors import DataError, UsageError
from rewardkit.scoring.columns.columns import Columns, is_chat, kind_of
from rewardkit.scoring.columns.paths import RowError
from rewardkit.scoring.engines.chunk_scorer import ScoredChunk
from rewardkit.scoring.engines.local import in_threads
from rewardkit.scoring.formats.decode import Rejected, group_key, raw_text, read_row, write_row
from rewardkit.scoring.formats.format import output_format, writer_of
from rewardkit.scoring.formats.readers import Chunk, Reader, find_inputs
from rewardkit.scoring.groups import gather, plan_groups
from rewardkit.scoring.output import Job, Output, finished_manifest, protected_paths
from rewardkit.scoring.progress import NoProgress
from rewardkit.scoring.resume.journal import OutputPaths, read_manifest, writing
from rewardkit.scoring.summary import Summary, added_costs
from rewardkit.scoring.writing import UnscoredLimit, stop_on_signal, write_chunks
from rewardkit.types import Unscored

FIRST_ROWS = 64
"""Rows of each file that are looked at before the work starts."""
CHUNK_ROWS = 32
"""Rows in a chunk: few, so that little is lost when a run ends early."""
SOURCE = "source_row"
"""The column of new rows that names the file and the number of the row that they come from, the first one of a group."""
CLOSE_S = 10.0

Row = dict[str, Any]
Made = Sequence[Row] | Unscored
"""The new rows, or why there are none."""


class Transform(Protocol):
    """Makes rows from rows."""

    name: str
    """What does the work, for summaries, such as ``judge``."""
    by_group: bool
    """True if it takes the rollouts of one prompt together, else single rows."""
    needs: Sequence[str]
    """The columns that every row must have as text or chat messages."""

    async def __call__(self, rows: Sequence[Row]) -> Made:
        """Return the new rows of one row, or of one group; none if nothing is to be learned from it.

        It raises RowError if a row can't be used.
        """
        ...

    def costs(self) -> Mapping[str, float]:
        """Return what all calls so far have cost, as sums by name.

        Names in an attribute ``counts``, where there is one, count new rows rather than calls.
        """
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


@dataclass(frozen=True, slots=True)
class TransformOptions:
    """What to read and write, and what decides the new rows."""

    inputs: Sequence[str]
    """Paths, globs, or ``-``."""
    out: Path
    identity: Mapping[str, Any]
    """What decides the new rows beside the input, as JSON data: runs that differ in it are different jobs."""
    columns: Columns = field(default_factory=Columns)
    fresh: bool = False
    """Discard the output of an earlier run."""
    limit: int | None = None
    """Read only this many rows; None reads all."""
    abort_above: float = 0.1
    """The share of rows that may fail."""
    preflight: Callable[[], None] = lambda: None
    """Called before work starts, and not if nothing is left to do; it raises if the work can't be done."""


@dataclass(frozen=True, slots=True)
class TransformResult:
    """How a job ended."""

    manifest: dict[str, Any]
    already_complete: bool = False
    too_many_unscored: str = ""
    """Why the job failed although it came to its end; empty if it succeeded."""


def transform_files(
    options: TransformOptions,
    transform: Transform,
    progress: Callable[[int], NoProgress] = lambda _total: NoProgress(),
) -> TransformResult:
    """Make rows from the rows of files. An interrupted job is resumed.

    Args:
        options: What to read, and where to write.
        transform: Makes the rows; closed by this function.
        progress: Creates the progress display, given the bytes to read.

    Raises:
        DataError: The input can't be read, or lacks a column.
        UsageError: The output holds another job's rows.
        OutputError: The output can't be written; what is finished is kept.
        TooManyUnscoredError: While running, more failed than the options allow; what is finished is kept.
        InterruptedRunError: Ctrl-C or SIGTERM; what is finished is kept.
    """
    ending = output_format(options.out)
    paths = OutputPaths(options.out)
    with writing(paths):
        paths.out.parent.mkdir(parents=True, exist_ok=True)
    inputs = find_inputs(options.inputs, leave_out=protected_paths(options.out))
    if any(options.out.resolve() == item.path.resolve() for item in inputs):
        raise UsageError(f"{options.out} is both input and output; give another --out")
    identity = {
        **options.identity,
        "inputs": [item.identity() for item in inputs],
        **options.columns.identity(),
        "limit": options.limit,
    }
    job = Job(identity, ending)
    if (manifest := finished_manifest(paths, job, fresh=options.fresh)) is not None:
        return result_of(manifest, options, already_complete=True)
    reader = Reader(inputs, max_rows=CHUNK_ROWS, limit=options.limit)
    _check_columns(reader, options.columns, transform)
    options.preflight()
    output = Output.open(paths, job, fresh=options.fresh)
    try:
        manifest = _run(options, transform, reader, output, job, progress)
        output.finish(manifest)
    finally:
        output.close()
    return result_of(manifest, options, already_complete=False)


def _run(
    options: TransformOptions,
    transform: Transform,
    reader: Reader,
    output: Output,
    job: Job,
    progress: Callable[[int], NoProgress],
) -> dict[str, Any]:
    if output.part is None and (manifest := read_manifest(output.paths)) is not None:
        return manifest
    summary = _written(output, transform.name)
    if not output.journal.complete:
        done = output.now.consumed
        chunks = _units_whole(reader, options.columns, done) if transform.by_group else reader.chunks(done)
        limit = UnscoredLimit(options.abort_above, "at most", "may fail (--abort-above)")
        loop = EventLoop(f"rewardkit-{transform.name}")
        before = added_costs({}, output.now.costs or {})
        try:
            with stop_on_signal() as asked, progress(reader.total_bytes) as shown:
                worker = _Worker(transform, options.columns, job.format, loop)
                write_chunks(in_threads(worker, chunks, asked), output, summary, limit, asked, shown, has_rewards=False)
        except BaseException:
            counts = getattr(transform, "counts", ())
            spent = {name: value for name, value in transform.costs().items() if name not in counts}
            output.record_costs(added_costs(before, {transform.name: spent}))
            raise
        finally:
            _close(transform, loop)
        reader.check_unchanged()
    return _manifest(job, output, summary)


def _units_whole(reader: Reader, columns: Columns, done: int) -> Iterator[Chunk]:
    return gather(reader, columns, plan_groups(reader, columns), done)


class _Worker:
    """Makes the rows of a chunk. Threads call it at the same time; all coroutines run on one event loop."""

    def __init__(self, transform: Transform, columns: Columns, ending: str, loop: EventLoop) -> None:
        self._transform, self._columns, self._loop = transform, columns, loop
        self._as_table = writer_of(ending)[0].payload == "table"
        self._lock = threading.Lock()
        self._told: Mapping[str, float] = {}

    def __call__(self, chunk: Chunk) -> ScoredChunk:
        """Make the rows of a chunk."""
        units, rejected = self._units(chunk)
        found = self._loop.submit(self._make([rows for _, rows in units])).result()
        summary = Summary.empty((self._transform.name,))
        new: list[Row] = []
        failed = 0
        for (indices, _), made in zip(units, found, strict=True):
            summary.rows += len(indices)
            if isinstance(made, RowError):
                rejected += [_rejected(chunk, index, str(made)) for index in indices]
            elif isinstance(made, Unscored):
                failed += len(indices)
                unit = chunk.where(indices[0])
                rejected += [_rejected(chunk, index, made.message, made.kind, unit) for index in indices]
                summary.add_outcomes(
                    self._transform.name, *zip(*[("unscored", made.kind, made.message)] * len(indices), strict=True)
                )
            else:
                new += [{**row, SOURCE: chunk.where(indices[0])} for row in made]
        summary.unscored = failed
        with self._lock:
            costs, before = dict(self._transform.costs()), self._told
            self._told = costs
        summary.costs = added_costs({self._transform.name: costs}, {self._transform.name: before}, -1.0)
        payload: Any = table(new) if self._as_table else [write_row(row) for row in new]
        return ScoredChunk(
            chunk.consumed,
            chunk.position,
            len(new),
            payload,
            chunk.where(0),
            rejected,
            summary,
            rejected_unscored=failed,
        )

    def _units(self, chunk: Chunk) -> tuple[list[tuple[list[int], list[Row]]], list[Rejected]]:
        """Return the rows of a chunk by unit, each unit with the indices of its rows, and the rows that can't be used."""
        units: dict[Any, tuple[list[int], list[Row]]] = {}
        rejected: list[Rejected] = []
        for index, raw in enumerate(chunk.rows):
            try:
                row, _ = read_row(raw)
                rows = list(self._columns.rows(row)) if self._transform.by_group else [self._columns.rename(row)]
                for name in self._transform.needs:
                    _refuse_other(name, rows)
            except RowError as error:
                rejected.append(_rejected(chunk, index, str(error)))
                continue
            group: Any = index
            if self._transform.by_group:
                own = rows[0].get("group")
                group = group_key(rows[0]["prompt"]) if own is None else f"{type(own).__name__}:{own}"
            indices, members = units.setdefault(group, ([], []))
            indices.append(index)
            members += rows
        return list(units.values()), rejected

    async def _make(self, units: Sequence[Sequence[Row]]) -> list[Made | RowError]:
        import asyncio

        async def one(rows: Sequence[Row]) -> Made | RowError:
            try:
                return await self._transform(rows)
            except RowError as error:
                return error

        return list(await asyncio.gather(*map(one, units)))


def _refuse_other(name: str, rows: Sequence[Row]) -> None:
    for row in rows:
        value = row.get(name)
        if not isinstance(value, str) and not (isinstance(value, list) and is_chat(value)):
            found = f"is {kind_of(value)}" if name in row else f"is missing; columns are {', '.join(row) or 'none'}"
            raise RowError(f"{name!r} must be text or a list of chat messages, and {found}")


def _rejected(chunk: Chunk, index: int, reason: str, kind: str = "", unit: str = "") -> Rejected:
    return Rejected(chunk.files[index], chunk.numbers[index], reason, raw_text(chunk.rows[index]), kind, unit)


def table(rows: Sequence[Row]) -> Any:
    """Return rows as an Arrow batch, for formats of tables. Raises OutputError if a column has no one type."""
    import pyarrow as pa

    from rewardkit.scoring.formats.encode import arrow_column

    names = dict.fromkeys(name for row in rows for name in row)
    return pa.RecordBatch.from_pydict(
        {name: arrow_column(name, [row.get(name) for row in rows], None) for name in names}
    )


def _check_columns(reader: Reader, columns: Columns, transform: Transform) -> None:
    """Raise DataError if the first rows lack a column that all of them need."""
    for first in reader.first_rows():
        found: dict[str, None] = {}
        for raw in first.rows[:FIRST_ROWS]:
            try:
                found |= dict.fromkeys(columns.rename(read_row(raw)[0]))
            except RowError:
                continue
        for name in transform.needs:
            if found and name not in found:
                raise DataError(
                    f"{first.files[0]}: rows have no column {name!r}; columns are {', '.join(found)}. "
                    f"Name the right one with --map {name}=COLUMN"
                )


def _written(output: Output, name: str) -> Summary:
    """Return the summary of what an earlier run has done."""
    summary = Summary.empty((name,))
    summary.costs = added_costs({}, output.now.costs or {})
    summary.seconds = dict(output.now.seconds or {})
    summary.rows = output.now.consumed
    for entry in rejected_entries(output.paths.rejected_part):
        if entry.get("kind"):
            summary.unscored += 1
            summary.add_outcomes(name, ["unscored"], [entry["kind"]], [entry["reason"]])
    return summary


def rejected_entries(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the entries of a file of rejected rows; none if there is no such file.

    Raises:
        DataError: The file is damaged.
    """
    import json

    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                entry = json.loads(line)
                is_whole = {"file", "row", "reason", "raw"} <= entry.keys()
            except (ValueError, AttributeError, RecursionError):
                is_whole = False
            if not is_whole:
                raise DataError(f"{path}:{number} is damaged; start again with --fresh")
            yield entry


def _manifest(job: Job, output: Output, summary: Summary) -> dict[str, Any]:
    now = output.now
    data = summary.data()
    data["reward"]["n"] = now.rows
    return {
        "job": job.data(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "rows_read": now.consumed,
        "rows_written": now.rows,
        "rows_rejected": now.rejected,
        "text_replaced_rows": now.replaced,
        "emptied_columns": list(now.emptied),
        "summary": data,
    }


def result_of(manifest: dict[str, Any], options: TransformOptions, *, already_complete: bool) -> TransformResult:
    """Return how a job ended, judged by its manifest."""
    summary = manifest["summary"]
    limit = UnscoredLimit(options.abort_above, "at most", "may fail (--abort-above)")
    reasons = Counter(summary["unscored_reasons"])
    rejected = OutputPaths(options.out).rejected
    failed = summary["reward"]["unscored"]
    told = limit.exceeded(failed, summary["rows"], reasons, f"{rejected} lists them, and --retry tries them again")
    bad = manifest["rows_rejected"] - failed
    if not told and bad and bad / max(manifest["rows_read"], 1) > options.abort_above:
        told = f"{bad:,} of {manifest['rows_read']:,} rows could not be used; {rejected} lists them{_first_reason(rejected)}"
    return TransformResult(manifest, already_complete, told)


def _first_reason(rejected: Path) -> str:
    """Return the first of the rows that could not be used, as the end of a sentence; empty if none can be read."""
    with suppress(OSError, DataError):
        for entry in rejected_entries(rejected):
            if not entry.get("kind"):
                return f". The first is {entry['file']}:{entry['row']}: {entry['reason']}"
    return ""


def _close(transform: Transform, loop: EventLoop) -> None:
    async def close() -> None:
        await transform.close()

    try:
        loop.submit(close()).result(CLOSE_S)
    except TimeoutError:  # an interrupted run does not wait for a service
        loop.abandon()
        return
    loop.close(CLOSE_S)
