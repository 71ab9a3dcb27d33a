"""Scores one chunk of raw rows and encodes the result. It does the same in this process, in a worker process and on Ray."""

from __future__ import annotations

import contextlib
import copyreg
import gc
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rewardkit.errors import DataError, TooManyUnscoredError
from rewardkit.scoring.columns.columns import Columns
from rewardkit.scoring.formats.decode import Decoded, Rejected, decode
from rewardkit.scoring.formats.encode import ScoreColumns, arrow_table, json_lines, score_columns
from rewardkit.scoring.formats.format import Payload, writer_of
from rewardkit.scoring.formats.readers import Chunk
from rewardkit.scoring.summary import Summary, added_costs

if TYPE_CHECKING:
    import pyarrow as pa

    from rewardkit.composite import CompositeReward
    from rewardkit.composite.scored_batch import ScoredBatch
    from rewardkit.types import ScoredRollout


@dataclass(frozen=True, slots=True)
class ScoredChunk:
    """The scored rows of a chunk."""

    consumed: int
    """That of the chunk."""
    position: int
    """That of the chunk."""
    rows: int
    payload: Payload
    place: str
    """``file:line`` of the first row."""
    rejected: list[Rejected]
    summary: Summary
    replaced: int = 0
    """The number of rows whose lone surrogates became U+FFFD, since Parquet can't hold them."""
    emptied: tuple[str, ...] = ()
    """Columns in which empty objects became null, since Parquet can't hold them."""
    rejected_unscored: int = 0
    """How many of ``rejected`` are unscored rows, which a job that makes new rows has no other place for."""


@dataclass(frozen=True, slots=True)
class Task:
    """How chunks are scored, apart from the reward."""

    columns: Columns = field(default_factory=Columns)
    format: str = "jsonl"
    keep_ordinals: bool = False
    """True if the order of the input must be restored at the end."""


class ChunkScorer:
    """Scores chunks. Threads may call it at the same time."""

    def __init__(self, reward: CompositeReward, task: Task) -> None:
        self._reward = reward
        self._task = task
        self._paths = reward.config.field_paths
        self._lock = threading.Lock()
        self._told: dict[str, float] = {}
        self._told_costs: dict[str, dict[str, float]] = {}

    def __call__(self, chunk: Chunk) -> ScoredChunk:
        """Decode, score and encode a chunk.

        Raises:
            DataError: No route takes a row. The message names the row.
            OutputError: A column can't be written as Parquet.
        """
        decoded = decode(chunk, self._task.columns, self._paths)
        try:
            scored: ScoredBatch | list[ScoredRollout] = (
                self._reward.score_batch(decoded.rollouts) if decoded.rollouts else []
            )
        except DataError as error:
            raise self._with_place(chunk, decoded, error) from error
        except TooManyUnscoredError as error:
            last = chunk.where(len(chunk.rows) - 1)
            raise TooManyUnscoredError(f"between {chunk.where(0)} and {last}, {error}") from error
        places = _RowPlaces(chunk, decoded.sources)
        columns = score_columns(scored, self._reward.config.component_names, places)
        replaced = 0
        emptied: tuple[str, ...] = ()
        payload: Any
        if writer_of(self._task.format)[0].payload == "table":
            table = arrow_table(decoded, columns, self._task.columns.types(chunk.types), places)
            payload, replaced, emptied = table.batch, table.replaced, table.emptied
        else:
            payload = json_lines(decoded, columns)
        if self._task.keep_ordinals:
            from rewardkit.scoring.resume.restore_order import with_ordinals

            payload = with_ordinals(payload, [chunk.ordinals[source] for source in decoded.sources])
        return ScoredChunk(
            chunk.consumed,
            chunk.position,
            len(decoded.rows),
            payload,
            chunk.where(0),
            decoded.rejected,
            self._summary(decoded, columns, places),
            replaced,
            emptied,
        )

    def _summary(self, decoded: Decoded, columns: ScoreColumns, places: Sequence[str]) -> Summary:
        components = columns.components
        summary = Summary.empty(tuple(components))
        summary.add(
            [rollout.group for rollout in decoded.rollouts],
            columns.rewards,
            columns.statuses,
            [component.values for component in components.values()],
        )
        for name, component in components.items():
            if not component.all_scored:
                kinds = component.extras.get("kind") or [None] * len(component.statuses)
                summary.add_outcomes(name, component.statuses, kinds, component.reasons)
                tracebacks = component.extras.get("traceback") or ()
                first = next((index for index, text in enumerate(tracebacks) if text), None)
                if first is not None:
                    summary.tracebacks[name] = f"{places[first]}\n{tracebacks[first]}"
        with self._lock:
            timings = dict(self._reward.timings)
            summary.seconds = {name: spent - self._told.get(name, 0.0) for name, spent in timings.items()}
            self._told = timings
            costs = self._reward.costs
            summary.costs = added_costs(costs, self._told_costs, -1.0)
            self._told_costs = costs
        return summary

    def _with_place(self, chunk: Chunk, decoded: Decoded, error: DataError) -> DataError:
        for rollout, source in zip(decoded.rollouts, decoded.sources, strict=True):
            try:
                self._reward.config.composite_for(rollout)
            except DataError as own:
                return DataError(f"{chunk.where(source)}: {own}")
        return error


class _RowPlaces(Sequence[str]):
    """``file:row`` of each row, computed on access."""

    def __init__(self, chunk: Chunk, sources: Sequence[int]) -> None:
        self._chunk = chunk
        self._sources = sources

    def __len__(self) -> int:
        return len(self._sources)

    def __getitem__(self, index: Any) -> Any:
        return self._chunk.where(self._sources[index])


def pickle_batches_as_arrow() -> None:
    """Send batches to other processes as Arrow's own bytes, which takes a fifth of the time of pickling their columns."""
    import pyarrow as pa

    copyreg.pickle(pa.RecordBatch, _packed)


def _packed(batch: pa.RecordBatch) -> tuple[Any, ...]:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return _unpacked, (sink.getvalue(),)


def _unpacked(data: pa.Buffer) -> pa.RecordBatch:
    import pyarrow as pa

    with pa.ipc.open_stream(data) as stream:
        return stream.read_next_batch()


def collect_garbage_rarely() -> None:
    """Collect garbage rarely: batches make many objects but no cycles, and frequent collection takes a quarter of the time."""
    gc.collect()
    _collect_only_new_objects()


def _collect_only_new_objects() -> None:
    gc.freeze()
    gc.set_threshold(200_000, 10, 10)


@contextlib.contextmanager
def rare_garbage_collection() -> Iterator[None]:
    """Collect garbage rarely inside the block. Older garbage is collected after it: a collection of a large program takes long."""
    before = gc.get_threshold()
    _collect_only_new_objects()
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
