"""The metrics of a batch equal those computed by hand."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="training needs torch: pip install 'rewardkit[train]'")

from rewardkit.rollout_engine import Completion
from rewardkit.train.data.tokenization import Prompt
from rewardkit.train.monitoring import rollout_metrics
from rewardkit.train.rollout.generate import Sample
from rewardkit.types import Rollout, Score, ScoredRollout, Skipped, Unscored


def sample(group, tokens, reward, finish="stop", **outcomes):
    """Return a completion with its reward and its components' outcomes."""
    outcome = {name: Score(value) if isinstance(value, float) else value for name, value in outcomes.items()}
    contributions = {name: value.value for name, value in outcome.items() if isinstance(value, Score)}
    weights = dict.fromkeys(outcome, 1.0)
    scored = ScoredRollout(Rollout("p", "c"), reward, outcome, weights, contributions, "id")
    return Sample(Prompt((1,), "p", {}, "rows.jsonl:1"), group, Completion(tuple(tokens), (), finish), scored)


def test_the_batch_as_a_whole():
    """One of two groups has equal rewards, and an unscored completion is in no mean."""
    batch = [
        sample(0, [1, 2], 1.0),
        sample(0, [1, 2], 1.0),
        sample(1, [1, 2], 0.0),
        sample(1, [3, 4, 5, 6], 0.5, "length"),
    ]
    found = rollout_metrics.rewards(batch)
    assert found["reward"] == 0.625
    assert found["frac_reward_zero_std"] == 0.5
    assert found["length"] == 2.5
    assert found["truncated"] == 0.25
    assert found["groups"] == 2
    unscored = rollout_metrics.rewards([*batch, sample(1, [7], None)])
    assert unscored["reward"] == 0.625
    assert unscored["unscored"] == pytest.approx(0.2)
    assert rollout_metrics.rewards([]) == {}


def test_spread_within_groups_is_told_where_there_are_groups():
    """A batch with one completion per prompt, as in PPO, has no share of groups with equal rewards."""
    single = [sample(0, [1], 1.0, a=1.0), sample(1, [2], 0.0, a=0.0)]
    found = {**rollout_metrics.rewards(single), **rollout_metrics.components(single)}
    assert not [name for name in found if name.endswith(("frac_reward_zero_std", "advantage_share"))]
    assert (found["reward_std"], found["component/a/std"]) == (0.5, 0.5)
    pair = [*single, sample(1, [3], 0.0, a=0.0)]
    assert rollout_metrics.rewards(pair)["frac_reward_zero_std"] == 1.0
    assert rollout_metrics.components(pair)["component/a/advantage_share"] == 0.0


def test_duplicates_are_of_one_prompt_and_copies_of_several():
    """Duplicates are 1 if each prompt has one distinct completion, and 0 if all differ or there is one of each."""
    same, other = [1, 2], [3]
    assert rollout_metrics.duplicates([sample(0, same, 1.0), sample(0, same, 1.0), sample(0, same, 1.0)]) == 1.0
    assert rollout_metrics.duplicates([sample(0, same, 1.0), sample(0, same, 1.0), sample(0, other, 1.0)]) == 0.5
    assert rollout_metrics.duplicates([sample(0, same, 1.0), sample(1, same, 1.0)]) == 0.0
    assert rollout_metrics.copied([sample(0, same, 1.0), sample(1, same, 1.0), sample(1, other, 1.0)]) == pytest.approx(
        2 / 3
    )
    assert rollout_metrics.copied([sample(0, same, 1.0), sample(0, same, 1.0)]) == 0.0


def test_length_and_reward_are_correlated():
    """The correlation is over scored completions, and 0 if either does not vary."""
    assert rollout_metrics.rewards([sample(0, [1] * n, float(n)) for n in (1, 2, 3)])[
        "length_correlation"
    ] == pytest.approx(1)
    assert rollout_metrics.rewards([sample(0, [1] * n, 1.0) for n in (1, 2, 3)])["length_correlation"] == 0.0


def test_the_disagreement_of_an_ensemble_is_a_metric():
    """The mean over the completions whose scores have it; other metrics of scores are not logged."""
    scores = [Score(1.0, metrics={"disagreement": 0.5, "tokens": 3.0}), Score(2.0, metrics={"disagreement": 1.5}), 1.0]
    found = rollout_metrics.components([sample(0, (1,), 1.0, proxy=score) for score in scores])
    assert found["component/proxy/disagreement"] == 1.0
    assert "component/proxy/tokens" not in found


def test_each_component():
    """Each component has mean, standard deviation, share of the training signal, and skipped or unscored shares by kind."""
    batch = [
        sample(0, [1], 1.0, a=1.0, b=0.0),
        sample(0, [2], 0.0, a=0.0, b=0.0),
        sample(1, [3], 1.0, a=1.0, b=Skipped("gate shut")),
        sample(1, [4], None, a=1.0, b=Unscored("infra", "gone")),
    ]
    found = rollout_metrics.components(batch)
    assert found["component/a"] == 0.75
    assert found["component/b"] == 0.0
    assert found["component/a/advantage_share"] == pytest.approx(1.0)
    assert found["component/b/advantage_share"] == pytest.approx(0.0)
    assert found["component/a/frac_reward_zero_std"] == 0.5
    assert found["component/b/skipped"] == 0.25
    assert found["component/b/unscored_infra"] == 0.25


def test_prompt_independence_by_hand():
    """1 if every completion gets the same for another prompt; else 1 less the mean squared difference over twice the variance."""
    same = [(0.1 * number, 0.1 * number) for number in range(8)]
    assert rollout_metrics.prompt_independence(same) == {"prompt_independence": 1.0}
    half = [(1.0, 1.0), (0.0, 0.0)] * 3 + [(1.0, 0.0), (0.0, 0.0)]
    variance = 7 / 16 * 9 / 16
    expected = 1 - (1 / 8) / (2 * variance)
    assert rollout_metrics.prompt_independence(half)["prompt_independence"] == pytest.approx(expected)


def test_prompt_independence_of_right_answers_is_0():
    """An answer that is right for its own prompt alone."""
    assert rollout_metrics.prompt_independence([(1.0, 0.0)] * 8) == {"prompt_independence": 0.0}


def test_prompt_independence_is_not_measured_from_too_little():
    """Neither from few pairs nor where all rewards are equal."""
    assert rollout_metrics.prompt_independence([(0.0, 1.0)] * 7) == {}
    assert rollout_metrics.prompt_independence([(1.0, 1.0)] * 8) == {}
    assert rollout_metrics.prompt_independence([]) == {}
