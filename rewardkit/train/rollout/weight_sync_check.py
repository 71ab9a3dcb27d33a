"""Proves, whenever a sampler has taken over weights, that it samples from the weights that are trained.

A few fixed prompts are answered, as rollouts are (with the prefix cache, the sampler's numerics, the run's temperature), and the
trainer judges the very tokens. Two things end a run: log-probs that are too far apart, and a sampler whose answers are to the
last bit those of before the update, although the trainer's judgement of them has moved.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from rewardkit.errors import EngineError
from rewardkit.rollout_engine import Completion, Request, RolloutEngine, Sampling
from rewardkit.train.models.policy import Passage, Policy, Tokens
from rewardkit.train.seeds import step_seed

REAL_PROMPTS = 2
"""How many of the run's own prompts are answered."""
RANDOM_PROMPTS = 2
"""How many prompts of random tokens are, each long enough to fill some blocks of a prefix cache."""
RANDOM_TOKENS = 80
NEW_TOKENS = 16
STALE_SHARE = 0.01
"""How far the trainer's judgement must have moved, as a share of the bound, for an unmoved sampler to count as stale."""


@dataclass(frozen=True, slots=True)
class SyncDifference:
    """What one look at the sampler found; in nats."""

    mean_difference: float
    """Mean ``|sampler − trainer|`` over all tokens."""
    max_difference: float


class WeightSyncCheck:
    """Holds a sampler against the policy."""

    def __init__(
        self,
        policy: Policy,
        engine: RolloutEngine,
        prompts: Sequence[Tokens],
        sampling: Sampling,
        longest: int,
        limit: float | None = None,
    ) -> None:
        """Choose what is asked.

        Args:
            policy: The trained model.
            engine: The sampler.
            prompts: The run's own.
            sampling: The run's own.
            longest: Most tokens of a prompt with its completion that the sampler takes.
            limit: Most mean difference per token; by default what the engine says that rounding may cause.
        """
        self.policy = policy
        self.engine = engine
        self.limit = engine.tolerance if limit is None else limit
        self.sampling = replace(sampling, max_new_tokens=min(NEW_TOKENS, sampling.max_new_tokens), stop=())
        room = longest - self.sampling.max_new_tokens
        self.requests = [
            Request(tuple(prompt), [step_seed("canary", index)])
            for index, prompt in enumerate([*prompts[:REAL_PROMPTS], *self._random_prompts(room)])
        ]
        self._before: tuple[list[Completion], torch.Tensor] | None = None
        """The answers of last time, and what the trainer said of them."""

    def _random_prompts(self, room: int) -> list[Tokens]:
        special = set(self.policy.tokenizer.all_special_ids)
        known = min(len(self.policy.tokenizer), self.policy.lm.get_input_embeddings().num_embeddings)
        tokens = [token for token in range(known) if token not in special]
        draw = random.Random(0)  # noqa: S311 - no secrets here
        return [draw.choices(tokens, k=max(1, min(RANDOM_TOKENS, room))) for _ in range(RANDOM_PROMPTS)]

    def check(self) -> SyncDifference:
        """Look at the sampler as it is now.

        Raises:
            EngineError: It samples from other weights than are trained, or does not answer what it is asked.
        """
        answers = self._ask()
        sampler_N = torch.tensor([value for answer in answers for value in answer.logprobs])
        trainer_N = self._judge(answers)
        apart_N = (sampler_N - trainer_N).abs()
        seen = SyncDifference(float(apart_N.mean()), float(apart_N.max()))
        if self._before is not None and self._before[0] == answers:
            moved = float((trainer_N - self._before[1]).abs().mean())
            if moved > STALE_SHARE * self.limit:
                raise EngineError(
                    f"the sampler answers to the last bit as it did before the update, which moved the trainer's log-probs by {moved:.3g} "
                    "per token on average: it has not taken over the weights"
                )
        if not math.isfinite(seen.mean_difference) or seen.mean_difference > self.limit:
            raise EngineError(
                f"the sampler's log-probs differ from the trainer's by {seen.mean_difference:.3g} per token on average after "
                f"taking over the weights (at most {seen.max_difference:.3g}), more than {self.limit:g}: it samples from other "
                "weights than are trained; where its type is meant to be coarser, set rollout.canary.limit"
            )
        self._before = answers, trainer_N
        return seen

    def _ask(self) -> list[Completion]:
        found: dict[int, Completion] = {}
        for part in self.engine.generate(self.requests, self.sampling):
            found |= {index: completions[0] for index, completions in part}
        answers = [found.get(index) for index in range(len(self.requests))]
        whole = [answer for answer in answers if answer is not None and 0 < len(answer.tokens) == len(answer.logprobs)]
        if len(whole) < len(answers):
            raise EngineError(f"the sampler answered {len(whole)} of {len(answers)} prompts with tokens and log-probs")
        return whole

    def _judge(self, answers: Sequence[Completion]) -> torch.Tensor:
        """The trainer's log-probs of the answers, one after the other. Shape: (N,)."""
        passages = [
            Passage((*request.prompt, *answer.tokens), len(request.prompt))
            for request, answer in zip(self.requests, answers, strict=True)
        ]
        was_training = self.policy.model.training
        self.policy.model.eval()
        with torch.no_grad():
            judged = self.policy.judge(passages, self.sampling.temperature)
        self.policy.model.train(was_training)
        return judged.logprobs_B_T[judged.mask_B_T].float().cpu()
