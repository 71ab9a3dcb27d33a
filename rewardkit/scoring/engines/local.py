"""Works on chunks on this machine: in this thread, in a few threads that wait for workers, or in worker processes. In order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING

from rewardkit.errors import RewardkitError, WorkerError
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
"""Batches in flight where the work is done elsewhere: enough that workers never wait for the next."""
_FIRST_ROWS = 128
_CHUNK_SECONDS = 1.0
MIN_SECONDS_FOR_PROCESSES = 4.0
"""What will take longer than this here is shared with worker processes."""
_JUDGED_AFTER_S = 0.3
_BREAKS_AFTER_S = 2.0
"""How long after a worker's death the executor may take to see it."""
MAX_LOSSES = 10
"""How often in a row worker processes may die without one chunk being finished in between."""
PER_PROCESS = 5
"""Chunks on their way to and from each worker process: so many that it has work while this process scores one itself."""
_SWITCH_S = 0.0002
"""How long this process's scoring may hold up the threads that hand chunks to and fro; with Python's 5 ms workers run dry."""


@dataclass(frozen=True, slots=True)
class RewardSpec:
    """A reward that another process can build."""

    text: str
    """The reward file's content."""
    file: str
    reward_id: str
    step: int
    workers: int | None = None
    cache: Path | None = None
    """The score cache's folder; None: no cache."""

    def build(self) -> CompositeReward:
        """Build it from the plugins installed here.

        Raises:
            WorkerError: The plugins here make another reward of it.
        """
        from rewardkit.composite import CompositeReward, ScoreCache  # noqa: PLC0415 - in the worker only
        from rewardkit.config.spec import parse_config  # noqa: PLC0415
        from rewardkit.registry import Registry  # noqa: PLC0415

        registry = Registry.load()
        config = parse_config(self.text, registry, self.file)
        if config.reward_id != self.reward_id:
            raise WorkerError(
                f"{self.file} resolves to reward {config.reward_id} in a worker and to {self.reward_id} here: "
                "are other versions of the plugins installed there?"
            )
        cache = ScoreCache(self.cache) if self.cache is not None else None
        return CompositeReward(config, registry=registry, step=self.step, workers=self.workers, cache=cache)


def inline(scorer: Callable[[Chunk], ScoredChunk], chunks: Iterable[Chunk], reader: Reader) -> Iterator[ScoredChunk]:
    """One after the other, in this thread; slow rewards get smaller chunks, so that Ctrl-C is heard and progress seen."""
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
    order: RewardSpec,
    task: Task,
    count: int,
    scorer: Callable[[Chunk], ScoredChunk],
    chunks: Iterator[Chunk],
    reader: Reader,
    stop: Callable[[], bool],
) -> Iterator[ScoredChunk]:
    """In this thread as long as the rest takes no longer than workers take to start; what takes longer is shared with them."""
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
            yield from in_processes(order, task, count, scorer, chunks, stop)
            return


def in_threads(
    scorer: Callable[[Chunk], ScoredChunk], chunks: Iterable[Chunk], stop: Callable[[], bool]
) -> Iterator[ScoredChunk]:
    """Several chunks at once, for rewards whose work is done in worker processes, by services, or on a device."""
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="rewardkit-chunk")
    try:
        yield from _in_order(chunks, lambda chunk: pool.submit(scorer, chunk), THREADS, stop)
    finally:
        # Who is interrupted does not wait for verifiers; closing the reward ends them.
        pool.shutdown(wait=False, cancel_futures=True)


def in_processes(
    order: RewardSpec,
    task: Task,
    count: int,
    scorer: Callable[[Chunk], ScoredChunk],
    chunks: Iterable[Chunk],
    stop: Callable[[], bool],
) -> Iterator[ScoredChunk]:
    """Spread over ``count`` processes, each with the whole reward; for rewards that are pure computation.

    This process is one of them: it scores a chunk whenever the others have enough to do. A worker that is killed takes its pool
    with it, and loses nothing: the chunks that were on their way go to a new one.

    Raises:
        WorkerError: A worker could not start, or the same chunk was lost with its worker several times.
    """
    workers = _Workers(order, task, count - 1, stop)
    waiting = workers.waiting
    switch_s = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)
    try:
        for chunk in chunks:
            if workers.busy() < PER_PROCESS * (count - 1):
                waiting.append((chunk, workers.send(chunk)))
            else:
                own: Future[ScoredChunk] = Future()
                own.set_result(scorer(chunk))
                waiting.append((chunk, own))
            while waiting and (waiting[0][1].done() or len(waiting) > 2 * PER_PROCESS * count):
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
    """Worker processes, and the chunks that are on their way."""

    def __init__(self, order: RewardSpec, task: Task, count: int, stop: Callable[[], bool]) -> None:
        self._order, self._task, self._count = order, task, count
        self._pool = self._start_pool()
        self._stop = stop
        self._losses = 0
        self._dead_since: float | None = None
        self.waiting: deque[tuple[Chunk, Future[ScoredChunk]]] = deque()
        """In the order of the input."""

    def _start_pool(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self._count, context, initializer=_start, initargs=(self._order, self._task))

    def busy(self) -> int:
        """How many chunks are not done."""
        return sum(not future.done() for _, future in self.waiting)

    def send(self, chunk: Chunk) -> Future[ScoredChunk]:
        """Hand a chunk to the workers."""
        try:
            return self._pool.submit(_work, chunk)
        except BrokenProcessPool as error:
            lost: Future[ScoredChunk] = Future()
            lost.set_exception(error)
            return lost

    def next(self) -> ScoredChunk | None:
        """The first scored_chunk that is waited for; None where the run is to stop and it isn't ready."""
        while True:
            try:
                scored_chunk = _result(self.waiting[0][1], self._asked)
            except BrokenProcessPool as error:
                self._replace(error)
                continue
            self._losses = 0
            self.waiting.popleft()
            return scored_chunk

    def _asked(self) -> bool:
        """Whether the run is to stop. Also breaks a pool that a worker left in the middle of an answer: it would wait for ever."""
        processes = list((self._pool._processes or {}).values())  # noqa: SLF001 - the executor has no word for this
        if all(process.is_alive() for process in processes):
            self._dead_since = None
        elif self._dead_since is None:
            self._dead_since = time.monotonic()
        elif time.monotonic() - self._dead_since > _BREAKS_AFTER_S:
            self._dead_since = None
            for process in processes:
                process.kill()
            self._pool._result_queue._writer.close()  # type: ignore[attr-defined]  # noqa: SLF001 - the reader meets the end
        return self._stop()

    def _replace(self, error: BrokenProcessPool) -> None:
        self._losses += 1
        if self._losses >= MAX_LOSSES:
            raise WorkerError(
                f"worker processes died {self._losses} times on the rows from {self.waiting[0][0].where(0)} on, perhaps for "
                "want of memory; what is finished is kept. Try again with --workers 1"
            ) from error
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = self._start_pool()
        for index, (chunk, future) in enumerate(self.waiting):
            if not future.done() or future.cancelled() or isinstance(future.exception(), BrokenProcessPool):
                self.waiting[index] = chunk, self.send(chunk)

    def close(self) -> None:
        """End the workers."""
        self._pool.shutdown(wait=True, cancel_futures=True)


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
    """What came of it; None where the run is to stop and it isn't ready."""
    while True:
        try:
            return future.result(timeout=0.2)
        except TimeoutError:
            if future.done():
                raise  # the work itself raised it
            if stop():
                return None


_scorer: ChunkScorer | RewardkitError | None = None


def _start(order: RewardSpec, task: Task) -> None:
    global _scorer  # noqa: PLW0603 - a worker process has exactly one
    # Ctrl-C goes to every process of the terminal; the parent decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _scorer = ChunkScorer(order.build(), task)
        collect_garbage_rarely()
        if writer_of(task.format)[0].payload == "table":
            pickle_batches_as_arrow()
    except RewardkitError as error:
        _scorer = WorkerError(str(error))


def _end_with_parent() -> None:
    """A parent that was killed can't tell its workers to go."""
    if (parent := multiprocessing.parent_process()) is not None:
        wait([parent.sentinel])
        os._exit(1)


def _work(chunk: Chunk) -> ScoredChunk:
    if isinstance(_scorer, RewardkitError):
        raise _scorer
    assert _scorer is not None  # noqa: S101 - _start ran
    return _scorer(chunk)
