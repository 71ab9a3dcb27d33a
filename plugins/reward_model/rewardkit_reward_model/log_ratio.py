"""The reward `reward_model.log_ratio`: the log-ratio of two language models."""

from __future__ import annotations

import gc
import math
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import starmap
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from annotated_types import Gt, MinLen

from rewardkit import Rollout, Score, Unscored, reward
from rewardkit.language_models import CompletionTokens, completion_logprobs, completion_tokens, step_numbers
from rewardkit.reward_models import DialogueError, context_length
from rewardkit_reward_model.loading import (
    Dtype,
    Source,
    default_batch_tokens,
    in_batches,
    kept_digits,
    load_language_model,
    load_tokenizer,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Level: TypeAlias = Literal["sequence", "step", "token"]
PROBE = "The 3 quick\n\nbrown foxes don't jump (über 10.5%)?"
"""A text that two tokenizers with equal vocabularies must divide equally."""


@dataclass(frozen=True, slots=True)
class LogRatio:
    """The log-probabilities of a completion's tokens under both models."""

    logprobs: tuple[float, ...]
    reference: tuple[float, ...]

    def scaled(self, beta: float) -> list[float]:
        """Return β times the log-ratio of each token."""
        return [beta * (one - other) for one, other in zip(self.logprobs, self.reference, strict=True)]


@reward(
    "reward_model.log_ratio",
    executor="device",
    needs_finish_reason=lambda params: params.end == "unless_truncated",
    example="imitates: {use: reward_model.log_ratio, with: {model: ./runs/sft/final, reference: ./models/base, beta: 0.1}, weight: 1.0}",
)
class LogRatioReward:
    """β · log(π(y|x) / π_ref(y|x)): how much more probable the model finds a completion than its reference does.

    For a model that DPO trained, and the model that it started from, this is the implicit reward that DPO learned (arXiv 2305.18290). For
    a model after SFT and its base it is a reward that is learned from demonstrations alone. Both models read the tokens that
    `rewardkit train` trains on: text continues its prompt and ends with the end-of-sequence token; messages go through the chat template of
    ``model``.

    A policy that starts from ``model`` can raise this reward by imitating what demonstrations have in common, such as their length or
    wording, so watch a reward of the task beside it.

    Args:
        model: The folder (write ./name for one in the working directory) or hub name of a causal language model, or of adapters (LoRA).
        reference: The reference model, which must have the same tokenizer. Without it, the model under the adapters of ``model``.
        tokenizer: The tokenizer's folder or name, if it is not with the model. Both models then read its tokens.
        revision: A branch, tag or commit of a model on the hub.
        reference_revision: The same of the reference model.
        beta: The factor β.
        level: sequence: a value for the completion. step: also one per step, as algorithm.process of `rewardkit train` reads them. token:
            also one per token. The values of steps or tokens are in ``Score.steps``, and their sum is the value.
        separator: What ends a step, with level step.
        length_normalized: Divide the value by the number of the completion's tokens, and that of a step by the step's.
        end: always: the end-of-sequence token counts. unless_truncated: not if finish_reason is length, which rows must then have.
        as_chat: Take a text prompt as the message of a user (data.as_chat of `rewardkit train`).
        max_tokens: Longer dialogues are unscored; by default, those that are longer than the context of one of the models.
        batch_tokens: The most tokens (padding included) that go through a model at once; by default 16384 on an accelerator
            and 2048 on a CPU, where larger batches no longer fit into its cache.
        dtype: The type of the weights; auto is bfloat16 (or float16) on a CUDA device and float32 elsewhere.
        device: A device such as cuda:1 or cpu; auto is the accelerator, if there is one.
        trust_remote_code: Run code that comes with the models.
    """

    def __init__(
        self,
        *,
        model: str,
        reference: str | None = None,
        tokenizer: str | None = None,
        revision: str | None = None,
        reference_revision: str | None = None,
        beta: Annotated[float, Gt(0)] = 1.0,
        level: Level = "sequence",
        separator: Annotated[str, MinLen(1)] = "\n\n",
        length_normalized: bool = False,
        end: Literal["always", "unless_truncated"] = "always",
        as_chat: bool = False,
        max_tokens: Annotated[int, Gt(0)] | None = None,
        batch_tokens: Annotated[int, Gt(0)] | None = None,
        dtype: Dtype = "auto",
        device: str = "auto",
        trust_remote_code: bool = False,
    ) -> None:
        if not (beta > 0 and math.isfinite(beta)):
            raise ValueError(
                f"beta must be above 0, not {beta}; to reverse the reward, give the component a negative weight"
            )
        model = os.path.expanduser(model)  # noqa: PTH111 - or a hub name
        reference, tokenizer = (
            place and os.path.expanduser(place)  # noqa: PTH111 - or a hub name
            for place in (reference, tokenizer)
        )
        source = Source(model, tokenizer, revision, dtype, device, None, trust_remote_code)
        self._tokenizer = load_tokenizer(source)
        if as_chat and not self._tokenizer.chat_template:
            raise ValueError(f"as_chat: the tokenizer of {tokenizer or model} has no chat template")
        if reference is not None and tokenizer is None:
            other = Source(reference, None, reference_revision, dtype, device, None, trust_remote_code)
            _require_equal_tokenizers(self._tokenizer, load_tokenizer(other), model, reference)
        self._model = load_language_model(source)
        self._has_own_reference = reference is not None
        if reference is None:
            if not getattr(self._model, "_hf_peft_config_loaded", False):
                raise ValueError(f"reference is missing: {model} has no adapters, so there is no model under them")
            self._reference = self._model
        else:
            self._reference = load_language_model(
                Source(reference, None, reference_revision, dtype, device, None, trust_remote_code)
            )
        for name, one in ((model, self._model), (reference or model, self._reference)):
            _require_embeddings(one, self._tokenizer, name)
        self._known = min(one.get_input_embeddings().num_embeddings for one in (self._model, self._reference))
        self._end_ids = _end_ids(self._model, self._tokenizer)
        self._device = source.torch_device()
        self._digits = kept_digits(self._model)
        contexts = [context_length(one.config, self._tokenizer) for one in (self._model, self._reference)]
        self._max_tokens = min(max_tokens or contexts[0], *contexts)
        self._batch_tokens = batch_tokens or default_batch_tokens(self._device)
        self._beta, self._level, self._separator = beta, level, separator
        self._length_normalized, self._end, self._as_chat = length_normalized, end, as_chat

    def __call__(self, rollouts: Sequence[Rollout], /) -> Sequence[Score | Unscored]:
        """Score a batch."""
        read = [self._read(rollout) for rollout in rollouts]
        rows = [row for row in read if isinstance(row, CompletionTokens)]
        ratios: Iterator[LogRatio] = starmap(
            LogRatio, zip(self._logprobs(rows, self._model), self._logprobs(rows, self._reference, True), strict=True)
        )
        return [row if isinstance(row, Unscored) else self._score(row, next(ratios)) for row in read]

    def close(self) -> None:
        """Free the models' memory."""
        del self._model, self._reference
        gc.collect()

    def _read(self, rollout: Rollout) -> CompletionTokens | Unscored:
        ended = self._end == "always" or rollout.finish_reason != "length"
        try:
            row = completion_tokens(self._tokenizer, rollout, as_chat=self._as_chat, ended=ended, end_ids=self._end_ids)
        except DialogueError as error:
            return Unscored("input", str(error))
        if max(row.tokens) >= self._known:
            return Unscored("input", f"the models know {self._known} tokens, and the text has token {max(row.tokens)}")
        if len(row.tokens) > self._max_tokens:
            return Unscored(
                "input", f"prompt and completion have {len(row.tokens)} tokens, and the limit is {self._max_tokens}"
            )
        if self._level == "step" and len(row.turns) > 1:
            return Unscored("input", f"the completion has {len(row.turns)} turns, and level: step divides a single one")
        return row

    def _logprobs(
        self, rows: Sequence[CompletionTokens], model: Any, is_reference: bool = False
    ) -> list[tuple[float, ...]]:
        without: AbstractContextManager[None] = (
            _Disabled(model) if is_reference and not self._has_own_reference else nullcontext()
        )
        pad = self._tokenizer.pad_token_id
        padding = pad if isinstance(pad, int) and pad < model.get_input_embeddings().num_embeddings else 0

        def forward(part: list[CompletionTokens]) -> list[tuple[float, ...]]:
            return [tuple(found) for found in completion_logprobs(model, part, padding)]

        with without:
            return in_batches(rows, self._batch_tokens, lambda row: len(row.tokens), forward)

    def _score(self, row: CompletionTokens, ratio: LogRatio) -> Score | Unscored:
        tokens = ratio.scaled(self._beta)
        value = sum(tokens)
        if not math.isfinite(value):
            return Unscored(
                "plugin",
                f"the log-ratio is {value}; the reference may give a token probability 0; dtype: float32 or bfloat16 avoids overflow",
            )
        digits = self._digits
        steps = self._steps(row, tokens)
        logprob, reference = sum(ratio.logprobs), sum(ratio.reference)
        return Score(
            round(value / len(tokens) if self._length_normalized else value, digits),
            f"log-prob {logprob:.4g}, {reference:.4g} by the reference, {len(tokens)} tokens",
            metrics={
                "logprob": round(logprob, digits),
                "reference_logprob": round(reference, digits),
                "tokens": float(len(tokens)),
            },
            steps=None if steps is None else [round(step, digits) for step in steps],
        )

    def _steps(self, row: CompletionTokens, values: Sequence[float]) -> list[float] | None:
        """Return the values of the steps or tokens, or None if there is only that of the sequence."""
        if self._level == "sequence":
            return None
        if self._level == "token":
            return list(values)
        numbers = step_numbers(self._tokenizer, row, self._separator)
        steps, counts = [0.0] * (max(numbers) + 1), [0] * (max(numbers) + 1)
        for number, value in zip(numbers, values, strict=True):
            steps[number] += value
            counts[number] += 1
        if self._length_normalized:
            return [step / max(count, 1) for step, count in zip(steps, counts, strict=True)]
        return steps


class _Disabled(AbstractContextManager[None]):
    """Switches a model's adapters off."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __enter__(self) -> None:
        self.model.disable_adapters()

    def __exit__(self, *_: object) -> None:
        self.model.enable_adapters()


def _end_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Return the tokens that end a completion, of which the generation configuration may name several besides the tokenizer's."""
    named = getattr(model.generation_config, "eos_token_id", None)
    found = [*(named if isinstance(named, list) else [named]), tokenizer.eos_token_id]
    return frozenset(token for token in found if token is not None)


def _require_equal_tokenizers(one: Any, other: Any, model: str, reference: str) -> None:
    """Raise ValueError if two tokenizers divide text differently."""
    own, theirs = one.get_vocab(), other.get_vocab()
    what = ""
    if own != theirs:
        token = min(
            (token for token in own.keys() | theirs.keys() if own.get(token) != theirs.get(token)),
            key=lambda token: (own.get(token, len(own)), token),
        )
        numbers = [f"number {found[token]}" if token in found else "no token" for found in (own, theirs)]
        what = f"{token!r} is {numbers[0]} in {model} and {numbers[1]} in {reference}"
    elif one.eos_token_id != other.eos_token_id:
        what = f"a completion ends with {one.eos_token!r} in {model} and with {other.eos_token!r} in {reference}"
    elif one(PROBE)["input_ids"] != other(PROBE)["input_ids"]:
        what = f"{model} and {reference} divide the same text into different tokens"
    if what:
        raise ValueError(
            f"the two models have different tokenizers, so their log-probs can't be compared: {what}. If both were trained on the "
            "tokens of one of them, name it as tokenizer"
        )


def _require_embeddings(model: Any, tokenizer: Any, name: str) -> None:
    """Raise ValueError if a model does not know all tokens that text has. Some tokenizers invent a special token that no model knows."""
    known, invented = model.get_input_embeddings().num_embeddings, set(tokenizer.all_special_tokens)
    most = max((number for token, number in tokenizer.get_vocab().items() if token not in invented), default=-1)
    if most >= known or (tokenizer.eos_token_id or 0) >= known:
        raise ValueError(
            f"the vocabulary of {name} has {known} tokens, but the tokenizer has {most + 1}; use models of one vocabulary"
        )
