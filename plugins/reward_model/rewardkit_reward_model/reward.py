"""The reward `reward_model`: the normalized score of a learned reward model, or of several."""

from __future__ import annotations

import gc
import math
import os
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt, MinLen

from rewardkit import Rollout, Score, Unscored, reward
from rewardkit.reward_models import DialogueError, InputForm, dialogue_tokens
from rewardkit_reward_model.loading import Dtype, Source, default_batch_tokens, finite
from rewardkit_reward_model.model import Classifier

if TYPE_CHECKING:
    from collections.abc import Sequence


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

    With ``models``, several models score each completion, and the score is the mean of their normalized scores, minus
    ``uncertainty_penalty`` times their standard deviation. Where training finds a weakness of one model, the others disagree, so the
    penalty slows over-optimization (arXiv 2310.02743). The metrics of a score hold the ``mean`` and this ``disagreement``.

    Equal dialogues get equal scores: they are rounded to 4 decimals (2 if the model computes in 16 bits).

    Args:
        model: A folder (write ./name for one in the working directory) or the name of a model on the hub.
        models: Several folders or names instead of one, each with its own mean, standard deviation and input form.
        uncertainty_penalty: With models, what is subtracted for each standard deviation of disagreement.
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
        model: str | None = None,
        models: Annotated[list[str], MinLen(2)] | None = None,
        uncertainty_penalty: Annotated[float, Ge(0)] = 0.0,
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
        places = _places(model, models, uncertainty_penalty)
        tokenizer = tokenizer and os.path.expanduser(tokenizer)  # noqa: PTH111 - or a hub name
        self._members = [
            Member(
                Classifier(Source(place, tokenizer, revision, dtype, device, label, trust_remote_code)),
                input,
                Scale(mean, std, sigmoid=sigmoid),
                max_tokens,
            )
            for place in places
        ]
        self._penalty = uncertainty_penalty
        self._batch_tokens = batch_tokens or default_batch_tokens(self._members[0].classifier.device)

    def __call__(self, rollouts: Sequence[Rollout], /) -> Sequence[Score | Unscored]:
        """Score a batch."""
        found = [member.outcomes(rollouts, self._batch_tokens) for member in self._members]
        return found[0] if len(found) == 1 else [self._combined(outcomes) for outcomes in zip(*found, strict=True)]

    def close(self) -> None:
        """Free the models' memory."""
        del self._members
        gc.collect()

    def _combined(self, outcomes: Sequence[Score | Unscored]) -> Score | Unscored:
        """Return the mean of the models' scores, minus the penalty for their disagreement."""
        values = []
        for outcome in outcomes:
            if isinstance(outcome, Unscored):
                return outcome
            values.append(outcome.value)
        mean, disagreement = fmean(values), pstdev(values)
        digits = min(member.digits for member in self._members)
        return Score(
            round(mean - self._penalty * disagreement, digits),
            f"{mean:.4g} by {len(values)} models, which differ by {disagreement:.2g} (standard deviation)",
            metrics={
                "mean": round(mean, digits),
                "disagreement": round(disagreement, digits),
                "lowest": min(values),
            },
        )


def _places(model: str | None, models: Sequence[str] | None, penalty: float) -> list[str]:
    """Return the models' folders or names. Raises ValueError if parameters contradict each other."""
    if (model is None) == (models is None):
        raise ValueError("name one model as model, or several as models" + (", not both" if model else ""))
    if model is not None and penalty:
        raise ValueError("uncertainty_penalty needs several models: a single one can't disagree")
    places = [os.path.expanduser(place) for place in (models or [model or ""])]  # noqa: PTH111 - or a hub name
    if models is not None and len(set(places)) < max(len(places), 2):
        raise ValueError("models must name at least two different models: equal ones never disagree")
    return places


@dataclass(frozen=True, slots=True)
class Scale:
    """How scores are normalized: by the parameters, else by what the model records."""

    mean: float | None
    std: float | None
    sigmoid: bool


class Member:
    """A model with what it reads and how its scores are normalized."""

    def __init__(
        self,
        classifier: Classifier,
        asked: Literal["auto", "chat", "text", "pair"],
        scale: Scale,
        max_tokens: int | None,
    ) -> None:
        config = classifier.config
        self.classifier = classifier
        self.digits = classifier.digits
        self._input = self._choose_input(asked)
        self._mean = scale.mean if scale.mean is not None else finite(getattr(config, "reward_mean", None), 0.0)
        self._std = scale.std if scale.std is not None else finite(getattr(config, "reward_std", None), 1.0) or 1.0
        self._sigmoid = scale.sigmoid
        trained_on = getattr(config, "reward_max_tokens", None)
        limit = max_tokens or (trained_on if isinstance(trained_on, int) else classifier.context)
        self._max_tokens = min(limit, classifier.context)

    def outcomes(self, rollouts: Sequence[Rollout], batch_tokens: int) -> list[Score | Unscored]:
        """Score a batch.

        Args:
            rollouts: The rollouts.
            batch_tokens: The most tokens that go through the model at once.
        """
        rows: list[list[int]] = []
        outcomes: list[Score | Unscored | None] = []
        cut: list[bool] = []
        for rollout in rollouts:
            try:
                tokens, is_cut = dialogue_tokens(self.classifier.tokenizer, rollout, self._input, self._max_tokens)
            except DialogueError as error:
                outcomes.append(Unscored("input", str(error)))
                continue
            outcomes.append(None)
            rows.append(tokens)
            cut.append(is_cut)
        scored = iter(zip(self.classifier.scores(rows, batch_tokens), rows, cut, strict=True))
        return [outcome or self._score(*next(scored)) for outcome in outcomes]

    def _score(self, raw: float, tokens: Sequence[int], is_cut: bool) -> Score | Unscored:
        if not math.isfinite(raw):
            return Unscored("plugin", f"the model gave {raw}; dtype: float32 or bfloat16 avoids overflow")
        value = (raw - self._mean) / self._std
        if self._sigmoid:
            value = 1 / (1 + math.exp(-value)) if value > -500 else 0.0
        value = round(value, self.digits)
        reason = f"{raw:.4g} by the model, {len(tokens)} tokens" + (", the beginning was cut off" if is_cut else "")
        return Score(value, reason)

    def _choose_input(self, asked: Literal["auto", "chat", "text", "pair"]) -> InputForm:
        has_template = bool(self.classifier.tokenizer.chat_template)
        if asked == "auto":
            asked = getattr(self.classifier.config, "reward_input", "auto")
        if asked == "auto":
            asked = "chat" if has_template else "text"
        if asked == "chat" and not has_template:
            raise ValueError("input is chat, but the tokenizer has no chat template; use text or pair")
        return asked
