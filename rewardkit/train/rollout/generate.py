"""Prompts to scored completions: what a step learns from, and what an evaluation looks at.

While the engine samples the next prompts, the reward is already at work on those that are done. What comes out does not depend on
which of the two is quicker.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from rewardkit.composite import CompositeReward
from rewardkit.errors import TooManyUnscoredError
from rewardkit.rollout_engine import Completion, Request, RolloutEngine, Sampling
from rewardkit.train.data.tokenization import Prompt
from rewardkit.train.distributed import collectives
from rewardkit.train.distributed.failure_propagation import agreed, check
from rewardkit.types import Rollout, ScoredRollout


@dataclass(frozen=True, slots=True)
class Sample:
    """One completion with its score."""

    prompt: Prompt
    group: int
    """Which prompt of the batch it answers."""
    completion: Completion
    scored: ScoredRollout


@dataclass(slots=True)
class Timings:
    """Where the time went, in seconds."""

    generating: float = 0.0
    waiting: float = 0.0
    """For scores, with nothing left to sample."""
    scoring: float = 0.0
    """Of the reward, which is at work while the engine samples."""


def collect(
    engine: RolloutEngine,
    reward: CompositeReward,
    decode: Callable[[Sequence[int]], str],
    prompts: Sequence[Prompt],
    seeds: Sequence[Sequence[int]],
    sampling: Sampling,
    step: int,
    first_group: int = 0,
    timings: Timings | None = None,
) -> list[Sample]:
    """Sample completions and score them; of several processes each takes some of the prompts, and all get everything.

    Args:
        engine: Samples.
        reward: Scores.
        decode: Text of tokens.
        prompts: What to answer.
        seeds: For each prompt one per completion.
        sampling: How.
        step: For weight schedules.
        first_group: Number of the first prompt's group.
        timings: What this takes is added here.

    Returns:
        All completions of the first prompt, then of the second …

    Raises:
        EngineError: The engine of any process has failed.
        PeerError: Another process has failed otherwise.
    """
    own = collectives.share(range(len(prompts)))
    requests = [Request(prompts[index].tokens, seeds[index]) for index in own]
    timings = timings or Timings()

    def score(rollouts: Sequence[Rollout]) -> list[ScoredRollout]:
        began = time.monotonic()
        scored = reward.score(rollouts, step=step)
        timings.scoring += time.monotonic() - began  # by one thread alone
        return scored

    began = time.monotonic()
    pending: list[tuple[list[tuple[int, Completion]], Future[list[ScoredRollout]]]] = []
    with agreed(), ThreadPoolExecutor(1, thread_name_prefix="rewardkit-score") as scorer:
        try:
            for done in engine.generate(requests, sampling):
                check()
                flat = [(own[place], completion) for place, completions in done for completion in completions]
                rollouts = [
                    rollout(prompts[index], first_group + index, completion, decode) for index, completion in flat
                ]
                pending.append((flat, scorer.submit(score, rollouts)))
                for _, future in pending:
                    if future.done():
                        future.result()  # a reward that has broken down ends the sampling, too
            generated = time.monotonic()
            by_prompt: dict[int, list[Sample]] = {index: [] for index in own}
            for flat, future in pending:
                for (index, completion), scored in zip(flat, future.result(), strict=True):
                    by_prompt[index].append(Sample(prompts[index], first_group + index, completion, scored))
        except BaseException:
            scorer.shutdown(wait=False, cancel_futures=True)
            raise
    timings.generating += generated - began
    timings.waiting += time.monotonic() - generated
    return [sample for samples in collectives.gathered([by_prompt[index] for index in own]) for sample in samples]


def rollout(prompt: Prompt, group: int, completion: Completion, decode: Callable[[Sequence[int]], str]) -> Rollout:
    """A completion as the reward sees it: text for a prompt that is text, else one assistant message."""
    text = decode(completion.tokens)
    return Rollout(
        prompt.text,
        text if isinstance(prompt.text, str) else [{"role": "assistant", "content": text}],
        prompt.fields,
        group,
        len(completion.tokens),
        completion.finish_reason,
    )


def refuse_unscored(samples: Sequence[Sample], most: float, where: str) -> None:
    """Stop where too much could not be scored.

    Raises:
        TooManyUnscoredError: More than the share ``most``; says which kinds, and the first message.
    """
    unscored = [sample.scored.unscored for sample in samples if sample.scored.unscored is not None]
    if len(unscored) > most * len(samples):
        kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(item.kind for item in unscored).most_common())
        raise TooManyUnscoredError(
            f"{where}: {len(unscored)} of {len(samples)} rollouts could not be scored ({kinds}), more than the {most:.0%} that "
            f"unscored.abort_above allows; the first: {unscored[0].message}"
        )
