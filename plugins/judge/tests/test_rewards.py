"""Verdicts become scores; whatever else happens is unscored."""

import json
import tempfile
import threading
from pathlib import Path

import pytest
from rewardkit_judge.rewards.marks import read_criteria
from rewardkit_judge.rewards.pairwise import bradley_terry, pairs
from scripted_judge import FakeJudge, completion, honest, question_of

from rewardkit import Rollout, Score, Unscored, load_reward
from rewardkit.services import limits

QUICK = {"tries": 2, "request_timeout": 5, "api_key": ""}


@pytest.fixture
def judge():
    """Start a server whose ``answer`` a test may replace."""
    found = FakeJudge(honest)
    yield found
    found.close()
    limits._endpoints.clear()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    """Retry at once."""
    monkeypatch.setattr(limits, "MAX_PAUSE_S", 0.0)


def load(components):
    """Load a reward."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "reward.yaml")
        file.write_text(json.dumps({"version": 1, "components": components}))
        return load_reward(file)


def outcomes(judge, use, rollouts, **params):
    """Score rollouts with one component, and return its outcomes."""
    component = {"use": use, "with": {"model": "m", "url": judge.url, **QUICK, **params}}
    with load({"judge": component}) as reward:
        return [scored.outcomes["judge"] for scored in reward.score(rollouts)]


RIGHT, WRONG = Rollout("2+2?", "It is right.", {"answer": "4"}), Rollout("2+2?", "It is not.", {"answer": "4"})
ONE = {"criteria": {"clear": "It is clear."}}


def test_marks_are_scaled_and_weighted(judge):
    """The score is the weighted mean of marks; each is a metric, and so is the cost."""

    def answer(_body):
        return json.dumps({"reasoning": "so", "scores": {"clear": 5, "short": 2}})

    judge.answer = answer
    criteria = {"clear": {"text": "Clear.", "weight": 3}, "short": "Short."}
    [score] = outcomes(judge, "judge.rubric", [RIGHT], criteria=criteria, prices={"prompt": 1.0, "completion": 10.0})
    assert score.value == pytest.approx((3 * 1.0 + 0.25) / 4)
    assert score.reason == "so"
    assert {**score.metrics} == pytest.approx(
        {
            "clear": 1.0,
            "short": 0.25,
            "judge_calls": 1,
            "judge_prompt_tokens": 100,
            "judge_completion_tokens": 10,
            "judge_cost": 2e-4,
        }
    )


def test_a_row_may_have_its_own_criteria(judge):
    """They come from a column, as a mapping, a list or JSON text; a row without any is unscored."""
    rows = [
        Rollout("q", "right", {"own": own}) for own in ({"a": "A."}, ["A.", "B."], '{"a": "A."}', None, {"a": ""}, "{")
    ]
    found = outcomes(judge, "judge.rubric", rows, criteria_field="own")
    assert [isinstance(one, Score) for one in found] == [True, True, True, False, False, False]
    assert [one.kind for one in found[3:]] == ["input"] * 3


@pytest.mark.parametrize(
    ("use", "params"),
    [
        ("judge.rubric", ONE),
        ("judge.principles", {"principles": ["It is honest.", "It is kind."]}),
        ("judge.reference", {"reference": "answer"}),
    ],
)
def test_right_beats_wrong(judge, use, params):
    """Each reward gives 1 to what the judge finds good and 0 to what it finds bad."""
    right, wrong = outcomes(judge, use, [RIGHT, WRONG], **params)
    assert (right.value, wrong.value) == (1.0, 0.0)


def test_pairs_are_judged_in_both_orders(judge):
    """A judge that always prefers the first response gives everybody one half, and its disagreement is a metric."""
    judge.answer = lambda _body: json.dumps({"reasoning": "first", "winner": "A"})
    group = [Rollout("q", text, group="g") for text in ("a", "b", "c")]
    found = outcomes(judge, "judge.pairwise", group)
    assert [score.value for score in found] == [0.5] * 3
    assert [score.metrics["order_agreement"] for score in found] == [0.0] * 3


@pytest.mark.parametrize("value", ["win_rate", "bradley_terry"])
def test_the_better_of_a_group_wins(judge, value):
    """Values are in the order of quality; equal completions are not asked about."""
    group = [Rollout("q", text, group="g") for text in ("right", "no", "no", "right indeed")]
    found = outcomes(judge, "judge.pairwise", group, value=value)
    assert found[0].value > 0.5 > found[1].value == found[2].value
    assert len(judge.requests) == 2 * 3  # equal questions are asked once


def test_a_group_of_one_has_nothing_to_compare(judge):
    """It is unscored."""
    [found] = outcomes(judge, "judge.pairwise", [Rollout("q", "right", group="g")])
    assert (found.kind, len(judge.requests)) == ("input", 0)


@pytest.mark.parametrize(
    ("reply", "calls", "message"),
    [
        ("The score is 5.", 2, "not one JSON object"),
        (json.dumps({"reasoning": "", "scores": {"clear": 9}}), 2, "is 9, not a whole number from 1 to 5"),
        (json.dumps({"reasoning": "", "scores": {"other": 5}}), 2, "not one for each of clear"),
        (json.dumps({"reasoning": "", "scores": 5}), 2, "not one for each of clear"),
        ((200, {}, completion(None, refusal="I won't.")), 2, "refused"),
        ((200, {}, completion("{", "length")), 2, "raise max_tokens"),
        ((200, {}, b"<html>"), 2, "not JSON"),
        ((500, {}, {"error": "overloaded"}), 2, "HTTP 500"),
        ((429, {"retry-after": "0"}, {"error": "slow down"}), 2, "HTTP 429"),
        ((401, {}, {"error": "no key"}), 1, "HTTP 401"),
        ((404, {}, {"error": "no such model"}), 1, "HTTP 404"),
    ],
)
def test_a_failure_is_unscored(judge, reply, calls, message):
    """Bad replies are asked for once more, and passing errors tried again; neither becomes a number."""
    judge.answer = lambda _body: reply
    [found] = outcomes(judge, "judge.rubric", [RIGHT], structured="off", **ONE)
    assert isinstance(found, Unscored)
    assert found.kind == "infra"
    assert message in found.message
    assert len(judge.requests) == calls


def test_a_dead_endpoint_is_called_no_more(judge):
    """After five failed calls in a row the others fail at once."""
    judge.close()
    found = outcomes(judge, "judge.rubric", [Rollout("q", f"{index}") for index in range(40)], concurrency=1, **ONE)
    assert {one.kind for one in found} == {"infra"}
    assert sum("is down" in one.message for one in found) >= 30


def test_a_passing_error_is_tried_again(judge):
    """One error of the server costs nothing but a call."""
    replies = iter([(503, {}, {}), (200, {}, b"{"), None])
    judge.answer = lambda body: next(replies) or honest(body)
    [found] = outcomes(judge, "judge.rubric", [RIGHT], **{**ONE, "tries": 3})
    assert (found.value, len(judge.requests)) == (1.0, 3)


def test_a_server_without_json_schemas_is_asked_without(judge):
    """``structured: auto`` sends the schema until the server refuses it."""

    def answer(body):
        if "response_format" in body:
            return 400, {}, {"error": "response_format is not supported"}
        return honest(body)

    judge.answer = answer
    [found] = outcomes(judge, "judge.rubric", [RIGHT], **ONE)
    assert found.value == 1.0
    [found] = outcomes(judge, "judge.rubric", [RIGHT], structured="on", **ONE)
    assert found.kind == "infra"


def test_votes_are_averaged_and_their_spread_is_told(judge):
    """Votes have different seeds; more than half of them must give a verdict."""

    def answer(body):
        if body["seed"] in {2, 3}:
            return "no verdict"
        return json.dumps({"reasoning": "", "scores": {"clear": 5 if body["seed"] else 1}})

    judge.answer = answer
    [found] = outcomes(judge, "judge.rubric", [RIGHT], votes=3, temperature=0.7, **ONE)
    assert (found.value, found.metrics["votes_std"], found.repeatable) == (0.5, 0.5, False)
    [found] = outcomes(judge, "judge.rubric", [RIGHT], votes=2, temperature=0.7, **ONE)
    assert found.kind == "infra"


def test_calls_at_once_are_limited_for_all_components(judge):
    """Two components that use one endpoint share its limit."""
    gate = threading.Barrier(4, timeout=60)

    def answer(body):
        gate.wait()
        return honest(body)

    judge.answer = answer
    with_ = {"model": "m", "url": judge.url, **QUICK, "concurrency": 4, "request_timeout": 60, **ONE}
    both = {name: {"use": "judge.rubric", "with": {**with_, "low": low}} for name, low in (("a", 1), ("b", 2))}
    with load(both) as reward:
        scored = reward.score([Rollout("q", f"right {index}") for index in range(8)])
    assert [one.status for one in scored] == ["scored"] * 8
    assert judge.most_at_once == 4


def test_the_key_comes_from_the_environment(judge, monkeypatch):
    """It is sent, and does not appear in messages."""
    monkeypatch.setenv("MY_KEY", "secret-key")
    judge.answer = lambda _body: (401, {}, {"error": "wrong"})
    [found] = outcomes(judge, "judge.rubric", [RIGHT], **{**ONE, "api_key": "MY_KEY"})
    assert set(judge.keys) == {"Bearer secret-key"}
    assert "secret-key" not in found.message


def test_a_users_prompt_is_used(judge, tmp_path):
    """A file replaces the prompt."""
    (tmp_path / "mine.txt").write_text("MINE $criteria $question $response from $low (worst) to $high")
    outcomes(judge, "judge.rubric", [RIGHT], prompt=str(tmp_path / "mine.txt"), **ONE)
    assert question_of(judge.requests[0]).startswith("MINE - ")


@pytest.mark.parametrize(
    "given",
    [3, {"a": 3}, {"a": {"weight": 2}}, {"a": {"text": "A", "weight": 0}}, {"a": {"text": "A", "weight": True}}],
)
def test_wrong_criteria_are_refused(given):
    """Criteria have texts and positive weights."""
    with pytest.raises(ValueError, match="criteri"):
        read_criteria(given)


@pytest.mark.parametrize(("count", "opponents"), [(2, None), (5, None), (8, 2), (8, 4), (3, 9)])
def test_everybody_has_equally_many_opponents(count, opponents):
    """Pairs are distinct, and each completion occurs equally often."""
    found = pairs(count, opponents)
    played = [sum(one in pair for pair in found) for one in range(count)]
    assert len(set(found)) == len(found)
    assert len(set(played)) == 1
    assert min(count - 1, opponents or count) <= played[0] <= count - 1


def test_bradley_terry_by_hand():
    """With equal records everybody has 1/2; a winner of everything stays below 1."""
    assert bradley_terry([[0, 0.5], [0.5, 0]]) == pytest.approx([0.5, 0.5])
    first, second = bradley_terry([[0, 1], [0, 0]])
    assert 0 < second < 0.5 < first < 1
    assert first + second == pytest.approx(1.0)


def test_a_judge_decides_what_math_can_not(judge):
    """Where math says that it can't compare a reference, ``when: "correct == null"`` asks the judge, and only there."""
    pytest.importorskip("rewardkit_math")
    shared = {"model": "m", "url": judge.url, **QUICK, "reference": "answer"}
    components = {
        "correct": {"use": "math", "with": {"reference": "answer", "undecided": "not_applicable"}},
        "same": {"use": "judge.reference", "with": shared, "when": "correct == null"},
    }
    sentence = "The function is continuous on the whole real line because each of its pieces is."
    rows = [
        Rollout("2+2?", r"\boxed{4}", {"answer": "4"}),
        Rollout("Why?", "It is right.", {"answer": sentence}),
        Rollout("Why?", "It is not.", {"answer": sentence}),
    ]
    with load(components) as reward:
        scored = reward.score(rows)
    assert [one.reward for one in scored] == [1.0, 1.0, 0.0]
    assert len(judge.requests) == 2
