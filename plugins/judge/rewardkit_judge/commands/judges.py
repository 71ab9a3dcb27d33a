"""Finds the judges of a reward file, and rows to try them on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rewardkit import Rollout
from rewardkit.errors import ConfigError, DataError, UsageError
from rewardkit.scoring.columns.columns import Columns
from rewardkit.scoring.formats.decode import decode, read_row
from rewardkit.scoring.formats.readers import Reader, find_inputs
from rewardkit_judge.rewards.base import Base

if TYPE_CHECKING:
    from rewardkit.config.spec import RewardConfig


@dataclass(frozen=True, slots=True)
class NamedJudge:
    """A judge of a reward file."""

    name: str
    """The component."""
    reward: Base
    label: str | None
    """The column of the reference, where it reads one."""


def find_judge(file: Path, component: str | None) -> NamedJudge:
    """Build the judge of a reward file.

    Args:
        file: The reward file.
        component: The component; None if the file has one judge only.

    Raises:
        ConfigError: The file is wrong.
        UsageError: It has no such judge, or several.
    """
    from rewardkit.config.reading import read_config
    from rewardkit.registry import Registry

    config = read_config(file, Registry.load())
    found = dict(_judges(config))
    if component is not None and component not in found:
        raise UsageError(f"{file} has no judge {component!r}; its judges are {', '.join(found) or 'none'}")
    if component is None and len(found) != 1:
        told = f"has the judges {', '.join(found)}; choose one with --component" if found else "has no judge"
        raise UsageError(f"{file} {told}")
    return found[component] if component is not None else next(iter(found.values()))


def _judges(config: RewardConfig) -> Iterator[tuple[str, NamedJudge]]:
    for composite in config.composites.values():
        for item in composite.components:
            if not item.offer.type.name.startswith("judge."):
                continue
            try:
                built = item.offer.type.build(item.params)
            except ValueError as error:
                raise ConfigError((item.location, f"{item.offer.type.name}: {error}")) from None
            if isinstance(built, Base):
                yield item.name, NamedJudge(item.name, built, getattr(item.params, "reference", None))


def require_endpoint(judge: NamedJudge) -> None:
    """Raise UsageError if the judge's endpoint can't be used."""
    if (problem := judge.reward.preflight()) is not None:
        raise UsageError(problem)


def rollouts_of(files: Sequence[str], columns: Columns) -> list[Rollout]:
    """Return the rollouts in files.

    Args:
        files: Paths, globs, or ``-``.
        columns: How columns become the parts of a rollout.

    Raises:
        DataError: A file or a row can't be read.
    """
    found: list[Rollout] = []
    for chunk in Reader(find_inputs(files)).chunks():
        decoded = decode(chunk, columns)
        if decoded.rejected:
            first = decoded.rejected[0]
            raise DataError(f"{first.file}:{first.row}: {first.reason}")
        found += decoded.rollouts
    return found


def rows_of(file: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the rows of a file, each with its place. Raises DataError if one can't be read."""
    from rewardkit.scoring.columns.paths import RowError

    found = []
    for chunk in Reader(find_inputs([file])).chunks():
        for index, raw in enumerate(chunk.rows):
            try:
                found.append((chunk.where(index), read_row(raw)[0]))
            except RowError as error:
                raise DataError(f"{chunk.where(index)}: {error}") from None
    return found


def chosen_rollouts(row: str, columns: Columns, *, whole_group: bool) -> list[Rollout]:
    """Return the rollout that ``ROW`` names, with the rest of its group where that is wanted.

    Args:
        row: ``FILE:NUMBER``, counted from 1, or a row as a JSON object.
        columns: How columns become the parts of a rollout.
        whole_group: Return all rollouts of the group, in the order of the file.

    Raises:
        UsageError: It is neither.
        DataError: There is no such row, or it can't be read.
    """
    if row.lstrip().startswith("{"):
        try:
            data = json.loads(row)
            return [Rollout.from_row(part) for part in columns.rows(data)]
        except ValueError as error:
            raise UsageError(f"ROW is not a row as JSON: {error}") from None
        except TypeError as error:
            raise UsageError(f"ROW: {error}") from None
    file, colon, number = row.rpartition(":")
    if not colon or not number.isdecimal() or not int(number):
        raise UsageError(f"ROW is {row!r}; write FILE:NUMBER, such as rollouts.jsonl:3, or a row as JSON")
    rollouts = rollouts_of([file], columns)
    if int(number) > len(rollouts):
        raise DataError(f"{file} has {len(rollouts)} rows; there is no row {number}")
    wanted = rollouts[int(number) - 1]
    return [item for item in rollouts if item.group == wanted.group] if whole_group else [wanted]
