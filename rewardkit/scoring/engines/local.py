"""Scoring chunks on this machine: in this thread, in threads that wait for workers, or in worker processes. Order is kept."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rewardkit.composite.event_loop import DaemonExecutor
from rewardkit.errors import WorkerError
from rewardkit.process_pool import Answer, ProcessPool, Result
from rewardkit.scoring.engines.chunk_scorer import (
    ChunkScorer,
    ScoredChunk,
    Task,
    collect_garbage_rarely,
    pickle_batches_as_arrow,
)
from rewardkit.scoring.formats.format import writer_of
from rewardkit.scoring.formats.readers import Chunk, Reader

if TYPE_CHECKING:
    from rewardkit.composite import CompositeReward

THREADS = 8
"""Chunks in flight if the work is done elsewhere: enough that workers never wait for the next one."""
_FIRST_ROWS = 128
_CHUNK_SECONDS = 1.0
MIN_SECONDS_FOR_PROCESSES = 4.0
"""If the rest takes longer than this in one process, worker processes are started."""
_JUDGED_AFTER_S = 0.3
MAX_TRIES = 10
"""How many worker processes one chunk may cost before the run ends."""
PER_PROCESS = 12
"""Chunks in flight per worker process: enough that it has work while this process scores a chunk itself."""
_SWITCH_S = 0.0002
"""The interpreter's switch interval. With Python's default of 5 ms, scoring delays the dispatcher and workers run dry."""


@dataclass(frozen=True, slots=True)
class RewardSpec:
    """A reward that another process can build."""

    text: str
    """The content of the reward file."""
    file: str
    reward_id: str
    step: int
    workers: int | None = None
    cache: Path | None = None
    """The folder of the score cache; None for no cache."""
    share_equal: bool = True
    """Score equal rows of a batch once."""

    def build(self) -> CompositeReward:
        """Build the reward from the plugins installed here.

        Raises:
            WorkerError: The plugins here resolve it to another reward.
        """
        from rewardkit.composite import CompositeReward, ScoreCache
        from rewardkit.config.reading import parse_config
        from rewardkit.registry import Registry

        registry = Registry.load()
        config = parse_config(self.text, registry, self.file)
        if config.reward_id != self.reward_id:
            raise WorkerError(
                f"{self.file} resolves to reward {config.reward_id} in a worker and to {self.reward_id} here: "
                "are other versions of the plugins installed there?"
            )
        cache = ScoreCache(self.cache) if self.cache is not None else None
        return CompositeReward(
            config,
            registry=registry,
            step=self.step,
            workers=self.workers,
            cache=cache,
            share_equal=self.share_equal,
        )


def inline(scorer: Callable[[Chunk], ScoredChunk], chunks: Iterable[Chunk], reader: Reader) -> Iterator[ScoredChunk]:
    """Score one chunk after the other in this thread. Slow rewards get smaller chunks, so that Ctrl-C and progress are not delayed."""
    most = reader.max_rows
    reader.max_rows = min(most, _FIRST_ROWS)
    for chunk in chunks:
        start = time.monotonic()
        yield scorer(chunk)
        seconds = time.monotonic() - start
        if seconds < _CHUNK_SECONDS / 4:
            reader.max_rows = min(most, reader.max_rows * 2)
        elif seconds > _CHUNK_SECONDS:
            reader.max_rows = max(1, reader.max_rows // 2)


def inline_then_processes(
    spec: RewardSpec,
    task: Task,
    count: int,
    scorer: Callable[[Chunk], ScoredChunk],
    chunks: Iterator[Chunk],
    reader: Reader,
    stop: Callable[[], bool],
) -> Iterator[ScoredChunk]:
    """Score in this thread, and start worker processes if the rest takes longer than they take to start."""
    most = reader.max_rows
    began: tuple[float, int] | None = None
    for scored_chunk in inline(scorer, chunks, reader):
        yield scored_chunk
        if began is None:
            began = time.monotonic(), scored_chunk.position
            continue
        seconds, read = time.monotonic() - began[0], scored_chunk.position - began[1]
        if (
            seconds > _JUDGED_AFTER_S
            and seconds * (reader.total_bytes - scored_chunk.position) > MIN_SECONDS_FOR_PROCESSES * read
        ):
            reader.max_rows = most
            yield from in_processes(spec, task, count, scorer, chunks, stop)
            return


def in_threads(
    scorer: Callable[[Chunk], ScoredChunk], chunks: Iterable[Chunk], stop: Callable[[], bool]
) -> Iterator[ScoredChunk]:
    """Score several chunks at once, for rewards whose work is done in worker processes, by services, or on a device."""
    # The program does not wait for these threads at its end, as it would for those of the standard library's executor.
    pool = DaemonExecutor(THREADS, "rewardkit-chunk")
    try:
        yield from _in_order(chunks, lambda chunk: pool.submit(scorer, chunk), THREADS, stop)
    finally:
        # An interrupted run does not wait for verifiers; closing the reward ends them.
        pool.shutdown(wait=False, cancel_futures=True)


def in_processes(
    spec: RewardSpec,
    task: Task,
    count: int,
    scorer: Callable[[Chunk], ScoredChunk],
    chunks: Iterable[Chunk],
    stop: Callable[[], bool],
) -> Iterator[ScoredChunk]:
    """Score in ``count`` processes, each with the whole reward; for rewards that are pure computation.

    This process is one of them: it scores a chunk whenever the others have enough to do. If a worker is killed, its chunks go to
    another one, and nothing is lost.

    Raises:
        WorkerError: A worker can't be started, or a chunk has cost too many workers.
    """
    workers = _Workers(spec, task, count - 1, stop)
    waiting = workers.waiting
    switch_s = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)
    try:
        for chunk in chunks:
            if workers.busy() < PER_PROCESS * (count - 1):
                waiting.append(workers.send(chunk))
            else:
                own: Future[ScoredChunk] = Future()
                own.set_result(scorer(chunk))
                waiting.append(own)
            while waiting and (waiting[0].done() or len(waiting) > 2 * PER_PROCESS * count):
                if (scored_chunk := workers.next()) is None:
                    return
                yield scored_chunk
        while waiting:
            if (scored_chunk := workers.next()) is None:
                return
            yield scored_chunk
    finally:
        sys.setswitchinterval(switch_s)
        workers.close()


class _Workers:
    """Worker processes that score chunks, and the chunks that have been handed to them."""

    def __init__(self, spec: RewardSpec, task: Task, count: int, stop: Callable[[], bool]) -> None:
        # Each worker gets its next chunks ahead of time. A chunk does not crash a worker by itself as a rule, so it is tried again.
        program = _ChunkProgram(spec, task)
        self._pool = ProcessPool(program, count, tries=MAX_TRIES, retry_crashes=True, prefetch=2)
        self._stop = stop
        self.waiting: deque[Future[ScoredChunk]] = deque()
        """The chunks in the order of the input."""

    def busy(self) -> int:
        """Return how many chunks are not done."""
        return sum(not future.done() for future in self.waiting)

    def send(self, chunk: Chunk) -> Future[ScoredChunk]:
        """Hand a chunk to the workers."""
        scored: Future[ScoredChunk] = Future()
        place = chunk.where(0)  # the chunk itself must not stay in memory until it is written

        def finish(batch: Future[list[Result]]) -> None:
            if (error := batch.exception()) is not None:
                scored.set_exception(error)
                return
            [result] = batch.result()
            if isinstance(result, Answer):
                scored.set_result(result.value)
            elif result.error is not None:
                scored.set_exception(result.error)
            else:
                scored.set_exception(
                    WorkerError(
                        f"{MAX_TRIES} worker processes died on the rows from {place} on (the last: {result.message}), perhaps for "
                        "lack of memory. Finished rows are kept. Try again with --workers 1"
                    )
                )

        self._pool.submit([chunk]).add_done_callback(finish)
        return scored

    def next(self) -> ScoredChunk | None:
        """Wait for the first chunk and return it; None if the run is to stop before it is scored."""
        scored_chunk = _result(self.waiting[0], self._stop)
        if scored_chunk is not None:
            self.waiting.popleft()
        return scored_chunk

    def close(self) -> None:
        """End the workers."""
        self._pool.close()


@dataclass(frozen=True, slots=True)
class _ChunkProgram:
    """What the worker processes run. See `rewardkit.process_pool.Program`."""

    spec: RewardSpec
    task: Task

    def load(self) -> _ChunkWorker:
        """Return the handler of the worker processes."""
        return _ChunkWorker(self.spec, self.task)


class _ChunkWorker:
    """Scores chunks in a worker process."""

    def __init__(self, spec: RewardSpec, task: Task) -> None:
        self._spec, self._task = spec, task
        self._scorer: ChunkScorer | None = None

    def start(self) -> None:
        """Build the reward in each worker, since plugins may hold threads and files, which don't survive a fork."""
        self._scorer = ChunkScorer(self._spec.build(), self._task)
        collect_garbage_rarely()
        if writer_of(self._task.format)[0].payload == "table":
            pickle_batches_as_arrow()

    def __call__(self, chunk: Chunk) -> ScoredChunk:
        """Score one chunk."""
        assert self._scorer is not None  # noqa: S101 - `start` has run
        return self._scorer(chunk)


def _in_order(
    chunks: Iterable[Chunk], submit: Callable[[Chunk], Future[ScoredChunk]], width: int, stop: Callable[[], bool]
) -> Iterator[ScoredChunk]:
    waiting: deque[Future[ScoredChunk]] = deque()
    for chunk in chunks:
        waiting.append(submit(chunk))
        while len(waiting) >= width:
            if (scored_chunk := _result(waiting[0], stop)) is None:
                return
            waiting.popleft()
            yield scored_chunk
    while waiting:
        if (scored_chunk := _result(waiting.popleft(), stop)) is None:
            return
        yield scored_chunk


def _result(future: Future[ScoredChunk], stop: Callable[[], bool]) -> ScoredChunk | None:
    """Wait for a chunk and return it; None if the run is to stop before it is scored."""
    while True:
        try:
            return future.result(timeout=0.2)
        except TimeoutError:
            if future.done():
                raise  # the work itself raised it
            if stop():
                return None
