"""The reward `reward_model.steps`: the scores of a process reward model for the steps of a completion."""

from __future__ import annotations

import gc
import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, MinLen

from rewardkit import Rollout, Score, Unscored, reward
from rewardkit.language_models import completion_tokens, step_ends
from rewardkit.reward_models import DialogueError, choose_padding_token, context_length, padded_batch
from rewardkit_reward_model.loading import (
    Dtype,
    Source,
    choose_label,
    default_batch_tokens,
    in_batches,
    kept_digits,
    load_classifier,
    load_tokenizer,
    log_odds,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class StepRow:
    """A completion with the places of its steps' last tokens."""

    tokens: tuple[int, ...]
    ends: tuple[int, ...]


@reward(
    "reward_model.steps",
    executor="device",
    example="steps: {use: reward_model.steps, with: {model: ./runs/process/final}, weight: 1.0}",
)
class StepRewardModel:
    """The probability that each step of a completion is right, by a process reward model (arXiv 2305.20050).

    The model is a token classifier of transformers, as the stage ``reward_model`` of `rewardkit train` makes with ``level: step``; it is
    read at the last token of each step. The probabilities are in ``Score.steps``, as ``algorithm.process`` of `rewardkit train` reads
    them, and ``value`` says what the score makes of them. An empty completion has no right step: its value is 0.

    Args:
        model: A folder (write ./name for one in the working directory) or the name of a model on the hub.
        tokenizer: The tokenizer's folder or name, if it is not with the model.
        revision: A branch, tag or commit of a model on the hub.
        label: The index of the label of right steps, of a model with several outputs.
        separator: What ends a step; by default what the model records that it was trained on, or an empty line.
        value: min: the probability of the worst step. product: that all steps are right, if they are independent. mean: the mean over
            the steps. last: that of the last step.
        as_chat: Take a text prompt as the message of a user; by default as the model records that it was trained.
        max_tokens: Longer dialogues are unscored, because all steps must be read; by default the model's context.
        batch_tokens: The most tokens (padding included) that go through the model at once; by default 16384 on an accelerator
            and 2048 on a CPU, where larger batches no longer fit into its cache.
        dtype: The type of the weights; auto is bfloat16 (or float16) on a CUDA device and float32 elsewhere.
        device: A device such as cuda:1 or cpu; auto is the accelerator, if there is one.
        trust_remote_code: Run code that comes with the model.
    """

    def __init__(
        self,
        *,
        model: str,
        tokenizer: str | None = None,
        revision: str | None = None,
        label: Annotated[int, Ge(0)] | None = None,
        separator: Annotated[str, MinLen(1)] | None = None,
        value: Literal["min", "product", "mean", "last"] = "min",
        as_chat: bool | None = None,
        max_tokens: Annotated[int, Gt(0)] | None = None,
        batch_tokens: Annotated[int, Gt(0)] | None = None,
        dtype: Dtype = "auto",
        device: str = "auto",
        trust_remote_code: bool = False,
    ) -> None:
        model, tokenizer = os.path.expanduser(model), tokenizer and os.path.expanduser(tokenizer)  # noqa: PTH111 - or a hub name
        source = Source(model, tokenizer, revision, dtype, device, label, trust_remote_code)
        self._tokenizer = load_tokenizer(source)
        self._model = load_classifier(source, "TokenClassification")
        config: Any = self._model.config
        self._label = choose_label(source, config)
        try:
            self._pad_id = choose_padding_token(self._model, self._tokenizer)
        except ValueError as error:
            raise ValueError(f"{model}: {error}") from None
        self._device = source.torch_device()
        self._digits = kept_digits(self._model)
        recorded = getattr(config, "reward_separator", None)
        self._separator = separator or (recorded if isinstance(recorded, str) and recorded else "\n\n")
        self._as_chat = bool(getattr(config, "reward_as_chat", False)) if as_chat is None else as_chat
        context = context_length(config, self._tokenizer)
        self._max_tokens = min(max_tokens or context, context)
        self._batch_tokens = batch_tokens or default_batch_tokens(self._device)
        self._value = value

    def __call__(self, rollouts: Sequence[Rollout], /) -> Sequence[Score | Unscored]:
        """Score a batch."""
        read = [self._read(rollout) for rollout in rollouts]
        rows = [row for row in read if isinstance(row, StepRow)]
        scored = iter(in_batches(rows, self._batch_tokens, lambda row: len(row.tokens), self._forward))
        return [self._score(next(scored)) if isinstance(row, StepRow) else row for row in read]

    def close(self) -> None:
        """Free the model's memory."""
        del self._model
        gc.collect()

    def _read(self, rollout: Rollout) -> StepRow | Score | Unscored:
        if not rollout.completion_text:
            return Score(0.0, "the completion is empty", steps=[0.0])
        try:
            row = completion_tokens(self._tokenizer, rollout, as_chat=self._as_chat, ended=False)
        except DialogueError as error:
            return Unscored("input", str(error))
        if len(row.turns) > 1:
            return Unscored("input", f"the completion has {len(row.turns)} turns, and steps divide a single one")
        if len(row.tokens) > self._max_tokens:
            return Unscored(
                "input", f"prompt and completion have {len(row.tokens)} tokens, and the limit is {self._max_tokens}"
            )
        return StepRow(row.tokens, tuple(step_ends(self._tokenizer, row, self._separator)))

    def _forward(self, rows: Sequence[StepRow]) -> list[list[float]]:
        import torch

        ids, mask = padded_batch([row.tokens for row in rows], self._pad_id)
        with torch.inference_mode():
            logits = self._model(input_ids=ids.to(self._device), attention_mask=mask.to(self._device)).logits
            return [
                log_odds(logits[index, list(row.ends)].float(), self._label).sigmoid().tolist()
                for index, row in enumerate(rows)
            ]

    def _score(self, steps: Sequence[float]) -> Score | Unscored:
        if not all(map(math.isfinite, steps)):
            return Unscored("plugin", "the model gave NaN; dtype: float32 or bfloat16 avoids overflow")
        match self._value:
            case "min":
                value = min(steps)
            case "product":
                value = math.prod(steps)
            case "mean":
                value = sum(steps) / len(steps)
            case "last":
                value = steps[-1]
        worst = min(range(len(steps)), key=steps.__getitem__)
        return Score(
            round(value, self._digits),
            f"{len(steps)} steps; step {worst + 1} is the least probable to be right ({steps[worst]:.2g})",
            steps=[round(step, self._digits) for step in steps],
        )
