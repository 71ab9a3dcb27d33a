"""The rollout engine of a run: takes over the trained weights before it samples, and checks that it did."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from rewardkit.rollout_engine import Completion, EngineSetup, Request, RolloutEngine, Sampling
from rewardkit.train.config import ModelConfig, RolloutConfig
from rewardkit.train.config.engines import ChosenEngine
from rewardkit.train.models.loading import base_model
from rewardkit.train.models.policy import Policy, Tokens
from rewardkit.train.rollout.engines.weight_export import checkpoint_weights
from rewardkit.train.rollout.weight_sync_check import WeightSyncCheck


def setup_of(model: ModelConfig, policy: Policy, sampling: Sampling, *, longest: int, batch: int) -> EngineSetup:
    """Return what an engine needs to know to start.

    Args:
        model: The configuration of the model that the policy was loaded from.
        policy: The trained model.
        sampling: How completions of rollouts are drawn.
        longest: Largest number of tokens of a prompt with its completion.
        batch: Largest number of completions at once.
    """
    return EngineSetup(
        model=base_model(model.path),  # its weights are replaced before anything is sampled
        tokenizer=model.tokenizer or model.path,
        trust_remote_code=model.trust_remote_code,
        dtype=str(policy.compute_dtype).removeprefix("torch."),
        longest=longest,
        batch=batch,
        sampling=sampling,
        eos_ids=policy.eos_ids,
        weights=lambda: checkpoint_weights(policy.lm, policy.compute_dtype),
        policy=policy,
    )


class SyncedEngine:
    """A rollout engine that takes over changed weights by itself, when it samples the next time."""

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
            chosen: The configured engine.
            model: The configuration of the model that the policy was loaded from.
            rollout: The section ``rollout``.
            policy: The trained model.
            prompts: All prompts of the run.
            sampling: How completions of rollouts are drawn.

        Raises:
            EngineError: The engine can't be started.
        """
        longest = max(map(len, prompts), default=1) + sampling.max_new_tokens
        setup = setup_of(model, policy, sampling, longest=longest, batch=rollout.batch)
        self.shares_weights = chosen.offer.type.shares_weights
        self.every = rollout.weight_sync_check.every
        self.engine: RolloutEngine = chosen.build(setup)
        self.tolerance = self.engine.tolerance
        self.weight_sync_check = WeightSyncCheck(
            policy, self.engine, prompts, sampling, longest, rollout.weight_sync_check.limit
        )
        self.syncs = 0
        self.metrics: dict[str, float] = {}
        """The result of the latest weight sync check."""
        self.seconds_sync = 0.0
        """Total time spent on weight syncs, in seconds."""
        self._is_stale = True
        self._is_asleep = False

    def sync(self) -> None:
        """Tell the engine that the weights have changed."""
        self._is_stale = True

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[list[tuple[int, list[Completion]]]]:
        """Sample from the current weights.

        Args:
            requests: The prompts, and the seeds of their completions.
            sampling: How completions are drawn.

        Yields:
            Indices of requests with their completions, as soon as they are finished.

        Raises:
            EngineError: The engine failed, or does not sample from the trained weights.
        """
        self._refresh()
        yield from self.engine.generate(requests, sampling)

    def sleep(self) -> None:
        """Release memory until the weights have changed."""
        self.engine.sleep()
        self._is_asleep = True
        self._is_stale = True

    def wake(self) -> None:
        """Do nothing: the engine wakes when something is sampled."""

    def close(self) -> None:
        """End the engine."""
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
            found = self.weight_sync_check.check()
            self.metrics = {
                "weight_sync_difference": found.mean_difference,
                "weight_sync_difference_max": found.max_difference,
            }
        self.seconds_sync += time.monotonic() - began
        self.syncs += 1
        self._is_stale = False
