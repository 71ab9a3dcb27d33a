"""Attacks a reward with cheats, and compares what they get with what honest completions get."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING

from rewardkit.cheat import Cheat, CheatInput
from rewardkit.insight.audit.kinks import lengths_of
from rewardkit.insight.audit.rows import HonestRow, Levels, cheat_inputs, component_levels
from rewardkit.insight.cheats.making import is_reference
from rewardkit.types import Rollout, Score, ScoredRollout

if TYPE_CHECKING:
    from rewardkit.composite import CompositeReward

PILOT_ROWS = 100
"""All cheats are tried on this many rows. On the other rows only those are tried that did best on these."""
SURVIVORS = 8
"""The cheats that are tried on all rows even if none was accepted in the pilot; as many more for each component."""
BATCH_ROLLOUTS = 4096
LONGEST_ANSWER = 100
"""Longer completions are no bare answer."""
COMPANIONS = 7
"""The most honest completions that a completion of a cheat is compared with, if the reward compares the rollouts of a group."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one cheat got."""

    cheat: Cheat
    rows: int
    """The number of rows that it was tried on."""
    accepted: int
    """The number of rows on which it got at least the threshold."""
    mean_best: float
    """The mean over rows of its reward: the best of its completions, or the worst if all are needed."""
    unscored: int
    """The number of its completions that could not be scored."""
    example: str
    """The completion with the highest reward."""
    example_reward: float
    reasons: Mapping[str, str]
    """The value and reason of each component for that completion."""
    example_row: int = 0
    """The row of that completion, counted from 0."""

    @property
    def share(self) -> float:
        """The share of rows on which the cheat was accepted."""
        return self.accepted / self.rows


@dataclass(frozen=True, slots=True)
class ComponentFinding:
    """The best cheats for one component."""

    name: str
    levels: Levels | None
    """What the component gives to right and to wrong completions; None if the file does not tell."""
    best: tuple[Finding, ...]
    """The cheats with the highest mean value of this component. Their rewards are the values of the component."""


@dataclass(slots=True)
class RowBest:
    """The best cheat of one row."""

    cheat: str
    reward: float
    completion: str
    components: dict[str, tuple[str, float]] = field(default_factory=dict)
    """The best cheat of each component, with its value."""


@dataclass(frozen=True, slots=True)
class Attack:
    """What an attack found."""

    findings: list[Finding]
    """One for each cheat that applied to a row, the most successful first."""
    components: list[ComponentFinding]
    rows: dict[int, RowBest]
    """The best cheat of each row, by the place of the row."""
    completions: int
    """The number of completions that were scored."""


@dataclass(slots=True)
class _Tally:
    """Sums over the rows of one cheat, for the reward or for one component."""

    values: list[float] = field(default_factory=list)
    accepted: int = 0
    unscored: int = 0
    best: tuple[float, int, ScoredRollout] | None = None

    def add(self, value: float, is_accepted: bool, place: int, example: ScoredRollout, shown: float) -> None:
        """Add a row: its value, and the completion to show with its own value."""
        self.values.append(value)
        self.accepted += is_accepted
        if self.best is None or shown > self.best[0]:
            self.best = (shown, place, example)

    def finding(self, cheat: Cheat) -> Finding | None:
        """Return what the cheat got; None if nothing could be scored."""
        if self.best is None:
            return None
        shown, place, one = self.best
        return Finding(
            cheat, len(self.values), self.accepted, fmean(self.values), self.unscored,
            one.rollout.completion_text, shown, reasons_of(one), place,
        )  # fmt: skip


def audit(reward: CompositeReward, cheats: Sequence[Cheat], rows: Sequence[HonestRow], levels: Levels) -> list[Finding]:
    """Score the completions of every cheat.

    Args:
        reward: The reward.
        cheats: The cheats.
        rows: The rows, with their honest completions.
        levels: What honest completions get.

    Returns:
        What each cheat got, the most successful one first. Cheats that apply to no row are left out.
    """
    return attack(reward, cheats, rows, levels).findings


def attack(
    reward: CompositeReward,
    cheats: Sequence[Cheat],
    rows: Sequence[HonestRow],
    levels: Levels,
    progress: Progress = lambda _done, _all: None,
) -> Attack:
    """Score the completions of every cheat, by the reward and by each of its components.

    Args:
        reward: The reward.
        cheats: The cheats.
        rows: The rows, with their honest completions.
        levels: What honest completions get.
        progress: Called with the number of finished rows and of all rows.
    """
    return Attacker(reward, cheats, rows, levels).run(progress)


class Attacker:
    """Tries cheats on rows, and keeps what each of them got.

    Arguments as for ``attack``.
    """

    def __init__(
        self, reward: CompositeReward, cheats: Sequence[Cheat], rows: Sequence[HonestRow], levels: Levels
    ) -> None:
        self._reward = reward
        self._grouped = reward.config.needs_groups
        self._cheats = [cheat for cheat in cheats if self._grouped or not cheat.as_group]
        self._rows = rows
        self._levels = levels
        self._component_levels = component_levels(rows, levels)
        config = reward.config
        self.inputs: list[CheatInput] = cheat_inputs(
            rows, levels, config.requirements.columns, lengths_of(config.resolved)
        )
        """What cheats may use of each row."""
        self._tallies: dict[int, _Tally] = {}
        self._parts: dict[str, dict[int, _Tally]] = {}
        self._best: dict[int, RowBest] = {}
        self._completions = 0
        self._done = 0

    def run(self, progress: Progress) -> Attack:
        """Try the cheats. With many rows, a part of the rows decides which cheats are tried on the others."""
        step = max(1, len(self._rows) // PILOT_ROWS)
        pilot = list(range(0, len(self._rows), step))[:PILOT_ROWS]
        self._try(range(len(self._cheats)), pilot, progress)
        if rest := sorted(set(range(len(self._rows))) - set(pilot)):
            self._try(self._survivors(), rest, progress)
        return self._result()

    def _try(self, chosen: Sequence[int], places: Sequence[int], progress: Progress) -> None:
        for batch in self._batches(places, chosen):
            self._score(batch)
            self._done += len({place for _, place, _ in batch})
            progress(min(self._done, len(self._rows)), len(self._rows))

    def _survivors(self) -> list[int]:
        """Return the cheats that got most in the pilot, for the reward and for each component."""
        chosen = {index for index, tally in self._tallies.items() if tally.accepted}
        for tallies in (self._tallies, *self._parts.values()):
            known = [index for index, tally in tallies.items() if tally.values]
            chosen |= {*sorted(known, key=lambda index: -fmean(tallies[index].values))[:SURVIVORS]}
        return sorted(chosen)

    def _batches(self, places: Iterable[int], chosen: Sequence[int]) -> Iterator[list[tuple[int, int, list[str]]]]:
        """Yield cheats with their completions of whole rows: (cheat, row, completions)."""
        batch: list[tuple[int, int, list[str]]] = []
        count = 0
        for place in places:
            for index in chosen:
                cheat = self._cheats[index]
                made = cheat.make(self.inputs[place])
                texts = list(made) if cheat.as_group else [*filter(self._is_wrong(place), dict.fromkeys(made))]
                if texts:
                    batch.append((index, place, texts))
                    count += len(texts)
            if count >= BATCH_ROLLOUTS:
                yield batch
                batch, count = [], 0
        if batch:
            yield batch

    def _is_wrong(self, place: int) -> Callable[[str], bool]:
        """Return what tells whether a completion of a row is not just its reference, as a refusal is where "no" is right."""
        row = self.inputs[place]
        return lambda text: len(text) > LONGEST_ANSWER or not is_reference(text.strip(" .!"), row)

    def _score(self, batch: Sequence[tuple[int, int, list[str]]]) -> None:
        rollouts: list[Rollout] = []
        kept: list[list[int]] = []
        for index, place, texts in batch:
            own = []
            for number, text in enumerate(texts):
                is_alone = self._grouped and not self._cheats[index].as_group
                group = f"audit-{place}-{index}-{number}" if is_alone else f"audit-{place}-{index}"
                own.append(len(rollouts))
                rollouts.append(rollout_of(self._rows[place], text, group))
                if is_alone:
                    honest = self._rows[place].completions[:COMPANIONS]
                    rollouts += [rollout_of(self._rows[place], other, group) for other, _ in honest]
            kept.append(own)
        scored = self._reward.score(rollouts)
        self._completions += sum(map(len, kept))
        for (index, place, _), own in zip(batch, kept, strict=True):
            self._add(index, place, [scored[at] for at in own])

    def _add(self, index: int, place: int, ones: Sequence[ScoredRollout]) -> None:
        cheat = self._cheats[index]
        tally = self._tallies.setdefault(index, _Tally())
        known = [one for one in ones if one.reward is not None]
        tally.unscored += len(ones) - len(known)
        if not known:
            return
        rewards = [one.reward or 0.0 for one in known]
        value, at = _row_value(cheat, rewards)
        tally.add(value, value >= self._levels.threshold, place, known[at], rewards[at])
        best = self._best.get(place)
        if best is None or value > best.reward:
            parts = {} if best is None else best.components
            self._best[place] = best = RowBest(cheat.name, value, known[at].rollout.completion_text, parts)
        for name in known[0].outcomes:
            found = [(outcome.value, one) for one in known if isinstance(outcome := one.outcomes[name], Score)]
            if found:
                values = [number for number, _ in found]
                value, at = _row_value(cheat, values)
                part = self._parts.setdefault(name, {}).setdefault(index, _Tally())
                levels = self._component_levels.get(name)
                is_accepted = levels is not None and levels.separates and value >= levels.threshold
                part.add(value, is_accepted, place, found[at][1], values[at])
                if name not in best.components or value > best.components[name][1]:
                    best.components[name] = (cheat.name, value)

    def _result(self) -> Attack:
        findings = self._findings(self._tallies)
        names = dict.fromkeys((*self._reward.config.component_names, *self._parts))
        components = [
            ComponentFinding(name, self._component_levels.get(name), tuple(self._findings(self._parts[name])[:5]))
            for name in names
            if name in self._parts
        ]
        return Attack(findings, components, dict(sorted(self._best.items())), self._completions)

    def _findings(self, tallies: Mapping[int, _Tally]) -> list[Finding]:
        found = [tally.finding(self._cheats[index]) for index, tally in sorted(tallies.items())]
        return sorted((one for one in found if one), key=lambda one: (-one.share, -one.mean_best))


def _row_value(cheat: Cheat, values: Sequence[float]) -> tuple[float, int]:
    """Return what a cheat gets on a row, and which of its completions shows that."""
    if cheat.as_group:
        return fmean(values), values.index(max(values))
    wanted = min(values) if cheat.all_needed else max(values)
    return wanted, values.index(wanted)


def rollout_of(row: HonestRow, text: str, group: str) -> Rollout:
    """Return a completion as a rollout of a row. Its number of tokens is estimated from the honest completions."""
    tokens = None if row.tokens_per_character is None else round(len(text) * row.tokens_per_character)
    completion = text if isinstance(row.prompt, str) else [{"role": "assistant", "content": text}]
    return Rollout(row.prompt, completion, row.fields, group, tokens, "stop")


def reasons_of(one: ScoredRollout) -> dict[str, str]:
    """Return the value and reason of each component."""
    return {
        name: f"{outcome.value:g} {outcome.reason or ''}".strip()
        for name, outcome in one.outcomes.items()
        if isinstance(outcome, Score)
    }
