"""The common parts of the adapters: one reward per process, rollouts from other systems' values, and refusals of unsuitable rewards."""

from __future__ import annotations

import functools
import inspect
import math
import os
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rewardkit.composite import CompositeReward, load_reward
from rewardkit.config.paths import add_field_paths
from rewardkit.errors import DataError, RewardkitError, TooManyUnscoredError, UsageError
from rewardkit.types import RETRYABLE, Rollout, Score, ScoredRollout, Unscored

MAX_PAUSE_S = 10.0
MIN_ROWS_TO_ABORT = 200
"""Below this many rollouts the share of unscored ones says too little to end a run."""

_loaded: dict[Path, CompositeReward] = {}
_lock = threading.Lock()
# A child may be forked while another thread of its parent holds the lock.
os.register_at_fork(after_in_child=lambda: globals().update(_lock=threading.Lock()))


class NotScoredError(RewardkitError):
    """A rollout could not be scored, and the system that asked has no value for that."""

    def __init__(self, unscored: Unscored) -> None:
        self.unscored = unscored
        super().__init__(f"not scored ({unscored.kind}): {unscored.message}")


def shared_reward(file: str | Path) -> CompositeReward:
    """Return the reward of a file, loaded once per process. It survives a fork.

    Raises:
        ConfigError: The reward file is wrong.
    """
    path = Path(file).resolve()
    with _lock:
        if path not in _loaded:
            _loaded[path] = load_reward(path)
        return _loaded[path]


def score_patiently(file: str | Path, rollouts: Sequence[Rollout], retry_for_s: float) -> list[ScoredRollout]:
    """Score rollouts, and those again that a service or a time-out left unscored.

    Args:
        file: The reward file.
        rollouts: The rollouts.
        retry_for_s: Seconds after which no further try begins.
    """
    end, pause_s = time.monotonic() + retry_for_s, 0.5
    scored = shared_reward(file).score(list(rollouts))
    while again := [number for number, item in enumerate(scored) if item.unscored and item.unscored.kind in RETRYABLE]:
        if time.monotonic() + pause_s > end:
            break
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, MAX_PAUSE_S)
        fresh = shared_reward(file).score([rollouts[number] for number in again])
        for number, item in zip(again, fresh, strict=True):
            scored[number] = item
    return scored


def reward_or_raise(item: ScoredRollout) -> float:
    """Return a rollout's reward.

    Args:
        item: The scored rollout.

    Raises:
        NotScoredError: It has none.
    """
    if item.reward is None:
        raise NotScoredError(item.unscored or Unscored("input", "no component speaks of this row"))
    return item.reward


def file_from_environment() -> str:
    """Return the reward file that ``REWARDKIT_REWARD`` names.

    Raises:
        UsageError: The variable is not set.
    """
    if file := os.environ.get("REWARDKIT_REWARD"):
        return file
    raise UsageError("set the environment variable REWARDKIT_REWARD to the path of the reward file")


def refuse_groups(reward: CompositeReward, system: str) -> None:
    """Refuse a reward that compares the rollouts of a group.

    Args:
        reward: The reward.
        system: What scores one rollout at a time, for the message.

    Raises:
        UsageError: The reward compares the rollouts of a group.
    """
    if reward.config.needs_groups:
        raise UsageError(
            f"{reward.config.file} compares the rollouts of a group, and {system} scores one rollout at a time: remove "
            "group-relative components, 'scale: zscore', 'scale: minmax' and 'combine: normalized_sum'"
        )


def refuse_schedules(reward: CompositeReward, system: str) -> None:
    """Refuse a reward whose weights depend on the training step.

    Args:
        reward: The reward.
        system: What does not tell the step, for the message.

    Raises:
        UsageError: A weight has a schedule.
    """
    parts = [part for composite in reward.config.composites.values() for part in composite.components]
    if names := [part.name for part in parts if len(part.weight.points) > 1]:
        raise UsageError(
            f"{reward.config.file}: the weight of {', '.join(names)} depends on the training step, which {system} does not tell; "
            "give it a constant weight"
        )


def refuse_tokens(reward: CompositeReward, system: str) -> None:
    """Refuse a reward that reads the number of tokens.

    Args:
        reward: The reward.
        system: What does not tell the number of tokens, for the message.

    Raises:
        UsageError: A component, its condition or the gate reads ``num_tokens``.
    """
    if names := reward.requirements.tokens:
        raise UsageError(
            f"{reward.config.file}: {', '.join(names)} needs the number of tokens, which {system} does not tell; "
            "measure characters instead, or remove the component"
        )


def refuse_finish_reason(reward: CompositeReward, system: str) -> None:
    """Refuse a reward that reads whether a completion was truncated.

    Args:
        reward: The reward.
        system: What does not tell the finish reason, for the message.

    Raises:
        UsageError: A component, its condition or the gate reads ``finish_reason``.
    """
    if names := reward.requirements.finish_reason:
        raise UsageError(
            f"{reward.config.file}: {', '.join(names)} needs the finish reason, which {system} does not tell; remove the component "
            "or the condition"
        )


def refuse_unknown(reward: CompositeReward, system: str, tokenizer: Any = None) -> None:
    """Refuse a reward that needs the finish reason, or the number of tokens if there is no tokenizer to count them.

    Args:
        reward: The reward.
        system: What tells neither, for the message.
        tokenizer: What counts tokens, or None.

    Raises:
        UsageError: The reward needs what is unknown.
    """
    refuse_finish_reason(reward, system)
    if tokenizer is None:
        refuse_tokens(reward, system)


def refuse_unlimited(reward: CompositeReward, limit: int | None, setting: str) -> None:
    """Refuse a reward that needs the finish reason where it is told by a limit of tokens that is not set.

    Args:
        reward: The reward.
        limit: The most tokens of a completion, or None.
        setting: The setting of that limit, for the message.

    Raises:
        UsageError: The reward reads the finish reason, and there is no limit.
    """
    if limit is None and (readers := reward.requirements.finish_reason):
        raise UsageError(
            f"{', '.join(readers)} reads the finish reason, which is inferred from the length of a response: set {setting}"
        )


def token_counter(tokenizer: Any) -> Callable[[str], int]:
    """Return a function that counts the tokens of a text, for systems that do not tell their number.

    Args:
        tokenizer: The name or folder of a tokenizer of transformers, a tokenizer with a method ``encode``, or a function of a text that
            returns its tokens or their number.

    Raises:
        UsageError: It is none of these, or the tokenizer can't be loaded.
    """
    if isinstance(tokenizer, str | os.PathLike):
        try:
            from transformers import AutoTokenizer
        except ImportError:
            raise UsageError(f"tokenizer={str(tokenizer)!r} needs transformers: pip install transformers") from None
        try:
            tokenizer = AutoTokenizer.from_pretrained(os.fspath(tokenizer))
        except (OSError, ValueError) as error:
            raise UsageError(f"tokenizer={tokenizer!r} can't be loaded: {error}") from error
    if callable(encode := getattr(tokenizer, "encode", None)):
        if "add_special_tokens" in inspect.signature(encode).parameters:
            encode = functools.partial(encode, add_special_tokens=False)
    elif callable(tokenizer):
        encode = tokenizer
    else:
        raise UsageError(f"tokenizer must be a name, a folder, a tokenizer or a function, not {tokenizer!r}")

    def count(text: str) -> int:
        found = encode(text)
        return found if isinstance(found, int) else len(found)

    return count


def refuse_missing(reward: CompositeReward, fields: Mapping[str, Any], system: str) -> None:
    """Refuse rows that lack a column that the reward reads.

    Raises:
        DataError: A column is missing; names the columns that are there.
    """
    composite_fields = {name for name in reward.config.needed_fields() if "." not in name}
    if len(reward.config.composites) == 1 and (missing := sorted(composite_fields - fields.keys())):
        columns = ", ".join(map(repr, missing))
        raise DataError(
            f"{system} has no column {columns}, which {Path(reward.config.file).name} reads; "
            f"it has {', '.join(map(repr, fields)) or 'none'}"
        )


def plain(value: Any) -> Any:
    """Return a value of pandas, numpy or pyarrow as Python's own; missing values (NaN, NaT, NA) become None."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else float(value)
    if type(value).__name__ in {"NAType", "NaTType"}:
        return None
    return plain(value.tolist()) if hasattr(value, "tolist") else value


def row_fields(
    reward: CompositeReward, label: Any, column: str | None, system: str, others: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return a row's fields from its label, which is an object with several columns or the value of one.

    Args:
        reward: The reward that reads the row.
        label: The label.
        column: The column that a plain label stands for; None: the only one that the reward reads, else the only one that the others
            lack.
        system: What the row comes from, for messages.
        others: Further columns.

    Raises:
        DataError: A column that the reward reads is missing.
        UsageError: The label is plain, the reward reads several columns, not just one is missing, and ``column`` is None.
    """
    fields, label = dict(plain(others or {})), plain(label)
    if isinstance(label, dict):
        fields |= label
    elif column is not None:
        fields[column] = label
    else:
        missing = reward.config.needed_fields().keys() - fields.keys()
        # Not where another column of that name is, such as the solution as text beside the number that it ends with.
        fields[missing.pop() if len(missing) == 1 else label_column(reward)] = label
    refuse_missing(reward, fields, system)
    add_field_paths(fields, reward.config.field_paths)
    return fields


def fields_of(label: Any, column: str) -> dict[str, Any]:
    """Return a row's fields from a label: an object is the fields, anything else the value of one column."""
    label = plain(label)
    return label if isinstance(label, dict) else {column: label}


def label_column(reward: CompositeReward, column: str | None = None) -> str:
    """Return the column that a system's one label stands for: the one given, or the only one that the reward reads.

    Raises:
        UsageError: None is given and the reward reads several.
    """
    needed = sorted(reward.config.needed_fields())
    if column is None and len(needed) > 1:
        raise UsageError(
            f"{reward.config.file} reads the columns {', '.join(needed)}: send an object with all of them as the label, "
            "and name one column that a plain label stands for"
        )
    return column or (needed[0] if needed else "answer")


_END_TOKENS = re.compile(
    r"(?:\s*(?:<\|[A-Za-z0-9_ ]{1,40}\|>|</?s>|<(?:bos|eos|pad|end_of_turn|start_of_turn)>))+\s*\Z"
)
_START_TOKENS = re.compile(r"(?:\s*(?:<\|[A-Za-z0-9_ ]{1,40}\|>|<s>|<bos>|<pad>))*\s*\Z")


def completion_of(query: str, prompt: str) -> str:
    """Return the completion in a prompt and completion that were decoded together with their special tokens.

    Raises:
        DataError: The query does not begin with its prompt, so that prompt and completion can't be told apart.
    """
    start = query.find(prompt)
    if start < 0 or not _START_TOKENS.match(query[:start]):
        raise DataError(f"the query {query[:60]!r} does not begin with its prompt {prompt[:60]!r}")
    return _END_TOKENS.sub("", query[start + len(prompt) :])


def component_value(item: ScoredRollout, name: str) -> float | None:
    """Return the value of a component; None if it was skipped, does not apply or is unscored."""
    outcome = item.outcomes[name]
    return outcome.value if isinstance(outcome, Score) else None


def log_components(
    scored: Sequence[ScoredRollout],
    log_extra: Callable[[str, list[Any]], None] | None,
    log_metric: Callable[[str, float], None] | None,
) -> None:
    """Log every component, and the share of rollouts without a score.

    Args:
        scored: A batch.
        log_extra: Takes a component's name and its values.
        log_metric: Takes the name and the value of a mean.
    """
    for name in scored[0].outcomes if scored else ():
        values = [component_value(item, name) for item in scored]
        if log_extra is not None:
            log_extra(name, values)
        present = [value for value in values if value is not None]
        if log_metric is not None and present:
            log_metric(f"rewardkit/{name}", math.fsum(present) / len(present))
    if log_metric is not None and scored:
        log_metric("rewardkit/unscored", sum(item.unscored is not None for item in scored) / len(scored))


class UnscoredShare:
    """The share of a run's rollouts that could not be scored; ends a run that exceeds the reward file's ``abort_above``."""

    def __init__(self) -> None:
        self._rows = self._unscored = 0

    def add(self, scored: Sequence[ScoredRollout], reward: CompositeReward) -> None:
        """Count a batch.

        Raises:
            TooManyUnscoredError: More rollouts than the reward file allows could not be scored.
        """
        failures = [item.unscored for item in scored if item.unscored is not None]
        self._rows += len(scored)
        self._unscored += len(failures)
        share, most = self._unscored / max(self._rows, 1), reward.config.abort_above
        if failures and self._rows >= MIN_ROWS_TO_ABORT and share > most:
            raise TooManyUnscoredError(
                f"{share:.0%} of {self._rows:,} rollouts could not be scored ({Path(reward.config.file).name} allows {most:.0%}); "
                f"the last: {failures[-1].kind}: {failures[-1].message}"
            )


def require(distribution: str, oldest: tuple[int, ...], why: str) -> None:
    """Refuse to run with a distribution that is missing or too old.

    Args:
        distribution: Its name.
        oldest: The first version that works.
        why: What earlier versions do.

    Raises:
        UsageError: It is missing or too old.
    """
    from importlib.metadata import PackageNotFoundError, version

    needed = f"pip install '{distribution}>={'.'.join(map(str, oldest))}'"
    try:
        found = version(distribution)
    except PackageNotFoundError:
        raise UsageError(f"{distribution} is not installed: {needed}") from None
    if tuple(int(part) for part in re.findall(r"\d+", found)[: len(oldest)]) < oldest:
        raise UsageError(f"{distribution} {found} {why}: {needed}")
