"""What the figures in ``metrics.jsonl`` mean, in a line each, with their units. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Meaning:
    """Of a figure."""

    words: str
    unit: str = ""


_RUN: Mapping[str, Meaning] = {
    "loss": Meaning("what the update makes smaller"),
    "lr": Meaning("learning rate"),
    "grad_norm": Meaning("length of the gradient before it is clipped"),
    "tokens": Meaning("that were sampled or read", "tokens"),
    "tokens_per_s": Meaning("tokens of the step by its seconds", "tokens/s"),
    "seconds": Meaning("of the whole step", "s"),
    "seconds_generate": Meaning("of the step, spent on sampling", "s"),
    "seconds_sync": Meaning("of the step, spent on giving the sampler the new weights", "s"),
    "seconds_await_scores": Meaning("of the step, spent on waiting for scores with nothing left to sample", "s"),
    "seconds_learn": Meaning("of the step, spent on the update", "s"),
    "scoring_seconds": Meaning("that the reward was at work, as a rule while the next completions were sampled", "s"),
}
_ROLLOUTS: Mapping[str, Meaning] = {
    "reward": Meaning("mean of what is trained on, over the completions that could be scored"),
    "reward_std": Meaning("standard deviation of the reward over the batch"),
    "gold": Meaning("mean of the held-out reward evaluate.gold"),
    "zero_spread": Meaning("groups whose completions all have the same reward: they teach nothing", "share"),
    "unscored": Meaning("completions that could not be scored, by no fault of theirs", "share"),
    "length": Meaning("mean length of a completion", "tokens"),
    "truncated": Meaning("completions cut off by max_new_tokens", "share"),
    "duplicates": Meaning("completions that their own prompt was given before, the first of each left aside", "share"),
    "copied": Meaning("completions that another prompt was given, too", "share"),
    "repetition": Meaning("a completion's runs of four tokens that occurred in it before, on average", "share"),
    "groups": Meaning("prompts that were answered"),
    "prompts_sampled": Meaning("prompts that were answered, those of groups without spread included"),
    "prompts_kept": Meaning("prompts that are learned from: those whose groups have some spread", "share"),
    "length_correlation": Meaning("of length and reward over the batch, from -1 to 1"),
    "rows_learned": Meaning("completions that had a gradient"),
    "canary": Meaning("mean difference of the sampler's and the trainer's log-probs of fixed prompts", "nats/token"),
    "canary_max": Meaning("greatest difference of the sampler's and the trainer's log-probs of fixed prompts", "nats"),
}
_POLICY: Mapping[str, Meaning] = {
    "entropy": Meaning("how undecided the policy is, over the completions that had a gradient", "nats/token"),
    "kl": Meaning("how far the policy is from the model that it started from", "nats/completion"),
    "kl_per_token": Meaning("how far the policy is from the model that it started from", "nats/token"),
    "kl_coefficient": Meaning("what KL is multiplied by"),
    "clipped_low": Meaning("tokens whose ratio is clipped below", "share"),
    "clipped_high": Meaning("tokens whose ratio is clipped above", "share"),
    "mismatch": Meaning("mean difference of the sampler's and the trainer's log-probs of the batch", "nats/token"),
    "mismatch_max": Meaning("greatest difference of the sampler's and the trainer's log-probs of the batch", "nats"),
    "mismatch_kl": Meaning("KL divergence of sampler and trainer", "nats/token"),
    "mismatch_ess": Meaning("effective sample size after weighing tokens by trainer against sampler", "share"),
    "value": Meaning("mean of what the critic expects"),
    "value_loss": Meaning("what the critic's update makes smaller"),
    "value_grad_norm": Meaning("length of the critic's gradient before it is clipped"),
    "returns": Meaning("mean of what the critic should have expected"),
    "explained_variance": Meaning(
        "how much of the returns the critic foresees: 1 all, 0 no more than a constant would"
    ),
}
_ROWS: Mapping[str, Meaning] = {
    "accuracy": Meaning("right answers, or pairs that are ordered rightly", "share"),
    "accuracy_low": Meaning("lower end of the accuracy's 95 % interval", "share"),
    "accuracy_high": Meaning("upper end of the accuracy's 95 % interval", "share"),
    "perplexity": Meaning("e to the loss per token"),
    "token_accuracy": Meaning("tokens that the model would have chosen itself", "share"),
    "margin": Meaning("implicit reward of the preferred answer less that of the other, on average"),
    "chosen_reward": Meaning("implicit reward of the preferred answers: β times their gain in log-prob"),
    "rejected_reward": Meaning("implicit reward of the other answers: β times their gain in log-prob"),
    "lead": Meaning("score of the preferred answer less that of the other, on average"),
    "calibration_error": Meaning("mean distance of predicted and observed preference (ECE)"),
    "always_shorter": Meaning("accuracy of preferring the shorter answer", "share"),
    "always_longer": Meaning("accuracy of preferring the longer answer", "share"),
}
MEANINGS: Mapping[str, Meaning] = {**_RUN, **_ROLLOUTS, **_POLICY, **_ROWS}
COMPONENT: Mapping[str, Meaning] = {
    "": Meaning("mean of the component's value"),
    "std": Meaning("standard deviation of the component's value over the batch"),
    "zero_spread": Meaning("groups in which the component has the same value everywhere", "share"),
    "advantage_share": Meaning("of the differences within groups, which are what is learned from", "share"),
    "skipped": Meaning("completions that the component was not asked about", "share"),
    "unscored": Meaning("completions that the component could not score", "share"),
}
"""Of a reward's component, by the last part of ``component/NAME/…``."""


def part_of_time(name: str) -> str:
    """What a step's ``seconds_…`` were spent on, for a legend."""
    return name.removeprefix("seconds_").replace("_", " ")


def meaning_of(name: str) -> Meaning | None:
    """What a figure means; None where nobody knows, as of what a plugin adds."""
    if not name.startswith("component/"):
        return MEANINGS.get(name)
    _, _, *last = name.split("/")
    kind = last[-1] if last else ""
    return COMPONENT.get("unscored" if kind.startswith("unscored_") else kind)
