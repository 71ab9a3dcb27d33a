"""Loads prompts, and checks them against the model and the reward before anything is sampled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rewardkit.config import RewardConfig
from rewardkit.errors import DataError
from rewardkit.train.config import RlConfig, paths
from rewardkit.train.data.input_check import missing_columns, nested_paths
from rewardkit.train.data.rows import columns_hint, read_rows
from rewardkit.train.data.tokenization import Prompt, Renderer
from rewardkit.train.models.policy import Policy
from rewardkit.types import Rollout


def load_prompts(
    config: RlConfig, policy: Policy, rewards: Sequence[RewardConfig], files: Path | Sequence[Path] | None
) -> list[Prompt]:
    """Read and render prompts, and check them against the rewards and the model's context.

    Args:
        config: The configuration.
        policy: The model whose tokenizer and context are used.
        rewards: The rewards whose columns the rows must have.
        files: The files of rows; None has no prompts.

    Raises:
        DataError: A row can't be used; the message names file and row.
    """
    if files is None:
        return []
    renderer = Renderer(policy.tokenizer, config.data, nested_paths(config, *rewards))
    rows = read_rows(paths(files))
    prompts = [renderer.prompt(row) for row in rows]
    refuse_long_prompts(prompts, policy.context, config.rollout.max_new_tokens)
    for reward in rewards:
        found = [(prompt.place, Rollout(prompt.text, "", prompt.fields)) for prompt in prompts]
        for column, reader in missing_columns(found, reward).items():
            names = " and ".join(dict.fromkeys(str(row.file) for row in rows))
            raise DataError(
                f"{reader} reads column {column!r}, which no row of {names} has. {columns_hint(column, rows)}"
            )
    return prompts


def refuse_long_prompts(prompts: Sequence[Prompt], context: int, max_new_tokens: int) -> None:
    """Raise DataError if a prompt and its completion exceed the model's context."""
    for prompt in prompts:
        if len(prompt.tokens) + max_new_tokens > context:
            raise DataError(
                f"{prompt.place}: the prompt has {len(prompt.tokens)} tokens; with rollout.max_new_tokens {max_new_tokens} that is "
                f"more than the model's context of {context}"
            )
