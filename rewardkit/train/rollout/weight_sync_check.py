"""Checks after each weight sync that the rollout engine samples from the trained weights.

The engine completes a few fixed prompts as it samples rollouts (with its prefix cache, its numerics and the run's temperature), and the
trainer computes the log-probs of the same tokens. Two results end a run: log-probs that differ too much, and completions that are bit
for bit those from before the update although the trainer's log-probs of them have changed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from rewardkit.errors import EngineError
from rewardkit.rollout_engine import Completion, Request, RolloutEngine, Sampling
from rewardkit.train.models.policy import Policy, Tokens, TokenSpan
from rewardkit.train.models.precision import NonFiniteError
from rewardkit.train.seeds import step_seed

REAL_PROMPTS = 2
"""Number of the run's own prompts that are completed."""
RANDOM_PROMPTS = 2
"""Number of prompts of random tokens, each long enough to fill some blocks of a prefix cache."""
RANDOM_TOKENS = 80
NEW_TOKENS = 16
STALE_SHARE = 0.01
"""An unchanged engine is stale if the trainer's log-probs have changed by more than this share of the limit."""


@dataclass(frozen=True, slots=True)
class SyncDifference:
    """The difference between the log-probs of rollout engine and trainer, in nats."""

    mean_difference: float
    """Mean ``|engine − trainer|`` over all tokens."""
    max_difference: float


class WeightSyncCheck:
    """Compares a rollout engine with the policy."""

    def __init__(
        self,
        policy: Policy,
        engine: RolloutEngine,
        prompts: Sequence[Tokens],
        sampling: Sampling,
        longest: int,
        limit: float | None = None,
    ) -> None:
        """Choose the prompts.

        Args:
            policy: The trained model.
            engine: The rollout engine.
            prompts: The run's prompts.
            sampling: How the run's completions are drawn.
            longest: Largest number of tokens of a prompt with its completion.
            limit: Largest mean difference per token, in nats; by default the engine's tolerance for rounding.
        """
        self.policy = policy
        self.engine = engine
        self.limit = engine.tolerance if limit is None else limit
        self.sampling = replace(sampling, max_new_tokens=min(NEW_TOKENS, sampling.max_new_tokens), stop=())
        room = longest - self.sampling.max_new_tokens
        self.requests = [
            Request(tuple(prompt), [step_seed("weight_sync_check", index)])
            for index, prompt in enumerate([*prompts[:REAL_PROMPTS], *self._random_prompts(room)])
        ]
        self._before: tuple[list[Completion], torch.Tensor] | None = None
        """The completions of the previous check, and the trainer's log-probs of them."""

    def _random_prompts(self, room: int) -> list[Tokens]:
        special = set(self.policy.tokenizer.all_special_ids)
        known = min(len(self.policy.tokenizer), self.policy.lm.get_input_embeddings().weight.shape[0])
        tokens = [token for token in range(known) if token not in special]
        draw = random.Random(0)  # noqa: S311 - no secrets here
        return [draw.choices(tokens, k=max(1, min(RANDOM_TOKENS, room))) for _ in range(RANDOM_PROMPTS)]

    def check(self) -> SyncDifference:
        """Check the engine.

        Returns:
            The difference between engine and trainer.

        Raises:
            EngineError: The engine does not sample from the trained weights, or does not complete the prompts.
            NonFiniteError: The trainer's log-probs are infinite or NaN.
        """
        answers = self._complete_prompts()
        engine_N = torch.tensor([value for answer in answers for value in answer.logprobs])[_written(answers)]
        trainer_N = self._trainer_logprobs(answers)
        if not bool(torch.isfinite(trainer_N).all()):
            raise NonFiniteError(
                "the log-probs of the trained model are not finite, so its weights are broken. Lower optimizer.lr"
            )
        difference_N = (engine_N - trainer_N).abs()
        found = SyncDifference(float(difference_N.mean()), float(difference_N.max()))
        if self._before is not None and self._before[0] == answers:
            moved = float((trainer_N - self._before[1]).abs().mean())
            if moved > STALE_SHARE * self.limit:
                raise EngineError(
                    f"the completions of the rollout engine are bit for bit those from before the update, which changed the trainer's "
                    f"log-probs by {moved:.3g} per token on average: the engine has not taken over the weights"
                )
        if not math.isfinite(found.mean_difference) or found.mean_difference > self.limit:
            raise EngineError(
                f"after the weight sync the log-probs of engine and trainer differ by {found.mean_difference:.3g} per token on average "
                f"(at most {found.max_difference:.3g}), more than {self.limit:g}: the engine does not sample from the trained weights. If "
                "it uses a coarser data type on purpose, set rollout.weight_sync_check.limit"
            )
        self._before = answers, trainer_N
        return found

    def _complete_prompts(self) -> list[Completion]:
        found: dict[int, Completion] = {}
        for part in self.engine.generate(self.requests, self.sampling):
            found |= {index: completions[0] for index, completions in part}
        answers = [found.get(index) for index in range(len(self.requests))]
        for answer in answers:
            if answer is not None and (problem := answer.problem()) is not None:
                raise EngineError(f"the rollout engine returned an inconsistent completion: {problem}")
        whole = [answer for answer in answers if answer is not None and answer.written]
        if len(whole) < len(answers):
            raise EngineError(
                f"the rollout engine returned tokens and log-probs for {len(whole)} of {len(answers)} prompts"
            )
        return whole

    def _trainer_logprobs(self, answers: Sequence[Completion]) -> torch.Tensor:
        """Return the trainer's log-probs of the tokens that the policy wrote. Shape: (N,)."""
        passages = [
            TokenSpan((*request.prompt, *answer.tokens), len(request.prompt))
            for request, answer in zip(self.requests, answers, strict=True)
        ]
        was_training = self.policy.model.training
        self.policy.model.eval()
        with torch.no_grad():
            scored = self.policy.forward_logprobs(passages, self.sampling.temperature)
        self.policy.model.train(was_training)
        return scored.logprobs_B_T[scored.mask_B_T].float().cpu()[_written(answers)]


def _written(answers: Sequence[Completion]) -> torch.Tensor:
    """Return a mask of the tokens of all completions that the policy wrote. Shape: (N,)."""
    return torch.tensor([value for answer in answers for value in answer.mask or [True] * len(answer.tokens)])
