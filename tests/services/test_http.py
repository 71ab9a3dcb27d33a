"""Rewards over HTTP: values, kinds of failures, batches and tries."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi", reason="needs rewardkit[serve]")

from starlette.testclient import TestClient  # noqa: E402

from rewardkit import NotApplicable, Outcome, Registry, Rollout, Score, Unscored, load_reward, reward  # noqa: E402
from rewardkit.serve.app import Settings, application  # noqa: E402
from rewardkit.services import limits  # noqa: E402

Answer = Callable[[Any], Any]
URL = "http://reward.test"


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer], list[Any]]]:
    """Answer all requests by a function; returns the list of their bodies. Pauses between tries are none."""
    client = httpx.AsyncClient
    bodies: list[Any] = []

    def start(answer: Answer) -> list[Any]:
        def handle(request: Any) -> Any:
            bodies.append(json.loads(request.content))
            return answer(request)

        monkeypatch.setattr(httpx, "AsyncClient", lambda **more: client(transport=httpx.MockTransport(handle), **more))
        return bodies

    monkeypatch.setattr(limits, "MAX_PAUSE_S", 0.0)
    yield start
    limits._endpoints.clear()


def outcomes(use: str, *rollouts: Rollout, more: str = "", **params: Any) -> list[Outcome]:
    """Score rollouts by one component."""
    settings = json.dumps({"url": URL, **params})
    with load_reward(f"version: 1\ncomponents: {{c: {{use: {use}, with: {settings}{more}}}}}\n") as loaded:
        return [item.outcomes["c"] for item in loaded.score(rollouts)]


@reward("toy")
def toy(rollout: Rollout) -> float | Unscored | NotApplicable:
    """Do what the completion says."""
    text = rollout.completion_text
    if text == "n/a":
        return NotApplicable("not for this")
    return Unscored(text, "so it is") if text in {"reference", "input"} else float(text)  # type: ignore[arg-type]


def test_our_own_service_gives_the_same_results(answering) -> None:
    """Values, metrics and the kinds of unscored rows come through; one request holds the batch."""
    registry = Registry()
    registry.register(toy)
    served = load_reward({"version": 1, "components": {"toy": {"use": "toy"}}}, registry=registry)
    with served, TestClient(application(served, Settings()), base_url="http://localhost") as client:

        def answer(request: Any) -> Any:
            found = client.post(request.url.path, content=request.content, headers={"content-type": "application/json"})
            return httpx.Response(found.status_code, content=found.content)

        bodies = answering(answer)
        texts = ("2", "reference", "\ud800", "n/a", "0.5")
        found = outcomes("http", *(Rollout("p", text, {"answer": 1}) for text in texts))
    assert found[0] == Score(2.0, "", {"toy": 2.0})
    assert [item.kind for item in found[1:4]] == ["reference", "plugin", "input"]  # type: ignore[union-attr]
    assert (found[4].value, len(bodies)) == (0.5, 1)  # type: ignore[union-attr]


def rewards_of(request: Any) -> Any:
    """Answer each row of our format by the length of its completion."""
    rows = json.loads(request.content)["rows"]
    return httpx.Response(200, json={"results": [{"reward": len(row["completion"])} for row in rows]})


def test_batches_have_the_size_that_the_limits_say(answering) -> None:
    """The results keep their order."""
    bodies = answering(rewards_of)
    found = outcomes("http", *(Rollout("p", "x" * size) for size in range(5)), more=", limits: {batch: 2}")
    assert [item.value for item in found] == [0, 1, 2, 3, 4]  # type: ignore[union-attr]
    assert sorted(len(body["rows"]) for body in bodies) == [1, 2, 2]


def test_a_group_is_one_request(answering) -> None:
    """``http.group`` sends whole groups."""
    bodies = answering(rewards_of)
    outcomes("http.group", *(Rollout("p", "x", group=size % 2) for size in range(6)))
    assert [len(body["rows"]) for body in bodies] == [3, 3]


def test_a_row_that_the_service_refuses_costs_no_other_its_score(answering) -> None:
    """The rows of a refused request are sent alone."""

    def answer(request: Any) -> Any:
        if "bad" in request.content.decode():
            return httpx.Response(422, json={"error": "row 1 is bad"})
        return rewards_of(request)

    answering(answer)
    found = outcomes("http", Rollout("p", "good"), Rollout("p", "bad"))
    assert found[0] == Score(4.0)
    assert isinstance(found[1], Unscored)
    assert (found[1].kind, "row 1 is bad" in found[1].message) == ("input", True)


@pytest.mark.parametrize(
    ("status", "kind", "tries"), [(503, "infra", 3), (429, "infra", 3), (401, "plugin", 1), (404, "plugin", 1)]
)
def test_failures_are_unscored(answering, status: int, kind: str, tries: int) -> None:
    """A service that is busy is tried again; a wrong address or token is not."""
    bodies = answering(lambda _request: httpx.Response(status, json={"error": "no"}))
    (found,) = outcomes("http", Rollout("p", "c"), more=", limits: {tries: 3}")
    assert (found.kind, len(bodies)) == (kind, tries)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>",
        b"[1]",
        b'{"results": []}',
        b'{"results": [{"reward": "1"}]}',
        b'{"results": [{"reward": null}]}',
        b'{"results": [{"reward": NaN}]}',
    ],
)
def test_what_is_no_answer_is_no_score(answering, answer: bytes) -> None:
    """Whatever a service says, a missing number is no 0."""
    answering(lambda _request: httpx.Response(200, content=answer))
    (found,) = outcomes("http", Rollout("p", "c"))
    assert isinstance(found, Unscored)
    assert found.kind == "plugin"


@pytest.mark.parametrize("rewards", [[2.0], 2.0, [[2.0]]])
def test_openrlhf_s_format(answering, rewards: Any) -> None:
    """Rewards are a list, a number, or a list of lists of one; the label is the column that is named."""
    bodies = answering(lambda _request: httpx.Response(200, json={"rewards": rewards, "extra_logs": {"acc": [1.0]}}))
    found = outcomes("openrlhf.url", Rollout("p", "c", {"gt": "5"}), label="gt")
    assert found == [Score(2.0, metrics={"acc": 1.0})]
    assert bodies == [{"query": ["pc"], "prompts": ["p"], "labels": ["5"]}]


def test_openrlhf_s_failures_keep_their_kind(answering) -> None:
    """A service of ours says why; null is no 0."""
    answering(lambda _request: httpx.Response(503, json={"error": "not scored", "kind": "reference"}))
    assert outcomes("openrlhf.url", Rollout("p", "c")) == [Unscored("reference", "not scored")]
    answering(lambda _request: httpx.Response(200, json={"rewards": [None]}))
    assert outcomes("openrlhf.url", Rollout("p", "c"))[0].kind == "infra"  # type: ignore[union-attr]


def test_a_wrong_address_is_refused_before_anything_runs() -> None:
    """The message names it."""
    with pytest.raises(Exception, match="url must be an address such as"):
        outcomes("http", Rollout("p", "c"), url="localhost:80")
