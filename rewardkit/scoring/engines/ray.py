"""Scores chunks on a Ray cluster: Ray Data sends them to actors that hold the reward, and scored chunks come back in order.

The driver reads and writes, so runs are resumed as without Ray.
"""

from __future__ import annotations

import dataclasses
import importlib
import logging
import pickle
from collections.abc import Iterator
from typing import Any

from rewardkit.errors import RewardkitError, UsageError, WorkerError
from rewardkit.scoring.engines.chunk_scorer import ChunkScorer, ScoredChunk, Task
from rewardkit.scoring.engines.local import RewardSpec
from rewardkit.scoring.formats.readers import Chunk

_WAVE_BYTES = 128 << 20
_WAVE_CHUNKS = 2048
"""Chunks are given to Ray in waves, since they stay in its object store until they are scored."""


class ChunkActor:
    """A worker of the cluster. It builds the reward once and scores chunks."""

    def __init__(self, order: RewardSpec, task: Task) -> None:
        self._scorer: ChunkScorer | None = None
        self._error: RewardkitError | None = None
        try:
            self._scorer = ChunkScorer(order.build(), task)
        except RewardkitError as error:
            self._error = WorkerError(f"on a Ray worker: {error}")

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        """Score the chunks of a batch. Errors of rewardkit are returned, so that the driver raises them."""
        return {"scored_chunk": [pickle.dumps(self._one(chunk)) for chunk in batch["chunk"]]}

    def _one(self, chunk: bytes) -> ScoredChunk | RewardkitError:
        if self._scorer is None:
            return self._error or WorkerError("a Ray worker has no reward")
        try:
            return self._scorer(pickle.loads(chunk))  # noqa: S301 - made by the driver
        except RewardkitError as error:
            return error


def on_ray(order: RewardSpec, task: Task, chunks: Iterator[Chunk]) -> Iterator[ScoredChunk]:
    """Score chunks on the cluster that Ray is connected to, or on this machine if there is none.

    Raises:
        UsageError: Ray is not installed.
        WorkerError: Ray can't be used, or a worker failed.
    """
    try:
        ray: Any = importlib.import_module("ray")
        importlib.import_module("ray.data")
    except ImportError as error:
        raise UsageError(f"--engine ray needs Ray: pip install 'rewardkit[ray]' ({error})") from error

    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="warning")
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    # The cluster's cores are shared out among actors, so each needs only one worker of its own.
    order = dataclasses.replace(order, workers=order.workers or 1)
    actors = max(1, int(ray.cluster_resources().get("CPU", 1)) - 1)
    for wave in _waves(chunks):
        rows = ray.data.from_items([{"chunk": chunk} for chunk in wave], override_num_blocks=len(wave))
        scored = rows.map_batches(
            ChunkActor,
            fn_constructor_args=(order, task),
            batch_size=1,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=actors),
        )
        try:
            for row in scored.iter_rows():
                scored_chunk: ScoredChunk | RewardkitError = pickle.loads(row["scored_chunk"])  # noqa: S301 - made by an actor a moment ago
                if isinstance(scored_chunk, RewardkitError):
                    raise scored_chunk
                yield scored_chunk
        except ray.exceptions.RayError as error:
            raise WorkerError(f"Ray could not score: {error}") from error


def _waves(chunks: Iterator[Chunk]) -> Iterator[list[bytes]]:
    wave: list[bytes] = []
    size = 0
    for chunk in chunks:
        wave.append(pickle.dumps(chunk))
        size += len(wave[-1])
        if size >= _WAVE_BYTES or len(wave) >= _WAVE_CHUNKS:
            yield wave
            wave, size = [], 0
    if wave:
        yield wave
