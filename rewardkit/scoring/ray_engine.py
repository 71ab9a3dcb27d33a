"""The same work on a Ray cluster: chunks go through Ray Data to actors that hold the reward, pieces come back in order.

The driver reads and writes, so the journal, and what follows from it, is the same as without Ray.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from itertools import islice
from typing import Any

from rewardkit.errors import UsageError, WorkerError
from rewardkit.scoring.local import RewardOrder
from rewardkit.scoring.readers import Chunk
from rewardkit.scoring.work import ChunkScorer, Piece, Task

_WAVE_CHUNKS = 256
"""Chunks handed to Ray at once; what they hold is in its object store until it is worked on."""


class ChunkActor:
    """A worker of the cluster: builds the reward once, then scores chunks."""

    def __init__(self, order: bytes) -> None:
        reward_order, task = pickle.loads(order)  # noqa: S301 - made by the driver
        self._scorer = ChunkScorer(reward_order.build(), task)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        """Score the chunks of a batch."""
        return {"piece": [pickle.dumps(self._scorer(pickle.loads(chunk))) for chunk in batch["chunk"]]}  # noqa: S301


def on_ray(order: RewardOrder, task: Task, chunks: Iterator[Chunk]) -> Iterator[Piece]:
    """Score chunks on the cluster that Ray is connected to, or on this machine where it is to none.

    Raises:
        UsageError: Ray is not installed.
        WorkerError: Ray can't be used, or a worker failed.
    """
    try:
        import ray  # noqa: PLC0415 - an extra
        import ray.data  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(f"--engine ray needs Ray: pip install 'rewardkit[ray]' ({error})") from error

    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="warning")
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    actors = max(1, int(ray.cluster_resources().get("CPU", 1)) - 1)
    arguments = {"fn_constructor_args": (pickle.dumps((order, task)),), "batch_size": 1, "batch_format": "numpy"}
    while wave := list(islice(chunks, _WAVE_CHUNKS)):
        rows = ray.data.from_items([{"chunk": pickle.dumps(chunk)} for chunk in wave], override_num_blocks=len(wave))
        scored = rows.map_batches(ChunkActor, concurrency=(1, actors), **arguments)
        try:
            for row in scored.iter_rows():
                piece: Piece = pickle.loads(row["piece"])  # noqa: S301 - made by an actor a moment ago
                yield piece
        except ray.exceptions.RayError as error:
            raise WorkerError(f"Ray could not score: {error}") from error
