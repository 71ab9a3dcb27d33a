"""Loads prompts, and checks them against the model and the reward before anything is sampled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rewardkit.composite import CompositeReward
from rewardkit.errors import DataError
from rewardkit.train.config import RlConfig, paths
from rewardkit.train.data.rows import read_rows
from rewardkit.train.data.tokenization import Prompt, Renderer
from rewardkit.train.models.policy import Policy


def load_prompts(
    config: RlConfig, policy: Policy, reward: CompositeReward, files: Path | Sequence[Path] | None
) -> list[Prompt]:
    """Read and render prompts, and check them against the reward and the model's context.

    Args:
        config: The configuration.
        policy: The model whose tokenizer and context are used.
        reward: The reward whose columns the rows must have.
        files: The files of rows; None has no prompts.

    Raises:
        DataError: A row can't be used; the message names file and row.
    """
    if files is None:
        return []
    renderer = Renderer(policy.tokenizer, config.data)
    prompts = [renderer.prompt(row) for row in read_rows(paths(files))]
    refuse_long_prompts(prompts, policy.context, config.rollout.max_new_tokens)
    for field, users in reward.config.needed_fields().items():
        if not any(prompt.fields.get(field) is not None for prompt in prompts):
            composite, who, place = users[0]
            del composite
            raise DataError(
                f"{place or reward.config.file}: {who} reads the column {field!r}, which no row of {files} has"
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
