"""Builds the rewards of a configuration, each on its executor, and scores batches of rollouts with them.

Reads no rollouts from files and prints nothing. What happens to one batch is in ``batch``.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rewardkit.composite.batch import Batch
from rewardkit.composite.cache import ScoreCache
from rewardkit.composite.components import Components
from rewardkit.config.spec import Composite, RewardConfig, parse_config, read_config
from rewardkit.errors import TooManyUnscoredError, UsageError
from rewardkit.registry import Registry
from rewardkit.types import Rollout, ScoredRollout, Skipped

logger = logging.getLogger(__name__)


def load_reward(
    source: Path | str, *, registry: Registry | None = None, workers: int | None = None, cache: ScoreCache | None = None
) -> CompositeReward:
    """A composite reward, ready to score, from a YAML file (or from YAML text, if it holds a newline).

    Args:
        source: The file's path, or the text.
        registry: The plugins to look in; by default those installed.
        workers: Worker processes for rewards that need them; by default one per core.
        cache: Where deterministic rewards' scores are kept; by default nowhere, and only equal rows of a batch are scored once.

    Raises:
        ConfigError: Anything is wrong with the file or with a parameter.
    """
    registry = registry or Registry.load()
    read = parse_config if isinstance(source, str) and "\n" in source else read_config
    return CompositeReward(read(source, registry), registry=registry, workers=workers, cache=cache)  # type: ignore[arg-type]


class CompositeReward:
    """A configured reward whose plugins are built. Use it as a context manager, or call ``close``.

    Args:
        config: The checked reward file.
        registry: The plugins whose hooks observe scoring; None for no hooks.
        step: The training step at which weight schedules are evaluated, unless ``score`` gets another.
        workers: The number of worker processes of each component that needs them; by default one per core.
        cache: The cache of scores of deterministic rewards; None for no cache.

    Raises:
        ConfigError: A reward refuses its parameters.
    """

    def __init__(
        self,
        config: RewardConfig,
        *,
        registry: Registry | None = None,
        step: int = 0,
        workers: int | None = None,
        cache: ScoreCache | None = None,
    ) -> None:
        self.config = config
        self.step = step
        """The training step that weights are taken from unless ``score`` is told another."""
        self._registry = registry
        self._components = Components(config, workers, cache)
        self._lock = threading.Lock()
        self._closed = False

    @property
    def is_inline(self) -> bool:
        """Whether everything runs in the calling thread."""
        return self._components.is_inline

    @property
    def timings(self) -> dict[str, float]:
        """Seconds spent by each component so far, added over threads and workers."""
        return self._components.timings

    def score(self, rollouts: Sequence[Rollout], *, step: int | None = None) -> list[ScoredRollout]:
        """Score a batch. Safe to call from several threads at once.

        Args:
            rollouts: Any number; with whole groups where ``config.needs_groups``.
            step: The training step for weight schedules.

        Returns:
            As many, in the same order.

        Raises:
            DataError: No route takes a rollout.
            TooManyUnscoredError: The policy is ``fail`` and a rollout could not be scored.
            WorkerError: Worker processes can't be started.
            UsageError: The reward has been closed.
        """
        if self._closed:
            raise UsageError("this reward has been closed; load it again to score more")
        step = self.step if step is None else step
        if len(self.config.composites) == 1 and not self.config.routes:
            composite = next(iter(self.config.composites.values()))
            scored = self._score_composite(composite, rollouts, step)
        else:
            scored = self._score_routed(rollouts, step)
        if self.config.policy == "fail":
            for item in scored:
                if item.unscored is not None:
                    raise TooManyUnscoredError(
                        f"a rollout could not be scored ({item.unscored.kind}): {item.unscored.message}; "
                        "the policy in the reward file is 'fail'"
                    )
        self._observe(scored, step)
        return scored

    def close(self) -> None:
        """End workers, threads and plugins. Scoring is over. Closing again does nothing."""
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

    def _score_routed(self, rollouts: Sequence[Rollout], step: int) -> list[ScoredRollout]:
        chosen: dict[str, list[int]] = {}
        for index, rollout in enumerate(rollouts):
            chosen.setdefault(self.config.composite_for(rollout).name, []).append(index)
        result: dict[int, ScoredRollout] = {}
        names = self.config.component_names
        for name, indices in chosen.items():
            elsewhere = Skipped(f"not part of composite {name!r}")
            for index, item in zip(
                indices,
                self._score_composite(self.config.composites[name], [rollouts[index] for index in indices], step),
                strict=True,
            ):
                result[index] = ScoredRollout(
                    item.rollout,
                    item.reward,
                    {part: item.outcomes.get(part, elsewhere) for part in names},
                    {part: item.weights.get(part, 0.0) for part in names},
                    {part: item.contributions.get(part) for part in names},
                    item.reward_id,
                    item.unscored,
                )
        return [result[index] for index in range(len(rollouts))]

    def _score_composite(self, composite: Composite, rollouts: Sequence[Rollout], step: int) -> list[ScoredRollout]:
        batch = Batch(self._components, self.config, composite, rollouts)
        batch.run()
        return batch.scored(step)

    @property
    def reward_id(self) -> str:
        """Identifies the resolved configuration and the plugins' versions."""
        return self.config.reward_id

    def _observe(self, scored: Sequence[ScoredRollout], step: int) -> None:
        if self._registry is None or not self._registry.observes_scoring:
            return
        try:
            self._registry.hook.rollouts_scored(rollouts=scored, step=step)
        # The boundary: an observer's failure is told and must not touch the scores.
        except Exception:
            logger.exception("a plugin's rollouts_scored failed")
