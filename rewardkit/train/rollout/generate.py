"""Samples and scores completions, for training steps and evaluations.

The reward scores finished prompts while the engine samples the next ones. The result does not depend on which of the two is faster.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from rewardkit.composite import CompositeReward
from rewardkit.composite.event_loop import DaemonExecutor
from rewardkit.errors import EngineError, TooManyUnscoredError
from rewardkit.rollout_engine import Completion, Request, RolloutEngine, Sampling
from rewardkit.train.data.tokenization import Prompt
from rewardkit.train.distributed import collectives
from rewardkit.train.distributed.failure_propagation import raise_if_peer_failed, raise_on_all_ranks
from rewardkit.types import Rollout, ScoredRollout, Text


@dataclass(frozen=True, slots=True)
class Sample:
    """One completion with its score."""

    prompt: Prompt
    group: int
    """The number of the prompt in the batch."""
    completion: Completion
    scored: ScoredRollout


@dataclass(slots=True)
class Timings:
    """How long sampling and scoring took, in seconds."""

    generating: float = 0.0
    waiting: float = 0.0
    """Time spent on waiting for scores after all completions had been sampled."""
    scoring: float = 0.0
    """Time spent on scoring, which overlaps with sampling."""


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
    """Sample and score completions. Each process takes some of the prompts, and all processes get all results.

    Args:
        engine: The rollout engine.
        reward: The reward.
        decode: Returns the text of tokens.
        prompts: The prompts.
        seeds: For each prompt, one seed per completion.
        sampling: How completions are drawn.
        step: The training step, for weight schedules.
        first_group: The number of the first prompt's group.
        timings: The time that this takes is added here.

    Returns:
        All completions of the first prompt, then those of the second, and so on.

    Raises:
        EngineError: The engine of any process failed.
        PeerError: Another process failed for another reason.
    """
    own = collectives.local_shard(range(len(prompts)))
    requests = [Request(prompts[index].tokens, seeds[index]) for index in own]
    timings = timings or Timings()

    def score(rollouts: Sequence[Rollout]) -> list[ScoredRollout]:
        began = time.monotonic()
        scored = reward.score(rollouts, step=step)
        timings.scoring += time.monotonic() - began  # only one thread adds here
        return scored

    began = time.monotonic()
    pending: list[tuple[list[tuple[int, Completion]], Future[list[ScoredRollout]]]] = []
    scorer = DaemonExecutor(1, "rewardkit-score")
    with raise_on_all_ranks():
        try:
            for done in engine.generate(requests, sampling):
                raise_if_peer_failed()
                flat = [(own[place], completion) for place, completions in done for completion in completions]
                rollouts = [
                    rollout(prompts[index], first_group + index, completion, decode) for index, completion in flat
                ]
                pending.append((flat, scorer.submit(score, rollouts)))
                for _, future in pending:
                    if future.done():
                        future.result()  # an exception of the reward also ends the sampling
            generated = time.monotonic()
            by_prompt: dict[int, list[Sample]] = {index: [] for index in own}
            for flat, future in pending:
                for (index, completion), scored in zip(flat, future.result(), strict=True):
                    by_prompt[index].append(Sample(prompts[index], first_group + index, completion, scored))
        finally:
            # A run that fails or is interrupted does not wait for a reward that hangs.
            scorer.shutdown(wait=False, cancel_futures=True)
    timings.generating += generated - began
    timings.waiting += time.monotonic() - generated
    return [sample for samples in collectives.all_gather([by_prompt[index] for index in own]) for sample in samples]


def rollout(prompt: Prompt, group: int, completion: Completion, decode: Callable[[Sequence[int]], str]) -> Rollout:
    """Return a completion as the reward gets it.

    A completion with segments becomes one chat message for each; without, it is text if the prompt is text, else one assistant message.

    Raises:
        EngineError: The completion is inconsistent.
    """
    if (problem := completion.problem()) is not None:
        raise EngineError(f"the rollout engine returned an inconsistent completion: {problem}")
    if completion.segments:
        text: Text = [
            {**part.extra, "role": part.role, "content": decode(completion.tokens[part.start : part.end])}
            for part in completion.segments
        ]
    else:
        whole = decode(completion.tokens)
        text = whole if isinstance(prompt.text, str) else [{"role": "assistant", "content": whole}]
    return Rollout(prompt.text, text, prompt.fields, group, len(completion.written), completion.finish_reason)


def refuse_unscored(samples: Sequence[Sample], most: float, where: str) -> None:
    """Refuse a batch of which too many rollouts could not be scored.

    Args:
        samples: The batch.
        most: The largest allowed share.
        where: Where the batch is from, for the message.

    Raises:
        TooManyUnscoredError: The share is larger. The message has the kinds and the first cause.
    """
    unscored = [sample.scored.unscored for sample in samples if sample.scored.unscored is not None]
    if len(unscored) > most * len(samples):
        kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(item.kind for item in unscored).most_common())
        raise TooManyUnscoredError(
            f"{where}: {len(unscored)} of {len(samples)} rollouts could not be scored ({kinds}), more than the {most:.0%} that "
            f"unscored.abort_above allows; the first: {unscored[0].message}"
        )
