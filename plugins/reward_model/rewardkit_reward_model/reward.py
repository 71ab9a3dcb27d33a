"""The reward `reward_model`: the normalized score of a learned reward model."""

from __future__ import annotations

import gc
import math
import os
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt

from rewardkit import Rollout, Score, Unscored, reward
from rewardkit.reward_models import DialogueError, InputForm, dialogue_tokens
from rewardkit_reward_model.model import Classifier, Dtype, Source, finite

if TYPE_CHECKING:
    from collections.abc import Sequence

EXACT_DIGITS, HALF_DIGITS = 4, 2
"""The decimals that a score keeps. The last bits depend on the rest of the batch, and equal answers must not differ by them."""

BATCH, CPU_BATCH = 16384, 2048
"""The tokens that go through the model at once, on an accelerator and on a CPU."""


@reward(
    "reward_model",
    executor="device",
    example="preferred: {use: reward_model, with: {model: ./runs/reward_model/final}, weight: 1.0}",
)
class RewardModel:
    """The score of a learned reward model, minus its mean and divided by its standard deviation.

    The model is any sequence classifier of transformers. A single output is the score; with several outputs, ``label`` names the
    good one, and the score is its log-odds. A model of ``rewardkit train`` also records the input form it was trained on and the
    mean and standard deviation of its scores; parameters override them. Scores can only be compared with each other.

    Equal dialogues get equal scores: they are rounded to 4 decimals (2 if the model computes in 16 bits).

    Args:
        model: A folder (write ./name for one in the working directory) or the name of a model on the hub.
        tokenizer: The tokenizer's folder or name, if it is not with the model.
        revision: A branch, tag or commit of a model on the hub.
        label: The index of the good output of a model with several outputs.
        input: What the model reads. chat: messages, by the tokenizer's chat template; text: prompt and completion as one
            text; pair: as two texts, for cross-encoders; auto: what the model records that it was trained on, else chat
            if there is a chat template, else text.
        mean: Subtracted from every score; by default what the model records, or 0.
        std: Divides every score; by default what the model records, or 1.
        sigmoid: Map the normalized score to between 0 and 1.
        max_tokens: The beginning of longer dialogues is cut off; by default the model's context.
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
        input: Literal["auto", "chat", "text", "pair"] = "auto",  # noqa: A002 - what YAML calls it
        mean: float | None = None,
        std: Annotated[float, Gt(0)] | None = None,
        sigmoid: bool = False,
        max_tokens: Annotated[int, Gt(0)] | None = None,
        batch_tokens: Annotated[int, Gt(0)] | None = None,
        dtype: Dtype = "auto",
        device: str = "auto",
        trust_remote_code: bool = False,
    ) -> None:
        if std is not None and not (std > 0 and math.isfinite(std)):
            raise ValueError(
                f"std must be above 0, not {std}; to reverse the score, give the component a negative weight"
            )
        if mean is not None and not math.isfinite(mean):
            raise ValueError(f"mean must be a finite number, not {mean}")
        model, tokenizer = os.path.expanduser(model), tokenizer and os.path.expanduser(tokenizer)  # noqa: PTH111 - or a hub name
        self._classifier = Classifier(Source(model, tokenizer, revision, dtype, device, label, trust_remote_code))
        config = self._classifier.config
        self._input = self._choose_input(input)
        self._mean = mean if mean is not None else finite(getattr(config, "reward_mean", None), 0.0)
        self._std = std if std is not None else finite(getattr(config, "reward_std", None), 1.0) or 1.0
        self._sigmoid = sigmoid
        trained_on = getattr(config, "reward_max_tokens", None)
        limit = max_tokens or (trained_on if isinstance(trained_on, int) else self._classifier.context)
        self._max_tokens = min(limit, self._classifier.context)
        self._batch_tokens = batch_tokens or (CPU_BATCH if self._classifier.device.type == "cpu" else BATCH)

    def __call__(self, rollouts: Sequence[Rollout], /) -> Sequence[Score | Unscored]:
        """Score a batch."""
        rows: list[list[int]] = []
        outcomes: list[Score | Unscored | None] = []
        cut: list[bool] = []
        for rollout in rollouts:
            try:
                tokens, is_cut = dialogue_tokens(self._classifier.tokenizer, rollout, self._input, self._max_tokens)
            except DialogueError as error:
                outcomes.append(Unscored("input", str(error)))
                continue
            outcomes.append(None)
            rows.append(tokens)
            cut.append(is_cut)
        scored = iter(zip(self._classifier.scores(rows, self._batch_tokens), rows, cut, strict=True))
        return [outcome or self._score(*next(scored)) for outcome in outcomes]

    def close(self) -> None:
        """Free the model's memory."""
        del self._classifier
        gc.collect()

    def _score(self, raw: float, tokens: Sequence[int], is_cut: bool) -> Score | Unscored:
        if not math.isfinite(raw):
            return Unscored("plugin", f"the model gave {raw}; dtype: float32 or bfloat16 avoids overflow")
        value = (raw - self._mean) / self._std
        if self._sigmoid:
            value = 1 / (1 + math.exp(-value)) if value > -500 else 0.0
        value = round(value, EXACT_DIGITS if self._classifier.is_exact else HALF_DIGITS)
        reason = f"{raw:.4g} by the model, {len(tokens)} tokens" + (", the beginning was cut off" if is_cut else "")
        return Score(value, reason)

    def _choose_input(self, asked: Literal["auto", "chat", "text", "pair"]) -> InputForm:
        has_template = bool(self._classifier.tokenizer.chat_template)
        if asked == "auto":
            asked = getattr(self._classifier.config, "reward_input", "auto")
        if asked == "auto":
            asked = "chat" if has_template else "text"
        if asked == "chat" and not has_template:
            raise ValueError("input is chat, but the tokenizer has no chat template; use text or pair")
        return asked
