"""A composite reward as a reward of verifiers."""

import asyncio

import pytest

from rewardkit.errors import UsageError
from rewardkit.integrations.verifiers import score

from .conftest import ANSWERS, BROKEN, COMPLETIONS, GROUPS, TOKENS, advantages

vf = pytest.importorskip(
    "verifiers.v1", reason="needs verifiers, which has an environment of its own: make test-integrations"
)

REWARD = {"rewardkit": {"fn": "rewardkit.integrations.verifiers:reward"}}
METRIC = {"parts": {"fn": "rewardkit.integrations.verifiers:components"}}


class SumData(vf.TaskData):
    """A sum."""

    answer: str | None = None


class SumTask(vf.Task[SumData, vf.State, vf.TaskConfig]):
    """A task without rewards of its own."""


def traced(answer: str, completion: str, config=None):
    """A task and its finished trace."""
    from verifiers.v1.trace import AgentInfo, Branch, MessageNode, Trace, TraceTask  # noqa: F401
    from verifiers.v1.types import AssistantMessage, UserMessage

    task = SumTask(SumData(prompt="2+3?", answer=answer), config)
    nodes = [
        MessageNode(message=UserMessage(content="2+3?"), parent=None),
        MessageNode(message=AssistantMessage(content=completion), parent=0),
    ]
    trace = Trace[SumData, vf.State].model_construct(
        task=TraceTask(type="SumTask", data=task.data, key=task.key, hash=task.hash), nodes=nodes
    )
    return task, trace


def plugged():
    """A configuration that plugs the reward and the components."""
    return vf.TaskConfig(rewards=REWARD, metrics=METRIC)


def test_failures_are_errors_and_siblings_keep_their_advantages(file, monkeypatch, truth) -> None:
    """Of a group with 25 % failures, the failed trace gets a TaskError and no reward; the others are as without it."""
    monkeypatch.setenv("REWARDKIT_REWARD", file())
    found = []
    for answer, completion in zip(ANSWERS, COMPLETIONS, strict=True):
        task, trace = traced(answer, completion, plugged())
        if answer == BROKEN:
            with pytest.raises(vf.TaskError, match="not scored \\(reference\\)"):
                asyncio.run(task.score(trace))
            assert trace.rewards["rewardkit"] is None
            assert trace.info["rewardkit"]["unscored"]["kind"] == "reference"
        else:
            asyncio.run(task.score(trace))
            found.append(trace.reward)
            assert trace.metrics == {"rewardkit/right": found[-1]}
    truth("verifiers from 0.4, reward", "verifiers", "`TaskError`: no training sample", advantages(found))


def test_a_task_may_call_it(file) -> None:
    """A task's own reward scores by a file."""
    task, trace = traced("5", "\\boxed{5}")
    assert asyncio.run(score(task.data, trace, file())) == 1.0


def test_groups_are_refused(file) -> None:
    """Verifiers scores one trace at a time."""
    task, trace = traced("5", "\\boxed{5}")
    with pytest.raises(UsageError, match="verifiers scores one rollout at a time"):
        asyncio.run(score(task.data, trace, file(GROUPS)))


def test_tokens_are_unknown_without_usage(file) -> None:
    """A trace without usage has no token count; a reward that needs it leaves the trace unscored instead of guessing."""
    from rewardkit.integrations.common import NotScoredError

    task, trace = traced("5", "\\boxed{5}")
    with pytest.raises(NotScoredError, match="not scored \\(input\\)"):
        asyncio.run(score(task.data, trace, file(TOKENS)))
