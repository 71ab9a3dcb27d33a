"""Reading what ``rewardkit score`` wrote, column by column: numbers for all rows, texts only for the rows that are shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewardkit.errors import DataError
from rewardkit.insight.scored_batches import read_batches
from rewardkit.scoring.formats.decode import group_of_row, write_row


@dataclass(frozen=True, slots=True)
class ScoredFile:
    """The numbers of a scored file, N rows."""

    path: Path
    reward_id: str
    rewards_N: NDArray[np.float64]
    """The composite reward; NaN where the row is unscored."""
    components_N: Mapping[str, NDArray[np.float64]]
    """The value of each component; NaN where it was skipped, does not apply or could not be scored."""
    groups_N: NDArray[np.int64]
    """The index of each row's group, counted from 0 by first appearance."""
    rows_N: NDArray[np.int64]
    """A hash of each row's prompt and completion, equal in all files read by one process."""
    contributions_N: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """The contribution of each component to the reward: weight × scaled value; NaN if it has none."""
    lengths_N: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """The length of each completion: its tokens where all rows have ``num_tokens``, else its characters."""
    length_unit: str = "characters"
    statuses: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """By component: how many rows have each status; unscored ones by kind, as in ``unscored (infra)``."""


def read_scored_file(path: Path, *, details: bool = False) -> ScoredFile:
    """Read the numbers of a Parquet or JSON Lines file that ``rewardkit score`` wrote.

    Args:
        path: The file; JSON Lines may be compressed (gzip, zstd, bz2).
        details: Read contributions, lengths and statuses, too.

    Raises:
        DataError: The file can't be read, or a row is not one that ``rewardkit score`` writes; names the row.
    """
    rewards: list[NDArray[np.float64]] = []
    tokens: list[NDArray[np.float64]] = []
    characters: list[NDArray[np.float64]] = []
    contributions: dict[str, list[NDArray[np.float64]]] = {}
    statuses: dict[str, Counter[str]] = {}
    groups: list[NDArray[np.int64]] = []
    rows: list[NDArray[np.int64]] = []
    components: dict[str, list[NDArray[np.float64]]] = {}
    known: dict[Any, int] = {}
    reward_id, done = "", 0
    columns = (
        "prompt",
        "completion",
        "group",
        "reward",
        "reward_id",
        "components",
        *(("num_tokens",) if details else ()),
    )
    parts_read = ("value", "contribution", "status", "kind") if details else ("value",)
    for batch in read_batches(path, columns, parts_read):
        count = len(batch["reward"])
        reward_id = reward_id or next((str(value) for value in batch["reward_id"] if value), "")
        rewards.append(_floats(batch["reward"]))
        names = list(components)
        for values in batch["components"]:
            names += [name for name in values or {} if name not in components and name not in names]
        for name in names:
            parts = [(values or {}).get(name) or {} for values in batch["components"]]
            for key, store in (("value", components), ("contribution", contributions))[: 1 + details]:
                column = _floats([part.get(key) for part in parts])
                store.setdefault(name, [np.full(done, np.nan)] if done else []).append(column)
            if details:
                statuses.setdefault(name, Counter()).update(_status(part) for part in parts)
        if details:
            tokens.append(_floats(batch["num_tokens"]))
            characters.append(np.array([_length(completion) for completion in batch["completion"]], dtype=np.float64))
        keys = [_key(group, prompt) for group, prompt in zip(batch["group"], batch["prompt"], strict=True)]
        groups.append(np.fromiter((known.setdefault(key, len(known)) for key in keys), np.int64, count))
        texts = zip(batch["prompt"], batch["completion"], strict=True)
        rows.append(np.fromiter((hash(_bytes(pair)) for pair in texts), np.int64, count))
        done += count
    if not done:
        raise DataError(f"{path} has no rows")
    has_tokens = details and not any(np.isnan(part).any() for part in tokens)
    return ScoredFile(
        path=path,
        reward_id=reward_id,
        rewards_N=np.concatenate(rewards),
        components_N={name: np.concatenate(parts) for name, parts in components.items()},
        groups_N=np.concatenate(groups),
        rows_N=np.concatenate(rows),
        contributions_N={name: np.concatenate(parts) for name, parts in contributions.items()},
        lengths_N=np.concatenate(tokens if has_tokens else characters or [np.zeros(0)]),
        length_unit="tokens" if has_tokens else "characters",
        statuses=statuses,
    )


def read_rows(path: Path, indices: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Read whole rows of a scored file by their indices, counted from 0. Raises DataError."""
    wanted, found, start = sorted(set(indices)), dict[int, dict[str, Any]](), 0
    for batch in read_batches(path, None):
        count = len(next(iter(batch.values()), ()))
        for index in wanted:
            if start <= index < start + count:
                found[index] = {name: values[index - start] for name, values in batch.items()}
        start += count
        if len(found) == len(wanted):
            break
    return found


def _key(group: Any, prompt: Any) -> Any:
    """Return what rows of one group share: the column ``group``, or the prompt where there is none."""
    if (group := group_of_row(group)) is not None:
        return type(group).__name__, group
    return prompt if isinstance(prompt, str) else _bytes(prompt)


def _bytes(value: Any) -> bytes:
    """Return a value as JSON, also one with NaN, lone surrogates or huge numbers."""
    return write_row({"": value})


def _status(part: Mapping[str, Any]) -> str:
    """Return a component's status of one row, with the kind of an unscored one."""
    status, kind = part.get("status") or "absent", part.get("kind")
    return f"{status} ({kind})" if status == "unscored" and kind else str(status)


def _length(completion: Any) -> int:
    """Return the characters of a completion; of chat messages, those of all contents."""
    if isinstance(completion, str):
        return len(completion)
    return sum(len(str(message.get("content") or "")) for message in completion or ())


def _floats(values: Sequence[Any]) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
