"""Finds the judges of a reward file, and rows to try them on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewardkit import Rollout
from rewardkit.errors import DataError, UsageError
from rewardkit.toolkit import RowError, configured_rewards, map_row, read_rows
from rewardkit_judge.rewards.base import Base


@dataclass(frozen=True, slots=True)
class NamedJudge:
    """A judge of a reward file."""

    name: str
    """The component."""
    use: str
    """The name of the reward, such as ``judge.rubric``."""
    reward: Base
    settings: Mapping[str, Any]
    """The parameters as JSON data."""


def find_judge(file: Path, component: str | None) -> NamedJudge:
    """Build the judge of a reward file.

    Args:
        file: The reward file.
        component: The component; None if the file has one judge only.

    Raises:
        ConfigError: The file is wrong.
        UsageError: It has no such judge, or several.
    """
    found = {}
    for item in configured_rewards(file):
        if item.use.startswith("judge.") and isinstance(built := item.build(), Base):
            found[item.name] = NamedJudge(item.name, item.use, built, item.settings)
    if component is not None and component not in found:
        raise UsageError(f"{file} has no judge {component!r}; its judges are {', '.join(found) or 'none'}")
    if component is None and len(found) != 1:
        told = f"has the judges {', '.join(found)}; choose one with --component" if found else "has no judge"
        raise UsageError(f"{file} {told}")
    return found[component] if component is not None else next(iter(found.values()))


def require_endpoint(judge: NamedJudge) -> None:
    """Raise UsageError if the judge's endpoint can't be used."""
    if (problem := judge.reward.preflight()) is not None:
        raise UsageError(problem)


def chosen_rollouts(row: str, maps: Sequence[str], *, whole_group: bool) -> list[Rollout]:
    """Return the rollout that ``ROW`` names, with the rest of its group where that is wanted.

    Args:
        row: ``FILE:NUMBER``, counted from 1, or a row as a JSON object.
        maps: Renames columns, as ``--map``.
        whole_group: Return all rollouts of the group, in the order of the file.

    Raises:
        UsageError: It is neither.
        DataError: There is no such row, or it can't be read.
    """
    if row.lstrip().startswith("{"):
        try:
            return [Rollout.from_row(part) for part in map_row(json.loads(row), maps=maps)]
        except (ValueError, RecursionError) as error:
            raise UsageError(f"ROW is not a row as JSON: {error}") from None
        except (TypeError, RowError) as error:
            raise UsageError(f"ROW: {error}") from None
    file, colon, number = row.rpartition(":")
    if not colon or not number.isdecimal() or not int(number):
        raise UsageError(f"ROW is {row!r}; write FILE:NUMBER, such as rollouts.jsonl:3, or a row as JSON")
    rollouts = [rollout_of(place, part) for place, part in read_rows([file], maps=maps, split=True)]
    if int(number) > len(rollouts):
        raise DataError(f"{file} has {len(rollouts)} rows; there is no row {number}")
    wanted = rollouts[int(number) - 1]
    return [item for item in rollouts if _group(item) == _group(wanted)] if whole_group else [wanted]


def rollout_of(place: str, row: Mapping[str, Any]) -> Rollout:
    """Return a row as a rollout.

    Args:
        place: Where it stands, for messages.
        row: The row.

    Raises:
        DataError: It is none.
    """
    try:
        return Rollout.from_row(row)
    except (ValueError, TypeError) as error:
        raise DataError(f"{place}: {error}") from None


def _group(rollout: Rollout) -> tuple[bool, Any]:
    named = rollout.group is not None
    return named, rollout.group if named else rollout.prompt_text
