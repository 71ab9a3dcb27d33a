"""A run's rollout engine: started, given the trained weights before it samples, watched by the canary, and ended with the run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from rewardkit.rollout_engine import Completion, EngineSetup, Request, RolloutEngine, Sampling
from rewardkit.train.config import ModelConfig, RolloutConfig
from rewardkit.train.config.engines import ChosenEngine
from rewardkit.train.models.loading import whole_model
from rewardkit.train.models.policy import Policy, Tokens
from rewardkit.train.rollout.engines.weight_export import checkpoint_weights
from rewardkit.train.rollout.weight_sync_check import WeightSyncCheck


def setup_of(model: ModelConfig, policy: Policy, sampling: Sampling, *, longest: int, batch: int) -> EngineSetup:
    """What an engine is made for.

    Args:
        model: Where the policy was loaded from.
        policy: The trained model.
        sampling: Of the rollouts.
        longest: Most tokens of a prompt with its completion.
        batch: Most completions at once.
    """
    return EngineSetup(
        model=whole_model(model.path),  # whose weights are taken over before anything is sampled
        tokenizer=model.tokenizer or model.path,
        trust_remote_code=model.trust_remote_code,
        dtype=str(policy.lm.dtype).removeprefix("torch."),
        longest=longest,
        batch=batch,
        sampling=sampling,
        eos_ids=policy.eos_ids,
        weights=lambda: checkpoint_weights(policy.lm),
        policy=policy,
    )


class SyncedEngine:
    """An engine that takes over the weights by itself, the next time that something is sampled after they have changed."""

    def __init__(
        self,
        chosen: ChosenEngine,
        model: ModelConfig,
        rollout: RolloutConfig,
        policy: Policy,
        prompts: Sequence[Tokens],
        sampling: Sampling,
    ) -> None:
        """Start the engine.

        Args:
            chosen: Which.
            model: Where the policy was loaded from.
            rollout: The configuration's section.
            policy: The trained model.
            prompts: All that will be answered.
            sampling: How completions of rollouts are drawn.

        Raises:
            EngineError: It can't be started.
        """
        longest = max(map(len, prompts), default=1) + sampling.max_new_tokens
        setup = setup_of(model, policy, sampling, longest=longest, batch=rollout.batch)
        self.shares_weights = chosen.offer.type.shares_weights
        self.every = rollout.canary.every
        self.engine: RolloutEngine = chosen.build(setup)
        self.tolerance = self.engine.tolerance
        self.weight_sync_check = WeightSyncCheck(policy, self.engine, prompts, sampling, longest, rollout.canary.limit)
        self.syncs = 0
        self.metrics: dict[str, float] = {}
        """What the canary saw of the latest weights."""
        self.seconds_sync = 0.0
        """Spent so far on taking over weights."""
        self._is_stale = True
        self._is_asleep = False

    def sync(self) -> None:
        """The weights have changed."""
        self._is_stale = True

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[list[tuple[int, list[Completion]]]]:
        """Sample from the weights as they are now.

        Raises:
            EngineError: The engine fails or hangs, or samples from other weights than are trained.
        """
        self._refresh()
        yield from self.engine.generate(requests, sampling)

    def sleep(self) -> None:
        """Nothing will be sampled until the weights have changed."""
        self.engine.sleep()
        self._is_asleep = True
        self._is_stale = True

    def wake(self) -> None:
        """It wakes by itself when something is sampled."""

    def close(self) -> None:
        """Sampling is over."""
        self.engine.close()

    def _refresh(self) -> None:
        if not self._is_stale:
            return
        began = time.monotonic()
        if self._is_asleep:
            self.engine.wake()
            self._is_asleep = False
        self.engine.sync()
        self.metrics = {}
        if self.every and self.syncs % self.every == 0 and not (self.shares_weights and self.syncs):
            seen = self.weight_sync_check.check()
            self.metrics = {
                "weight_sync_difference": seen.mean_difference,
                "weight_sync_difference_max": seen.max_difference,
            }
        self.seconds_sync += time.monotonic() - began
        self.syncs += 1
        self._is_stale = False
