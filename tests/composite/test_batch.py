"""How a batch is combined where a component does not apply to a row."""

from collections.abc import Mapping
from typing import Any

import pytest

from rewardkit import NotApplicable, Registry, Rollout, Score, ScoredRollout, Unscored, load_reward, reward
from rewardkit.composite import ScoreCache
from rewardkit.scoring.formats.encode import score_columns
from rewardkit.scoring.summary import Summary

calls: list[str] = []


@reward("says", deterministic=True)
def says(rollout: Rollout, *, key: str) -> Score | NotApplicable:
    """The number in a column; does not apply where there is none."""
    calls.append(key)
    value = rollout.fields.get(key)
    return NotApplicable(f"no {key}") if value is None else Score(value)


@reward("counts", needs_tokens=True, needs_finish_reason=True)
def counts(rollout: Rollout) -> float:
    """The number of tokens."""
    return float(rollout.num_tokens or 0)


def registry() -> Registry:
    """The rewards above."""
    known = Registry()
    known.register(says)
    known.register(counts)
    return known


def scored(fields: Mapping[str, Any], more: Mapping[str, Any] | None = None, **kind: Any) -> ScoredRollout:
    """Score a row by a, of weight 2, and b, of weight 3."""
    parts = {name: {"use": "says", "with": {"key": name}, "weight": weight} for name, weight in (("a", 2), ("b", 3))}
    source = {"version": 1, "components": {**parts, **(more or {})}, **kind}
    with load_reward(source, registry=registry()) as reward:
        return reward.score(Rollout("p", "c", fields))


@pytest.mark.parametrize(
    ("combine", "expected"), [("sum", 2.0), ("mean", 1.0), ("product", 2.0), ("min", 2.0), ("normalized_sum", 0.0)]
)
def test_a_component_that_does_not_apply_takes_no_part(combine: str, expected: float) -> None:
    """The weights of the others stay, and no mode counts it."""
    item = scored({"a": 1.0}, combine=combine)
    assert (item.reward, item.status, item.contributions["b"]) == (expected, "scored", None)


def test_a_row_that_no_component_applies_to_is_unscored() -> None:
    """It gets no reward of 0, and the reason names the components."""
    item = scored({})
    assert item.unscored == Unscored("input", "no component applies to this row (a: no a; b: no b)")
    assert item.reward is None


def test_an_observed_component_makes_no_row_scored() -> None:
    """A component of weight 0 does not count as a score."""
    observed = {"c": {"use": "says", "with": {"key": "c"}, "weight": 0}}
    assert scored({"c": 1.0}, observed).status == "unscored"


def test_conditions_read_null() -> None:
    """The value of a component that does not apply is null in a condition."""
    more = {"c": {"use": "says", "with": {"key": "c"}, "when": "b == null and not b > 0"}}
    assert scored({"a": 1.0, "c": 5.0}, more).reward == 7.0


@pytest.mark.parametrize(
    ("gate", "expected"), [("b == null or b > 0", 2.0), ("b > 0", None), ("b > 0 and a > 1", -1.0)]
)
def test_a_gate_that_reads_only_what_does_not_apply_gives_no_reward(gate: str, expected: float | None) -> None:
    """A gate that is shut by a score gives its value; one that is shut because nothing that it reads applies does not."""
    assert scored({"a": 1.0}, gate=gate, gate_value=-1.0).reward == expected


def test_the_cache_keeps_that_a_component_does_not_apply(tmp_path: Any) -> None:
    """The reward is not called again."""
    source = {"version": 1, "components": {"a": {"use": "says", "with": {"key": "a"}}}}
    calls.clear()
    for _ in range(2):
        with load_reward(source, registry=registry(), cache=ScoreCache(tmp_path)) as reward:
            assert reward.score(Rollout("p", "c")).outcomes["a"] == NotApplicable("no a")
    assert calls == ["a"]


def test_scored_rows_and_summaries_count_it() -> None:
    """The status is not_applicable, in rows and in the summary."""
    item = scored({"a": 1.0})
    assert item.to_dict()["components"]["b"] == {
        "value": None,
        "weight": 3.0,
        "contribution": None,
        "status": "not_applicable",
        "reason": "no b",
    }
    columns = score_columns([item], ["a", "b"], ["f:1"]).components["b"]
    summary = Summary.empty(("a", "b"))
    summary.add_outcomes("b", columns.statuses, [None], columns.reasons)
    assert summary.data()["components"]["b"]["not_applicable"] == 1


@pytest.mark.parametrize(
    ("known", "told"), [({"finish_reason": "stop"}, "how many tokens"), ({"num_tokens": 3}, "was truncated")]
)
def test_a_rollout_that_lacks_what_a_reward_declares_is_unscored(known: Mapping[str, Any], told: str) -> None:
    """The number of tokens and the finish reason are needed like columns."""
    source = {"version": 1, "components": {"n": {"use": "counts"}}}
    with load_reward(source, registry=registry()) as reward:
        item = reward.score(Rollout("p", "c", **known))
        problems = reward.config.row_problems(Rollout("p", "c", **known))
    assert item.unscored is not None
    assert item.unscored.kind == "input"
    assert told in item.unscored.message
    assert problems == [("n", item.unscored.message)]


def test_a_reward_tells_what_it_requires() -> None:
    """Columns, tokens, finish reason and groups, of components, conditions, gates and routes."""
    says_a = {"use": "says", "with": {"key": "a"}}
    source = {
        "version": 1,
        "composites": {
            "x": {
                "components": {"n": {"use": "counts"}, "z": {**says_a, "scale": "zscore", "when": "fields.level > 1"}}
            },
            "y": {
                "components": {"a": {**says_a, "when": "num_tokens > 2"}},
                "gate": 'a > 0 and finish_reason == "stop"',
            },
        },
        "routes": [{"match": {"source": "x*"}, "composite": "x"}, {"match": {}, "composite": "y"}],
    }
    with load_reward(source, registry=registry()) as reward:
        needs = reward.requirements
    assert needs.columns == ("level", "source")
    assert (needs.tokens, needs.finish_reason, needs.groups) == (("n", "a"), ("n", "gate"), ("z",))
