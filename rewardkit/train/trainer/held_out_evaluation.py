"""Evaluates the policy on held-out prompts during reinforcement learning, and saves the best model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from rewardkit.composite import CompositeReward
from rewardkit.config.expression import Expression
from rewardkit.rollout_engine import Sampling
from rewardkit.train.config import RlConfig
from rewardkit.train.data.tokenization import Prompt
from rewardkit.train.distributed import collectives
from rewardkit.train.evaluation.held_out import evaluate
from rewardkit.train.models.policy import Policy
from rewardkit.train.monitoring.monitors import Alarm, Monitors
from rewardkit.train.rollout.generate import Sample, refuse_unscored
from rewardkit.train.rollout.synced_engine import SyncedEngine
from rewardkit.train.trainer.run import Run


@dataclass(frozen=True, slots=True)
class HeldOutEvaluation:
    """Greedy answers to the held-out prompts, scored by the trained reward and by the held-out one."""

    config: RlConfig
    run: Run
    policy: Policy
    engine: SyncedEngine
    reward: CompositeReward
    gold: CompositeReward | None
    """A reward that is measured and not trained on."""
    condition: Expression | None
    """The condition for a correct completion."""
    prompts: Sequence[Prompt]
    sampling: Sampling
    """How completions of rollouts are drawn."""
    monitors: Monitors

    def evaluate(self, step: int) -> list[Alarm]:
        """Evaluate the policy after ``step`` steps, log the result, and save the model if it is the best so far.

        Scheduled weights of the reward are those of the last step. Otherwise the reward would seem to rise when a penalty fades.

        Returns:
            An alarm if the policy seems to exploit the reward.

        Raises:
            TooManyUnscoredError: More answers could not be scored than the reward file allows.
            EngineError: The rollout engine failed.
        """
        if not self.prompts:
            return []
        self.run.console.activity = f"evaluating {len(self.prompts):,} held-out prompts"
        last = self.config.steps
        greedy = replace(self.sampling, temperature=0.0, top_p=1.0, top_k=0)
        found = evaluate(
            self.policy, self.engine, self.reward, self.prompts, greedy, condition=self.condition, step=last
        )
        refuse_unscored(found.samples, self.reward.config.abort_above, f"the evaluation after step {step}")
        metrics = found.summary()
        alarms = self._measure_gold(found.samples, metrics)
        self.run.log(step, metrics, kind="eval")
        if metrics.get("truncated") == 1.0:
            self.run.console.message(
                f"step {step}: all {len(self.prompts):,} held-out completions are cut off at rollout.max_new_tokens "
                f"({self.config.rollout.max_new_tokens}) before they end; raise it"
            )
        # All evaluations of a run are compared by the same metric: accuracy does not replace a gold reward that could not be scored.
        value = metrics.get("accuracy", metrics["reward"]) if self.gold is None else metrics.get("gold", math.nan)
        if step > 0:
            self.run.offer_best(value, self.policy.save)
        return alarms

    def _measure_gold(self, samples: Sequence[Sample], metrics: dict[str, float]) -> list[Alarm]:
        """Add the held-out reward to the metrics, and check it for reward hacking."""
        if self.gold is None:
            return []
        own = collectives.local_shard([sample.scored.rollout for sample in samples])
        scored = collectives.all_gather(self.gold.score(own, step=self.config.steps))
        golds = [item.reward for item in scored]
        values = [value for value in golds if value is not None]
        if not values:
            return []
        metrics["gold"] = fmean(values)
        return self.monitors.watch_gold(metrics["reward"], golds)
