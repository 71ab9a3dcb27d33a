"""Checks before the model is loaded that the data exist and have the columns that are read. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rewardkit.config import RewardConfig
from rewardkit.config.expression import ExpressionError, parse_expression
from rewardkit.errors import ConfigError, DataError, Location, UsageError
from rewardkit.scoring.column_check import FIRST_ROWS, missing_fields
from rewardkit.train.config import RlConfig, RunConfig, paths
from rewardkit.train.config.training_file import TrainFile
from rewardkit.train.data.rows import Row, RowFile, columns_hint, find_files, first_rows
from rewardkit.types import Rollout


def check_inputs(file: TrainFile, *keys: Literal["train", "eval"]) -> None:
    """Check that data files exist, and that the first rows of each have the columns that are read.

    Args:
        file: The configuration.
        keys: The keys of the section ``data`` to check.

    Raises:
        ConfigError: A file or a column that the configuration names does not exist.
        DataError: A file has no rows, can't be read, or lacks a column that the reward reads.
    """
    problems: list[tuple[Location | None, str]] = []
    found: dict[str, list[RowFile]] = {key: [] for key in keys}
    for key, items in found.items():
        for index, path in enumerate(paths(getattr(file.config.data, key))):
            try:
                items.extend(find_files([path]))
            except (DataError, UsageError) as error:
                problems.append((file.where("data", key, index), str(error)))
    if problems:
        raise ConfigError(*problems)
    for key, items in found.items():
        rows = [(item, first_rows(item, FIRST_ROWS)) for item in items]
        if items and not any(some for _, some in rows):
            raise DataError(f"{' and '.join(item.name for item in items)}: no rows")
        for item, some in rows:
            if some:
                _check_columns(file, item, some, key)
                _check_reward(file, item, some, [file.reward, file.gold] if key == "eval" else [file.reward])


def nested_paths(config: RunConfig, *rewards: RewardConfig | None) -> list[str]:
    """Return the paths into nested columns that rewards, and the condition ``evaluate.correct``, read."""
    found = [path for reward in rewards if reward is not None for path in reward.field_paths]
    return list(dict.fromkeys([*found, *(name for name in _condition_fields(config) if "." in name)]))


def missing_columns(rows: Sequence[tuple[str, Rollout]], reward: RewardConfig) -> dict[str, str]:
    """Return the columns that a reward reads and that no row has.

    Args:
        rows: The place of each row, and its rollout with an empty completion.
        reward: The reward.

    Returns:
        For each missing column its first reader, with the place in the reward file.

    Raises:
        DataError: No route of the reward takes a row; the message names it.
    """
    for place, rollout in rows:
        try:
            reward.composite_for(rollout)
        except DataError as error:
            raise DataError(f"{place}: {error}") from None
    return missing_fields((rollout for _, rollout in rows), reward)


def _condition_fields(config: RunConfig) -> tuple[str, ...]:
    """Return the columns that ``evaluate.correct`` reads; none if it can't be parsed, which is reported elsewhere."""
    if not isinstance(config, RlConfig) or config.evaluate.correct is None:
        return ()
    try:
        return parse_expression(config.evaluate.correct).fields
    except ExpressionError:
        return ()


def _check_columns(file: TrainFile, item: RowFile, rows: list[Row], section: str) -> None:
    """Raise ConfigError if the rows lack a column that the configuration names."""
    problems = []
    columns = list(file.config.columns().items())
    if section == "eval":
        columns += [(("evaluate", "correct"), column) for column in _condition_fields(file.config)]
    for key, column in columns:
        if all(row.find(column) is None for row in rows):
            which = f"none of the first {FIRST_ROWS} rows" if len(rows) == FIRST_ROWS else "no row"
            text = f"{'.'.join(key)}: {which} of {item.name} has a value in column {column!r}. {columns_hint(column, rows)}"
            problems.append((file.where(*key), text))
    if problems:
        raise ConfigError(*problems)


def _check_reward(file: TrainFile, item: RowFile, rows: list[Row], rewards: list[RewardConfig | None]) -> None:
    """Raise DataError if the rows lack a column that a reward reads."""
    prompt = file.config.data.prompt
    for reward in rewards:
        if reward is None:
            continue
        nested = nested_paths(file.config, reward)
        found = [(row.place, Rollout(row.find(prompt) or "", "", row.fields(prompt, nested))) for row in rows]
        for column, reader in missing_columns(found, reward).items():
            raise DataError(
                f"{reader} reads column {column!r}, which {item.name} does not have. {columns_hint(column, rows)}"
            )
