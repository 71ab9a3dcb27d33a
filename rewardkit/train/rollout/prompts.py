"""Loads prompts, and checks them against the model and the reward before anything is sampled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rewardkit.config import RewardConfig
from rewardkit.errors import ConfigError, DataError, Location
from rewardkit.train.config import RlConfig, Source, paths
from rewardkit.train.data.input_check import missing_columns, nested_paths
from rewardkit.train.data.rows import columns_hint, read_rows
from rewardkit.train.data.tokenization import Prompt, Renderer
from rewardkit.train.data.turn_end import endless_prompt_problem
from rewardkit.train.models.policy import Policy
from rewardkit.types import Rollout


class LoadedPrompts(NamedTuple):
    """Prompts, and the number of those that were left out."""

    prompts: list[Prompt]
    too_long: int
    """Prompts that do not fit into the model's context together with their completion."""


def load_prompts(
    config: RlConfig,
    policy: Policy,
    rewards: Sequence[RewardConfig],
    files: Source | Sequence[Source] | None,
    location: Location | None = None,
) -> LoadedPrompts:
    """Read and render prompts, and check them against the rewards and the model.

    Args:
        config: The configuration.
        policy: The model whose tokenizer and context are used.
        rewards: The rewards whose columns the rows must have.
        files: The files of rows; None has no prompts.
        location: The place of the model's path in the configuration, for messages.

    Raises:
        ConfigError: Completions of chat prompts would not end.
        DataError: A row can't be used, or all prompts are too long; the message names file and row.
    """
    if files is None:
        return LoadedPrompts([], 0)
    renderer = Renderer(policy.tokenizer, config.data, nested_paths(config, *rewards))
    rows = read_rows(paths(files))
    prompts = [renderer.prompt(row) for row in rows]
    if problem := endless_prompt_problem(prompts, policy.tokenizer, policy.eos_ids, config.rollout.stop):
        raise ConfigError((location, problem))
    for reward in rewards:
        found = [(prompt.place, Rollout(prompt.text, "", prompt.fields)) for prompt in prompts]
        for column, reader in missing_columns(found, reward).items():
            names = " and ".join(dict.fromkeys(str(row.file) for row in rows))
            raise DataError(
                f"{reader} reads column {column!r}, which no row of {names} has. {columns_hint(column, rows)}"
            )
    return without_long_prompts(prompts, policy.context, config.rollout.max_new_tokens)


def without_long_prompts(prompts: Sequence[Prompt], context: int, max_new_tokens: int) -> LoadedPrompts:
    """Leave out the prompts that exceed the model's context together with their completion. Raises DataError if none is left."""
    kept = [prompt for prompt in prompts if len(prompt.tokens) + max_new_tokens <= context]
    if prompts and not kept:
        shortest = min(prompts, key=lambda prompt: len(prompt.tokens))
        raise DataError(
            f"{shortest.place}: the shortest of {len(prompts)} prompts has {len(shortest.tokens)} tokens; with rollout.max_new_tokens "
            f"{max_new_tokens} that is more than the model's context of {context}"
        )
    return LoadedPrompts(kept, len(prompts) - len(kept))
