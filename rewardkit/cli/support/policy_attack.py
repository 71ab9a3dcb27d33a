"""Trains a policy against a reward for ``rewardkit audit --policy``, and keeps what it sampled."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from rewardkit.errors import UsageError
from rewardkit.hookspecs import hookimpl
from rewardkit.types import ScoredRollout

if TYPE_CHECKING:
    from rewardkit.insight.audit.clusters import Sampled
    from rewardkit.insight.audit.report import Policy
    from rewardkit.registry import Registry
    from rewardkit.train.config.training_file import TrainFile

SHARE_OF_STEPS = 5
"""The first and the last fifth of the steps are compared."""


class SampleCollector:
    """A plugin that keeps the rollouts of each training step."""

    def __init__(self) -> None:
        self.steps: dict[int, list[ScoredRollout]] = {}

    @hookimpl
    def training_step_finished(
        self, step: int, metrics: Mapping[str, float], rollouts: Sequence[ScoredRollout]
    ) -> None:
        """Keep the rollouts of a step."""
        del metrics
        self.steps[step] = list(rollouts)


class PolicyAttack:
    """A GRPO run of the user's configuration, with the audited reward in place of its own.

    Args:
        config: The training configuration.
        reward: The reward file.
        registry: The plugins.
        steps: The number of steps; None for that of the configuration.
        folder: The output folder; None for a temporary one.

    Raises:
        ConfigError: The configuration is wrong.
        UsageError: Its stage is not grpo.
    """

    def __init__(self, config: Path, reward: Path, registry: Registry, steps: int | None, folder: Path | None) -> None:
        from rewardkit.config.yaml import read_yaml
        from rewardkit.train.config.reading import read_train_config, stage_of

        self._collector = SampleCollector()
        registry.register(self._collector)
        self._registry = registry
        self._config = config
        self._given = folder
        self._overrides = {"reward": _yaml(reward.resolve())} | ({} if steps is None else {"steps": str(steps)})
        if (
            stage := stage_of(read_yaml(config))
        ) != "grpo":  # first, since other stages have no key `reward` to replace
            raise UsageError(f"{config}: --policy trains with stage: grpo, not {stage}")
        read_train_config(config, registry, self._overrides)

    def run(self) -> Policy:
        """Train, and return what the policy found. Raises as ``rewardkit.train.train``."""
        from rewardkit.cli.support.loading import exit_on_interrupt
        from rewardkit.insight.audit.clusters import clusters_of
        from rewardkit.insight.audit.report import Policy
        from rewardkit.train import train
        from rewardkit.train.config.reading import read_train_config
        from rewardkit.train.config.stages import import_heavy

        with exit_on_interrupt():
            import_heavy()
        holder: AbstractContextManager[str] = (
            tempfile.TemporaryDirectory(prefix="rewardkit-audit-") if self._given is None else nullcontext("")
        )
        with holder as temporary:
            folder = self._given.resolve() if self._given is not None else Path(temporary) / "policy"
            overrides = {**self._overrides, "output": _yaml(folder)}
            file: TrainFile = read_train_config(self._config, self._registry, overrides)
            train(file, fresh=True, registry=self._registry)
        steps = sorted(self._collector.steps)
        part = max(1, len(steps) // SHARE_OF_STEPS)
        early, late = self._sampled(steps[:part]), self._sampled(steps[-part:])
        shown = str(folder) if self._given is not None else "a temporary folder, removed"
        return Policy(shown, len(steps), _mean(early), _mean(late), tuple(clusters_of(early, late)))

    def _sampled(self, steps: Sequence[int]) -> list[Sampled]:
        from rewardkit.insight.audit.clusters import Sampled

        return [
            Sampled(step, one.rollout.prompt_text, one.rollout.completion_text, one.reward, one.rollout.fields)
            for step in steps
            for one in self._collector.steps[step]
        ]


def _mean(sampled: Sequence[Sampled]) -> float | None:
    rewards = [one.reward for one in sampled if one.reward is not None]
    return fmean(rewards) if rewards else None


def _yaml(path: Path) -> str:
    import orjson

    return orjson.dumps(str(path)).decode()
