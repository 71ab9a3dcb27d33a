"""A composite reward as a Rubric of verifiers up to 0.3."""

import asyncio
import importlib.metadata
import os
import sys

import pytest

from rewardkit.errors import UsageError
from rewardkit.integrations.common import NotScoredError
from rewardkit.integrations.verifiers_rubric import rubric

from .conftest import ANSWERS, BROKEN, COMPLETIONS, GROUPS, SCORED


def state(answer: str, completion: str):
    """A finished state, as verifiers 0.3 has it."""
    return {
        "input": {"prompt": "2+3?", "answer": answer, "example_id": 0},
        "prompt": [{"role": "user", "content": "2+3?"}],
        "completion": [{"role": "assistant", "content": completion}],
        "answer": answer,
        "info": {},
        "trajectory": [{"tokens": {"completion_ids": [1, 2]}, "reward": None, "advantage": None}],
    }


@pytest.fixture
def legacy(monkeypatch):
    """Verifiers 0.3, from the folder of its unpacked wheel."""
    folder = os.environ.get("VERIFIERS_LEGACY", "")
    if not folder:
        pytest.skip("needs verifiers 0.3, in the folder that VERIFIERS_LEGACY names: make test-integrations")
    others = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "verifiers"}
    monkeypatch.syspath_prepend(folder)
    try:
        import verifiers.rubrics.rubric

        yield verifiers
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "verifiers"]:
            del sys.modules[name]
        sys.modules.update(others)


@pytest.mark.filterwarnings("ignore")
def test_a_failure_has_an_error_and_no_advantage(legacy, file, truth) -> None:
    """Of a group with 25 % failures, the failed state has an error, and the others have the advantages of a group without it."""
    made = rubric(file())
    assert isinstance(made, legacy.Rubric)
    states = [legacy.State(state(*pair)) for pair in zip(ANSWERS, COMPLETIONS, strict=True)]
    asyncio.run(made.score_group(states))
    assert "not scored (reference)" in str(states[0]["error"])
    assert states[0]["trajectory"][0]["advantage"] == states[0]["advantage"] == pytest.approx(0)
    assert [item["reward"] for item in states[1:]] == SCORED
    assert states[1]["metrics"] == {"rewardkit/right": 1.0}
    assert importlib.metadata.version("verifiers")
    mean = sum(SCORED) / 3
    truth(
        "verifiers up to 0.3, Rubric",
        "verifiers",
        '`state["error"]`, advantage 0, out of the baseline',
        [item["advantage"] for item in states[1:]],
        wanted=[value - mean for value in SCORED],
    )


@pytest.mark.filterwarnings("ignore")
def test_a_group_without_any_score_raises(legacy, file) -> None:
    """There is no sibling that could stand in."""
    with pytest.raises(NotScoredError):
        asyncio.run(rubric(file()).score_rollout(legacy.State(state(BROKEN, "5"))))


@pytest.mark.filterwarnings("ignore")
def test_groups_are_compared(legacy, file) -> None:
    """A reward that compares the rollouts of a group gets the whole group, and is refused for a single rollout."""
    made = rubric(file(GROUPS))
    states = [legacy.State(state("5", text)) for text in ("\\boxed{5}", "\\boxed{6}")]
    asyncio.run(made.score_group(states))
    assert states[0]["reward"] > 0 > states[1]["reward"]
    with pytest.raises(UsageError, match="without score_group scores one rollout at a time"):
        asyncio.run(made.score_rollout(states[0]))


def test_later_versions_are_told_apart(file, monkeypatch) -> None:
    """Verifiers 0.4 has no Rubric, and the message names the adapter for it."""
    monkeypatch.setitem(sys.modules, "verifiers", None)
    with pytest.raises(UsageError, match=r"rewardkit\.integrations\.verifiers"):
        rubric(file())
