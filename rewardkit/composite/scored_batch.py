"""A scored batch as columns. Rows of it are made only for those who ask for rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from rewardkit.types import Outcome, Rollout, ScoredRollout, Skipped, Unscored


@dataclass(frozen=True, slots=True)
class ScoredBatch:
    """The scores of a batch, a list per column. ``rows`` returns the same as ``ScoredRollout``."""

    rollouts: Sequence[Rollout]
    rewards: list[float | None]
    """The reward of each rollout; None if it is unscored (0.0 with the policy ``zero``)."""
    unscored: Mapping[int, Unscored]
    """Why rollouts are unscored, by index."""
    outcomes: Mapping[str, list[Outcome]]
    """For each component its result for each rollout."""
    weights: Sequence[Mapping[str, float]]
    """For each rollout the weight of each component."""
    contributions: Mapping[str, list[float | None]]
    """For each component weight × scaled and clipped value; None if it has no value or the gate is false."""
    reward_id: str

    @classmethod
    def of(cls, scored: Sequence[ScoredRollout], names: Iterable[str]) -> Self:
        """Return scored rollouts as columns.

        Args:
            scored: A batch.
            names: The components.
        """
        names = list(names)
        return cls(
            [item.rollout for item in scored],
            [item.reward for item in scored],
            {index: item.unscored for index, item in enumerate(scored) if item.unscored is not None},
            {name: [item.outcomes[name] for item in scored] for name in names},
            [item.weights for item in scored],
            {name: [item.contributions[name] for item in scored] for name in names},
            scored[0].reward_id if scored else "",
        )

    @classmethod
    def merged(
        cls,
        rollouts: Sequence[Rollout],
        parts: Mapping[str, tuple[Sequence[int], ScoredBatch]],
        names: Sequence[str],
        reward_id: str,
    ) -> ScoredBatch:
        """Put the parts of a batch that several composites scored together again.

        Args:
            rollouts: The whole batch.
            parts: For each composite the indices of its rollouts, and their scores.
            names: The components of all composites. A rollout has skipped those that are not part of its own.
            reward_id: The id of the configuration.
        """
        count = len(rollouts)
        rewards: list[float | None] = [None] * count
        unscored: dict[int, Unscored] = {}
        elsewhere: list[Outcome] = [Skipped("")] * count
        outcomes = {name: elsewhere.copy() for name in names}
        weights: list[Mapping[str, float]] = [{}] * count
        contributions: dict[str, list[float | None]] = {name: [None] * count for name in names}
        for composite, (indices, part) in parts.items():
            skipped = Skipped(f"not part of composite {composite!r}")
            own = part.weights[0] if part.weights else {}
            all_weights = {name: own.get(name, 0.0) for name in names}
            for place, index in enumerate(indices):
                rewards[index] = part.rewards[place]
                weights[index] = all_weights
            unscored.update((indices[place], failure) for place, failure in part.unscored.items())
            for name in names:
                found, values = part.outcomes.get(name), part.contributions.get(name)
                for place, index in enumerate(indices):
                    outcomes[name][index] = skipped if found is None else found[place]
                    contributions[name][index] = None if values is None else values[place]
        return cls(rollouts, rewards, unscored, outcomes, weights, contributions, reward_id)

    def rows(self) -> list[ScoredRollout]:
        """Return a scored rollout for each rollout."""
        names, unscored, reward_id = list(self.outcomes), self.unscored, self.reward_id
        parts = zip(
            self.rollouts,
            self.rewards,
            zip(*self.outcomes.values(), strict=True),
            self.weights,
            zip(*self.contributions.values(), strict=True),
            strict=True,
        )
        return [
            ScoredRollout(
                rollout,
                reward,
                dict(zip(names, outcomes, strict=True)),
                weights,
                dict(zip(names, values, strict=True)),
                reward_id,
                unscored.get(index),
            )
            for index, (rollout, reward, outcomes, weights, values) in enumerate(parts)
        ]
