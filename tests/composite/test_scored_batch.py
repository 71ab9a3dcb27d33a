"""A scored batch as columns and as rows."""

from typing import Any

from rewardkit import Registry, Rollout, Unscored, load_reward, reward
from rewardkit.composite.scored_batch import ScoredBatch


@reward("length")
def length(rollout: Rollout) -> float | Unscored:
    """The length of the completion; an empty one can't be scored."""
    return float(len(rollout.completion_text)) if rollout.completion else Unscored("input", "it is empty")


def _score(source: dict[str, Any], rollouts: list[Rollout]) -> ScoredBatch:
    registry = Registry()
    registry.register(length)
    with load_reward({"version": 1, **source}, registry=registry) as composite:
        return composite.score_batch(rollouts)


def test_rows_hold_what_the_columns_hold() -> None:
    """For each rollout its reward, outcomes, weights, contributions, and why it is unscored."""
    batch = _score({"components": {"long": {"use": "length", "weight": 2}}}, [Rollout("p", "abc"), Rollout("p", "")])
    first, second = batch.rows()
    assert (first.reward, first.contributions, first.weights, first.unscored) == (
        6.0,
        {"long": 6.0},
        {"long": 2.0},
        None,
    )
    assert (second.reward, second.contributions, second.unscored) == (
        None,
        {"long": None},
        Unscored("input", "it is empty"),
    )
    assert second.outcomes == {"long": second.unscored}


def test_columns_of_rows_are_the_columns() -> None:
    """Rows can be turned into columns again."""
    batch = _score({"components": {"long": {"use": "length"}}}, [Rollout("p", "abc"), Rollout("p", "")])
    assert ScoredBatch.of(batch.rows(), ["long"]) == batch


def test_routed_rollouts_keep_their_order() -> None:
    """Each has the components of all composites, and has skipped those of the others."""
    composites = {
        name: {"components": {name: {"use": "length", "weight": weight}}} for name, weight in (("a", 1), ("b", 3))
    }
    routes = [{"match": {"kind": name}, "composite": name} for name in composites]
    rollouts = [Rollout("p", text, {"kind": kind}) for text, kind in (("x", "b"), ("xx", "a"), ("", "b"), ("xxx", "b"))]
    batch = _score({"composites": composites, "routes": routes}, rollouts)
    assert batch.rewards == [3.0, 2.0, None, 9.0]
    assert batch.unscored == {2: Unscored("input", "it is empty")}
    assert [item.weights for item in batch.rows()] == [{"a": 0.0, "b": 3.0}, {"a": 1.0, "b": 0.0}] + [
        {"a": 0.0, "b": 3.0}
    ] * 2
    assert [item.rollout for item in batch.rows()] == rollouts
    assert batch.contributions == {"a": [None, 2.0, None, None], "b": [3.0, None, None, 9.0]}
    assert batch.outcomes["b"][1].reason == "not part of composite 'a'"  # type: ignore[union-attr]
