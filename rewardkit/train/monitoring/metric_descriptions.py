"""Describes every metric of ``metrics.jsonl`` in one line, with its unit. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Description:
    """The description of a metric."""

    text: str
    unit: str = ""


_RUN: Mapping[str, Description] = {
    "loss": Description("loss that the update minimises"),
    "lr": Description("learning rate"),
    "router_loss": Description("auxiliary loss that balances the experts of a mixture, added to the loss"),
    "grad_norm": Description("norm of the gradient before clipping"),
    "updates_skipped": Description("updates of the step that were skipped because the loss or gradient was not finite"),
    "tokens": Description("tokens sampled or read in the step", "tokens"),
    "tokens_per_s": Description("tokens of the step divided by its duration", "tokens/s"),
    "seconds": Description("duration of the step", "s"),
    "seconds_generate": Description("time spent on sampling", "s"),
    "seconds_sync": Description("time spent on copying the weights to the rollout engine", "s"),
    "seconds_await_scores": Description("time spent on waiting for scores when all completions had been sampled", "s"),
    "seconds_update": Description("time spent on the policy update", "s"),
    "scoring_seconds": Description("time spent on scoring, which overlaps with sampling", "s"),
}
_ROLLOUTS: Mapping[str, Description] = {
    "reward": Description("mean reward of the completions that could be scored"),
    "reward_std": Description("standard deviation of the reward over the batch"),
    "gold": Description("mean of the held-out reward (evaluate.gold)"),
    "frac_reward_zero_std": Description(
        "groups whose completions all have the same reward, so that they have no training signal", "share"
    ),
    "unscored": Description("completions that could not be scored for a reason that is not their own fault", "share"),
    "length": Description("mean completion length", "tokens"),
    "staleness": Description("age of the weights that wrote the completions, as an engine reports it", "steps"),
    "truncated": Description("completions cut off by max_new_tokens", "share"),
    "duplicates": Description("completions, beyond the first of each prompt, that the prompt already got", "share"),
    "copied": Description("completions that another prompt got as well", "share"),
    "prompt_independence": Description(
        "agreement of rewards with those that the same completions get for another prompt; 1: the reward does not depend on the prompt",
        "share",
    ),
    "further_verdicts": Description(
        "verdicts that a verifier that errs gave when it was asked again (correction.verifier.ask)"
    ),
    "repetition": Description("4-grams of a completion that occur earlier in it, averaged over completions", "share"),
    "groups": Description("prompts sampled in the step"),
    "prompts_sampled": Description("prompts sampled in the step, including those whose groups were filtered out"),
    "prompts_kept": Description("prompts whose groups have different rewards and are trained on", "share"),
    "length_correlation": Description("Pearson correlation of completion length and reward over the batch"),
    "rows_learned": Description("completions with a non-zero gradient"),
    "weight_sync_difference": Description(
        "mean absolute difference between the log-probs of rollout engine and trainer on fixed prompts", "nats/token"
    ),
    "weight_sync_difference_max": Description(
        "largest absolute difference between the log-probs of rollout engine and trainer on fixed prompts", "nats"
    ),
}
_POLICY: Mapping[str, Description] = {
    "entropy": Description("entropy of the policy's next-token distribution", "nats/token"),
    "kl": Description("KL divergence of the policy from the reference model", "nats/completion"),
    "kl_per_token": Description("KL divergence of the policy from the reference model", "nats/token"),
    "kl_coefficient": Description("coefficient of the KL penalty"),
    "clipped_low": Description("tokens whose ratio is clipped at the lower bound", "share"),
    "clipped_high": Description("tokens whose ratio is clipped at the upper bound", "share"),
    "sampling_logp_difference": Description(
        "mean absolute difference between the log-probs of rollout engine and trainer on the batch", "nats/token"
    ),
    "sampling_logp_difference_max": Description(
        "largest absolute difference between the log-probs of rollout engine and trainer on the batch", "nats"
    ),
    "sampling_kl": Description("KL divergence between rollout engine and trainer on the batch", "nats/token"),
    "sampling_ess": Description(
        "effective sample size of the importance weights of trainer over rollout engine", "share"
    ),
    "value": Description("mean value that the critic predicts"),
    "value_loss": Description("loss of the critic"),
    "value_grad_norm": Description("norm of the critic's gradient before clipping"),
    "returns": Description("mean return, the critic's target"),
    "explained_variance": Description("explained variance of the returns: 1 perfect, 0 no better than a constant"),
}
_ROWS: Mapping[str, Description] = {
    "accuracy": Description("right answers, or pairs in which the preferred answer scores higher", "share"),
    "accuracy_low": Description("lower end of the accuracy's 95 % confidence interval", "share"),
    "accuracy_high": Description("upper end of the accuracy's 95 % confidence interval", "share"),
    "perplexity": Description("exponential of the loss per token"),
    "token_accuracy": Description("tokens that have the highest probability under the model", "share"),
    "margin": Description("mean implicit reward of the preferred answer minus that of the rejected one"),
    "chosen_reward": Description("mean implicit reward of the preferred answer: β × its gain in log-probability"),
    "rejected_reward": Description("mean implicit reward of the rejected answer: β × its gain in log-probability"),
    "lead": Description("mean score of the preferred answer minus that of the rejected one"),
    "calibration_error": Description("expected calibration error (ECE) of the predicted preference"),
    "always_shorter": Description("accuracy of always preferring the shorter answer", "share"),
    "always_longer": Description("accuracy of always preferring the longer answer", "share"),
}
DESCRIPTIONS: Mapping[str, Description] = {**_RUN, **_ROLLOUTS, **_POLICY, **_ROWS}
COMPONENT: Mapping[str, Description] = {
    "": Description("mean value of the component"),
    "std": Description("standard deviation of the component's value over the batch"),
    "disagreement": Description("disagreement of the component's models, an ensemble, averaged over completions"),
    "frac_reward_zero_std": Description(
        "groups in which the component has the same value for all completions", "share"
    ),
    "advantage_share": Description(
        "the component's share of the within-group reward variance (the training signal)", "share"
    ),
    "skipped": Description("completions for which the component was skipped", "share"),
    "not_applicable": Description("completions to which the component does not apply", "share"),
    "unscored": Description("completions that the component could not score", "share"),
    "judge_calls": Description("calls of a judge in the step, those without a verdict included"),
    "judge_prompt_tokens": Description("tokens that a judge read in the step", "tokens"),
    "judge_completion_tokens": Description("tokens that a judge wrote in the step", "tokens"),
    "judge_cost": Description("price of a judge's calls in the step, by the component's prices"),
    "judge_equal_questions": Description("questions of the step that were not asked, since an equal one had been"),
}
"""The metrics of a reward's component, by the last part of ``component/NAME/…``."""


def time_label(name: str) -> str:
    """Return the label of a ``seconds_…`` metric for a legend, such as "await scores"."""
    return name.removeprefix("seconds_").replace("_", " ")


def describe(name: str) -> Description | None:
    """Return the description of a metric, or None for a metric that is not rewardkit's."""
    if not name.startswith("component/"):
        return DESCRIPTIONS.get(name)
    _, _, *last = name.split("/")
    kind = last[-1] if last else ""
    return COMPONENT.get("unscored" if kind.startswith("unscored_") else kind)
