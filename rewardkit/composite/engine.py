"""The composite reward: builds the rewards of a configuration and scores batches of rollouts."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias, overload

from rewardkit.composite.batch import Batch
from rewardkit.composite.cache import ScoreCache
from rewardkit.composite.components import Components
from rewardkit.composite.plugin_calls import ending_forked_children
from rewardkit.composite.rows import read_rows, rollouts_of
from rewardkit.composite.scored_batch import ScoredBatch
from rewardkit.config.reading import parse_config, read_config
from rewardkit.config.spec import Composite, Requirements, RewardConfig
from rewardkit.errors import TooManyUnscoredError, UsageError
from rewardkit.registry import Registry
from rewardkit.types import Rollout, ScoredRollout

logger = logging.getLogger(__name__)


Rollouts: TypeAlias = "Sequence[Rollout | Mapping[str, Any]]"
"""Rollouts, or rows that `Rollout.from_row` takes."""


def load_reward(
    source: Path | str | Mapping[str, Any],
    *,
    registry: Registry | None = None,
    workers: int | None = None,
    cache: ScoreCache | None = None,
) -> CompositeReward:
    """Build a composite reward from a reward file.

    Args:
        source: The path of the file, its text (a string with a newline), or its content as a mapping.
        registry: The plugins; by default those that are installed.
        workers: The number of worker processes for rewards that need them; by default one per core.
        cache: The cache of deterministic rewards' scores; by default there is none, and only equal rows of a batch are scored once.

    Raises:
        ConfigError: Anything is wrong with the file or with a parameter.
    """
    if isinstance(source, Mapping):
        text, file = json.dumps(source, default=_refuse_value), "<mapping>"
    elif isinstance(source, str) and "\n" in source:
        text, file = source, "<string>"
    else:
        text, file = "", str(source)
    known = registry or Registry.load()
    config = parse_config(text, known, file) if text else read_config(file, known)
    reward = CompositeReward(config, registry=known, workers=workers, cache=cache)
    if registry is None:
        reward.source = _Source(text or Path(file).read_text(encoding="utf-8-sig"), file, workers)
    return reward


def _refuse_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise UsageError(f"a reward can't be made from a mapping that holds a {type(value).__name__}")


@dataclass(frozen=True, slots=True)
class _Source:
    """What another process needs to build the same reward."""

    text: str
    file: str
    workers: int | None

    def build(self, step: int, cache: Path | None) -> CompositeReward:
        """Build the reward from the installed plugins."""
        registry = Registry.load()
        kept = None if cache is None else ScoreCache(cache)
        config = parse_config(self.text, registry, self.file)
        reward = CompositeReward(config, registry=registry, step=step, workers=self.workers, cache=kept)
        reward.source = self
        return reward


class CompositeReward:
    """A configured reward whose plugins are built. Use it as a context manager, or call ``close``.

    A forked process builds the plugins again when it scores for the first time. A reward that ``load_reward`` made from installed
    plugins can be pickled: it is built again from its source.

    Args:
        config: The checked reward file.
        registry: The plugins whose hooks observe scoring; None for no hooks.
        step: The training step at which weight schedules are evaluated, unless ``score`` gets another.
        workers: The number of worker processes of each component that needs them; by default one per core.
        cache: The cache of scores of deterministic rewards; None for no cache.
        share_equal: Score equal rows of a batch once. False scores each of them, to see whether they get the same score.

    Raises:
        ConfigError: A reward refuses its parameters.
    """

    source: _Source | None = None
    """What another process needs to build this reward; None if it can't."""

    def __init__(
        self,
        config: RewardConfig,
        *,
        registry: Registry | None = None,
        step: int = 0,
        workers: int | None = None,
        cache: ScoreCache | None = None,
        share_equal: bool = True,
    ) -> None:
        self.config = config
        self.step = step
        """The training step that weights are taken from unless ``score`` is told another."""
        self._registry = registry
        self._workers = workers
        self._cache = cache
        self._share_equal = share_equal
        self._components = Components(config, workers, cache, share_equal=share_equal)
        self._lock = threading.Lock()
        self._closed = False
        self._pid = os.getpid()
        self._paths = config.field_paths

    @property
    def requirements(self) -> Requirements:
        """What the rollouts must tell: columns, numbers of tokens, finish reasons, whole groups."""
        return self.config.requirements

    @property
    def is_inline(self) -> bool:
        """True if all components run in the calling thread."""
        return self._components.is_inline

    @property
    def timings(self) -> dict[str, float]:
        """Seconds spent by each component so far, added over threads and workers."""
        return self._components.timings

    @property
    def costs(self) -> dict[str, dict[str, float]]:
        """What the calls of each component have cost so far, as sums by name, for rewards that tell (judges: calls, tokens, money)."""
        return self._components.costs()

    def preflight(self) -> None:
        """Ask each reward that can tell whether it is able to score, such as whether the endpoint of a judge is up.

        Raises:
            ConfigError: One is not. Every problem is listed with the place of its component.
        """
        self._components.preflight()

    @overload
    def score(self, rollouts: Rollout | Mapping[str, Any], *, step: int | None = None) -> ScoredRollout: ...

    @overload
    def score(self, rollouts: Rollouts, *, step: int | None = None) -> list[ScoredRollout]: ...

    def score(
        self, rollouts: Rollout | Mapping[str, Any] | Rollouts, *, step: int | None = None
    ) -> ScoredRollout | list[ScoredRollout]:
        """Score a batch. Safe to call from several threads at once.

        Args:
            rollouts: Rollouts, or rows as dicts; with whole groups if ``config.needs_groups``. Or one of them.
            step: The training step for weight schedules.

        Returns:
            The scored rollouts in the same order; one scored rollout if one was given.

        Raises:
            DataError: No route takes a rollout.
            TooManyUnscoredError: The policy is ``fail`` and a rollout could not be scored.
            WorkerError: Worker processes can't be started.
            UsageError: The reward has been closed, an event loop is running in this thread, or a dict is not a row.
        """
        scored = self.score_batch(_batch(rollouts, self._paths), step=step).rows()
        return scored[0] if _is_one(rollouts) else scored

    def score_batch(self, rollouts: Sequence[Rollout], *, step: int | None = None) -> ScoredBatch:
        """Score a batch as `score` does, and return columns, which takes less time than an object for each rollout.

        Args:
            rollouts: The batch; with whole groups if ``config.needs_groups``.
            step: The training step for weight schedules.

        Raises:
            RewardkitError: As `score` does.
        """
        if asyncio._get_running_loop() is not None:  # noqa: SLF001 - the public function raises if there is none
            raise UsageError("score() would block the running event loop: use `await reward.ascore(rollouts)`")
        scoring = self._scoring(rollouts, step)
        while True:
            try:
                futures = next(scoring)
            except StopIteration as done:
                scored: ScoredBatch = done.value
                return scored
            wait(futures, return_when=FIRST_COMPLETED)

    @overload
    async def ascore(self, rollouts: Rollout | Mapping[str, Any], *, step: int | None = None) -> ScoredRollout: ...

    @overload
    async def ascore(self, rollouts: Rollouts, *, step: int | None = None) -> list[ScoredRollout]: ...

    async def ascore(
        self, rollouts: Rollout | Mapping[str, Any] | Rollouts, *, step: int | None = None
    ) -> ScoredRollout | list[ScoredRollout]:
        """Score a batch from a coroutine, without blocking the event loop. While services and workers are busy, no thread waits for them.

        Args:
            rollouts: Rollouts, or rows as dicts; with whole groups if ``config.needs_groups``. Or one of them.
            step: The training step for weight schedules.

        Returns:
            The scored rollouts in the same order; one scored rollout if one was given.

        Raises:
            DataError: No route matches a rollout.
            TooManyUnscoredError: The policy is ``fail`` and a rollout could not be scored.
            WorkerError: Worker processes can't be started.
            UsageError: The reward has been closed, or a dict is not a row.
        """
        scoring = self._scoring(_batch(rollouts, self._paths), step)

        def proceed() -> tuple[list[Future[Any]] | None, list[ScoredRollout]]:
            try:
                return next(scoring), []
            except StopIteration as done:
                return None, done.value.rows()

        while True:
            futures, scored = await asyncio.to_thread(proceed)
            if futures is None:
                return scored[0] if _is_one(rollouts) else scored
            await _first_done(futures, self._components.closing)

    def score_rows(self, rows: Any, *, step: int | None = None) -> Any:
        """Score rows in the container that they come in, and return one of the same kind with the columns that scoring adds.

        These are ``reward`` (None where a row is unscored), ``reward_status``, ``reward_id`` and ``components``. The container
        itself is not changed.

        Args:
            rows: A list of dicts or rollouts, one of them, a DataFrame of pandas or polars, a ``datasets.Dataset``, or a ``pyarrow.Table``,
                with the columns of `Rollout.from_row`.
            step: The training step for weight schedules.

        Returns:
            Lists and dicts for lists and dicts, else a container of the same type with further columns.

        Raises:
            UsageError: A row can't be used, or the container is of another kind.
            DataError: No route takes a row.
            TooManyUnscoredError: The policy is ``fail`` and a row could not be scored.
        """
        read = read_rows(rows)
        return read.scored(self.score(rollouts_of(read.rows, self._paths), step=step))

    def _scoring(
        self, rollouts: Sequence[Rollout], step: int | None
    ) -> Generator[list[Future[Any]], None, ScoredBatch]:
        """Score a batch; yields futures whenever there is nothing to do until one of them is done."""
        self._rebuild_after_fork()
        if self._closed:
            raise UsageError("this reward has been closed; load it again to score more")
        step = self.step if step is None else step
        if len(self.config.composites) == 1 and not self.config.routes:
            composite = next(iter(self.config.composites.values()))
            scored = yield from self._score_composite(composite, rollouts, step)
        else:
            scored = yield from self._score_routed(rollouts, step)
        if self.config.policy == "fail":
            for _, unscored in sorted(scored.unscored.items())[:1]:
                raise TooManyUnscoredError(
                    f"a rollout could not be scored ({unscored.kind}): {unscored.message}; "
                    "the policy in the reward file is 'fail'"
                )
        self._observe(scored, step)
        return scored

    def _rebuild_after_fork(self) -> None:
        """Build the components again in a forked process, which has none of the threads and workers."""
        if self._pid == os.getpid():
            return
        self._pid = os.getpid()
        self._lock = threading.Lock()
        if self._cache is not None:
            self._cache.reopen()
        self._components = Components(self.config, self._workers, self._cache, share_equal=self._share_equal)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the source that the reward was made from.

        Raises:
            UsageError: It was not made by ``load_reward`` from installed plugins.
        """
        if self.source is None:
            raise UsageError("only a reward that load_reward made from installed plugins can be pickled")
        return self.source.build, (self.step, None if self._cache is None else self._cache.file.parent)

    def close(self) -> None:
        """Close the rewards and end their workers and threads. Calls of ``score`` that are under way fail with UsageError."""
        if self._pid != os.getpid():  # the components belong to the process that this one was forked from
            self._closed = True
            return
        with self._lock:
            closed, self._closed = self._closed, True
        if closed:
            return
        self._components.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _score_routed(self, rollouts: Sequence[Rollout], step: int) -> Generator[list[Future[Any]], None, ScoredBatch]:
        chosen: dict[str, list[int]] = {}
        for index, rollout in enumerate(rollouts):
            chosen.setdefault(self.config.composite_for(rollout).name, []).append(index)
        parts: dict[str, tuple[list[int], ScoredBatch]] = {}
        for name, indices in chosen.items():
            own = [rollouts[index] for index in indices]
            parts[name] = indices, (yield from self._score_composite(self.config.composites[name], own, step))
        return ScoredBatch.merged(rollouts, parts, self.config.component_names, self.config.reward_id)

    def _score_composite(
        self, composite: Composite, rollouts: Sequence[Rollout], step: int
    ) -> Generator[list[Future[Any]], None, ScoredBatch]:
        batch = Batch(self._components, self.config, composite, rollouts)
        yield from batch.run()
        return batch.scored(step)

    @property
    def reward_id(self) -> str:
        """The hash of the resolved configuration and the plugins' versions."""
        return self.config.reward_id

    def _observe(self, scored: ScoredBatch, step: int) -> None:
        if self._registry is None or not self._registry.observes_scoring:
            return
        try:
            with ending_forked_children():
                self._registry.hook.rollouts_scored(rollouts=scored.rows(), step=step)
        # The boundary: an observer's failure is logged and must not affect the scores.
        except Exception:
            logger.exception("a plugin's rollouts_scored failed")


def _is_one(rollouts: object) -> bool:
    return isinstance(rollouts, Rollout | Mapping)


def _batch(rollouts: Any, paths: Sequence[str]) -> Sequence[Rollout]:
    """Return rollouts as a sequence, rows among them turned into rollouts. Raises UsageError."""
    given = [rollouts] if _is_one(rollouts) else rollouts
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise UsageError(f"score() takes rollouts or rows, or a list of them, not a {type(given).__name__}")
    return given if all(isinstance(item, Rollout) for item in given) else rollouts_of(given, paths)


async def _first_done(futures: Sequence[Future[Any]], closing: Future[None]) -> None:
    """Wait until one of the futures is done. Closing ends all of them, so that it need not be waited for."""
    wrapped = [asyncio.wrap_future(future) for future in futures if future is not closing]
    for future in wrapped:
        future.add_done_callback(lambda done: done.cancelled() or done.exception())  # the result is taken elsewhere
    await asyncio.wait(wrapped, return_when=asyncio.FIRST_COMPLETED)
