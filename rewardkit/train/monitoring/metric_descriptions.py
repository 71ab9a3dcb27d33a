"""What the figures in ``metrics.jsonl`` mean, in a line each, with their units. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Description:
    """Of a figure."""

    words: str
    unit: str = ""


_RUN: Mapping[str, Description] = {
    "loss": Description("what the update makes smaller"),
    "lr": Description("learning rate"),
    "grad_norm": Description("length of the gradient before it is clipped"),
    "tokens": Description("that were sampled or read", "tokens"),
    "tokens_per_s": Description("tokens of the step by its seconds", "tokens/s"),
    "seconds": Description("of the whole step", "s"),
    "seconds_generate": Description("of the step, spent on sampling", "s"),
    "seconds_sync": Description("of the step, spent on giving the sampler the new weights", "s"),
    "seconds_await_scores": Description("of the step, spent on waiting for scores with nothing left to sample", "s"),
    "seconds_learn": Description("of the step, spent on the update", "s"),
    "scoring_seconds": Description(
        "that the reward was at work, as a rule while the next completions were sampled", "s"
    ),
}
_ROLLOUTS: Mapping[str, Description] = {
    "reward": Description("mean of what is trained on, over the completions that could be scored"),
    "reward_std": Description("standard deviation of the reward over the batch"),
    "gold": Description("mean of the held-out reward evaluate.gold"),
    "zero_spread": Description("groups whose completions all have the same reward: they teach nothing", "share"),
    "unscored": Description("completions that could not be scored, by no fault of theirs", "share"),
    "length": Description("mean length of a completion", "tokens"),
    "truncated": Description("completions cut off by max_new_tokens", "share"),
    "duplicates": Description(
        "completions that their own prompt was given before, the first of each left aside", "share"
    ),
    "copied": Description("completions that another prompt was given, too", "share"),
    "repetition": Description("a completion's runs of four tokens that occurred in it before, on average", "share"),
    "groups": Description("prompts that were answered"),
    "prompts_sampled": Description("prompts that were answered, those of groups without spread included"),
    "prompts_kept": Description("prompts that are learned from: those whose groups have some spread", "share"),
    "length_correlation": Description("of length and reward over the batch, from -1 to 1"),
    "rows_learned": Description("completions that had a gradient"),
    "canary": Description(
        "mean difference of the sampler's and the trainer's log-probs of fixed prompts", "nats/token"
    ),
    "canary_max": Description(
        "greatest difference of the sampler's and the trainer's log-probs of fixed prompts", "nats"
    ),
}
_POLICY: Mapping[str, Description] = {
    "entropy": Description("how undecided the policy is, over the completions that had a gradient", "nats/token"),
    "kl": Description("how far the policy is from the model that it started from", "nats/completion"),
    "kl_per_token": Description("how far the policy is from the model that it started from", "nats/token"),
    "kl_coefficient": Description("what KL is multiplied by"),
    "clipped_low": Description("tokens whose ratio is clipped below", "share"),
    "clipped_high": Description("tokens whose ratio is clipped above", "share"),
    "mismatch": Description("mean difference of the sampler's and the trainer's log-probs of the batch", "nats/token"),
    "mismatch_max": Description(
        "greatest difference of the sampler's and the trainer's log-probs of the batch", "nats"
    ),
    "mismatch_kl": Description("KL divergence of sampler and trainer", "nats/token"),
    "mismatch_ess": Description("effective sample size after weighing tokens by trainer against sampler", "share"),
    "value": Description("mean of what the critic expects"),
    "value_loss": Description("what the critic's update makes smaller"),
    "value_grad_norm": Description("length of the critic's gradient before it is clipped"),
    "returns": Description("mean of what the critic should have expected"),
    "explained_variance": Description(
        "how much of the returns the critic foresees: 1 all, 0 no more than a constant would"
    ),
}
_ROWS: Mapping[str, Description] = {
    "accuracy": Description("right answers, or pairs that are ordered rightly", "share"),
    "accuracy_low": Description("lower end of the accuracy's 95 % interval", "share"),
    "accuracy_high": Description("upper end of the accuracy's 95 % interval", "share"),
    "perplexity": Description("e to the loss per token"),
    "token_accuracy": Description("tokens that the model would have chosen itself", "share"),
    "margin": Description("implicit reward of the preferred answer less that of the other, on average"),
    "chosen_reward": Description("implicit reward of the preferred answers: β times their gain in log-prob"),
    "rejected_reward": Description("implicit reward of the other answers: β times their gain in log-prob"),
    "lead": Description("score of the preferred answer less that of the other, on average"),
    "calibration_error": Description("mean distance of predicted and observed preference (ECE)"),
    "always_shorter": Description("accuracy of preferring the shorter answer", "share"),
    "always_longer": Description("accuracy of preferring the longer answer", "share"),
}
DESCRIPTIONS: Mapping[str, Description] = {**_RUN, **_ROLLOUTS, **_POLICY, **_ROWS}
COMPONENT: Mapping[str, Description] = {
    "": Description("mean of the component's value"),
    "std": Description("standard deviation of the component's value over the batch"),
    "zero_spread": Description("groups in which the component has the same value everywhere", "share"),
    "advantage_share": Description("of the differences within groups, which are what is learned from", "share"),
    "skipped": Description("completions that the component was not asked about", "share"),
    "unscored": Description("completions that the component could not score", "share"),
}
"""Of a reward's component, by the last part of ``component/NAME/…``."""


def part_of_time(name: str) -> str:
    """What a step's ``seconds_…`` were spent on, for a legend."""
    return name.removeprefix("seconds_").replace("_", " ")


def describe(name: str) -> Description | None:
    """What a figure means; None where nobody knows, as of what a plugin adds."""
    if not name.startswith("component/"):
        return DESCRIPTIONS.get(name)
    _, _, *last = name.split("/")
    kind = last[-1] if last else ""
    return COMPONENT.get("unscored" if kind.startswith("unscored_") else kind)
