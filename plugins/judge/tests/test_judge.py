"""Questions are asked once, every call is counted, and nothing but a verdict becomes a score."""

import asyncio
import gzip
import json
import random
import subprocess
import sys
import threading

import pytest
from rewardkit_judge.endpoint import Endpoint, EndpointError, Usage
from rewardkit_judge.judge import Judge, NoVerdictError, watching
from rewardkit_judge.options import Options
from rewardkit_judge.rewards import Pairwise, Principles, Reference, Rubric
from scripted_judge import FakeJudge, completion, honest

from rewardkit import Rollout, Score
from rewardkit.services import limits

OWN = {"model": "m", "url": "http://127.0.0.1:1/v1", "api_key": "", "tries": 1}
ROLLOUT = Rollout("2+2?", "It is right.", {"answer": "4"}, group="g")
ALL = [
    Rubric(criteria={"clear": "It is clear."}, **OWN),
    Principles(principles=["It is honest."], **OWN),
    Reference(reference="answer", **OWN),
    Pairwise(**OWN),
]
GOOD = [
    {"reasoning": "", "scores": {"clear": 5}},
    {"reasoning": "", "scores": {"p1": 1}},
    {"reasoning": "", "equal": True},
    {"reasoning": "", "winner": "A"},
]


@pytest.fixture
def fake():
    """Start a server."""
    found = FakeJudge(honest)
    yield found
    found.close()
    limits._endpoints.clear()


@pytest.fixture
def answered(monkeypatch):
    """Answer calls of endpoints without a network: return the list from which replies are taken, the last one for ever."""
    replies = []
    asked = []

    async def chat(_self, body):
        await asyncio.sleep(0)
        asked.append(body)
        found = replies.pop(0) if len(replies) > 1 else replies[0]
        if isinstance(found, Exception):
            raise found
        return found, Usage(1, 10, 1)

    monkeypatch.setattr(Endpoint, "chat", chat)
    return replies, asked


def ask(reward, rollouts):
    """Score rollouts with a new copy of a reward's judge."""
    reward.judge = Judge(reward.judge.options)
    return asyncio.run(_ask(reward, rollouts))


async def _ask(reward, rollouts):
    try:
        return await reward(rollouts)
    finally:
        await reward.close()


def test_equal_questions_are_asked_once(answered):
    """Rows that differ in other columns, at the same time or later, share one call, and each tells its cost."""
    replies, asked = answered
    replies.append(completion(json.dumps(GOOD[0])))
    rows = [Rollout("q", "same", {"id": number}) for number in range(5)]
    found = ask(ALL[0], rows)
    assert len(asked) == 1
    assert [score.metrics["judge_calls"] for score in found] == [1.0] * 5
    assert ALL[0].costs() == {
        "judge_calls": 1.0,
        "judge_prompt_tokens": 10.0,
        "judge_completion_tokens": 1.0,
        "judge_equal_questions": 4.0,
    }


def test_a_bad_reply_is_not_remembered(answered):
    """A later equal question is asked again, and calls without a verdict are counted in the costs."""
    replies, asked = answered
    replies += [completion("no"), completion("no"), completion(json.dumps(GOOD[0]))]

    async def twice():
        first = await ALL[0]([ROLLOUT])
        return first, await ALL[0]([ROLLOUT])

    ALL[0].judge = Judge(ALL[0].judge.options)
    [first], [second] = asyncio.run(twice())
    assert (first.kind, second.value, len(asked)) == ("infra", 1.0, 3)
    assert ALL[0].costs()["judge_calls"] == 3.0


def test_a_cancelled_question_does_not_take_others_with_it(answered):
    """The call goes on for whoever else waits for the same reply."""
    replies, asked = answered
    replies.append(completion(json.dumps(GOOD[0])))

    async def both():
        reward = ALL[0]
        reward.judge = Judge(reward.judge.options)
        first, second = asyncio.create_task(reward([ROLLOUT])), asyncio.create_task(reward([ROLLOUT]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        first.cancel()
        return await second

    [score] = asyncio.run(both())
    assert (score.value, len(asked)) == (1.0, 1)


def test_a_time_out_keeps_its_kind(fake):
    """An endpoint that takes too long is ``timeout``, one that fails ``infra``."""
    options = Options(model="m", url="http://127.0.0.1:1/v1", api_key="", tries=1)
    with pytest.raises(NoVerdictError) as caught:
        asyncio.run(Judge(options).text([{"role": "user", "content": "q"}]))
    assert caught.value.unscored.kind == "infra"
    gate = threading.Event()
    fake.answer = lambda _body: str(gate.wait(20))
    late = Options(model="m", url=fake.url, api_key="", tries=1, request_timeout=0.05)
    with pytest.raises(NoVerdictError, match=r"no response within 0\.05 s") as caught:
        asyncio.run(Judge(late).text([{"role": "user", "content": "q"}]))
    gate.set()
    assert caught.value.unscored.kind == "timeout"


def test_exchanges_can_be_watched(answered):
    """Whoever looks at a judge sees each request, each reply as it came, and the votes."""
    replies, _ = answered
    replies += [completion("no"), completion(json.dumps(GOOD[0]))]

    async def watched():
        ALL[0].judge = Judge(ALL[0].judge.options)
        with watching() as watch:
            await ALL[0]([ROLLOUT])
        return watch

    watch = asyncio.run(watched())
    assert [(item.reply, bool(item.problem)) for item in watch.exchanges] == [
        ("no", True),
        (json.dumps(GOOD[0]), False),
    ]
    assert watch.votes == [(1.0,)]


# --- what is no verdict ----------------------------------------------------------------------------------------------------


def damaged(draw, good):
    """Return a response of an endpoint that holds no verdict, made from one that does."""
    text = json.dumps(good)
    [key] = set(good) - {"reasoning"}
    value = good[key]
    wrong = draw.choice([None, 2.5, "5", True if key == "scores" else 1, [1], -1, 99, {}, "C", 1e309])
    match draw.randrange(14):
        case 0:
            return completion(text, "length")
        case 1:
            return completion(text, refusal="I can't do that.")
        case 2:
            return completion(text, "content_filter")
        case 3:
            return completion(draw.choice(["Sure! ", "The response says ", "5 ", "```json "]) + text)
        case 4:
            return completion(text + draw.choice([" is what it asked for", text, "}", " 5", "\n\nScore: 5"]))
        case 5:
            return completion(text[: draw.randrange(len(text) - 1)])
        case 6:
            return completion(json.dumps({**good, key: dict.fromkeys(value, wrong) if key == "scores" else wrong}))
        case 7:
            return completion(json.dumps({**good, draw.choice(["score", "verdict", "x"]): value}))
        case 8:
            lost = draw.choice(list(good))
            return completion(json.dumps({name: item for name, item in good.items() if name != lost}))
        case 9:
            return completion(text[:-1] + f', "{key}": {json.dumps(value)}}}')
        case 10:
            return completion(draw.choice([None, "", "  ", "null", "[]", f"[{text}]", json.dumps(text), "NaN"]))
        case 11:
            return draw.choice([None, [], {}, "text", 5, {"choices": []}, {"choices": [{}]}, {"error": text}])
        case 12:
            return {"choices": [{"message": draw.choice([text, None, [text], {"content": [text]}, {"text": text}])}]}
    return EndpointError(f"HTTP 500: {text}")


def test_no_reply_without_a_verdict_becomes_a_score(answered):
    """10,000 refused, cut, unparseable, ambiguous and out-of-range replies, to all judges: 0 scores."""
    replies, bodies = answered
    draw = random.Random(7)  # noqa: S311
    rollouts = [Rollout("q", f"{number}", {"answer": "4"}, group="g") for number in range(60)]
    scored = asked = 0
    while asked < 10_000:
        for reward, good in zip(ALL, GOOD, strict=True):
            replies[:] = [damaged(draw, good) for _ in range(150)]
            scored += sum(isinstance(one, Score) for one in ask(reward, rollouts[: 9 if reward is ALL[3] else 60]))
            asked = len(bodies)
    assert (scored, asked >= 10_000) == (0, True)


BODY = completion(json.dumps(GOOD[2]))
STREAM = "".join(f"data: {json.dumps({'choices': [{'delta': {'content': part}}]})}\n\n" for part in json.dumps(GOOD[2]))


@pytest.mark.parametrize(
    ("headers", "raw"),
    [
        ({}, b'<html><body>502 Bad Gateway {"equal": true}</body></html>'),
        ({"content-encoding": "gzip"}, b"\x1f\x8bnot gzip at all"),
        ({"content-encoding": "gzip"}, gzip.compress(json.dumps(BODY).encode())[:-12]),
        ({"content-encoding": "br"}, json.dumps(BODY).encode() + b"}"),
        ({"content-type": "text/event-stream"}, STREAM.encode()),
        ({}, b""),
        ({}, json.dumps(BODY).encode()[:-1]),
        ({}, json.dumps(BODY).encode() * 2),
        ({}, json.dumps(BODY).encode()[:-1] + b', "choices": []}'),
        ({}, json.dumps(BODY).encode("utf-16")[1:]),
        ({}, b"[" * 100_000),
        ({}, json.dumps({**BODY, "choices": []}).encode()),
        ({}, json.dumps({"choices": [{**BODY["choices"][0], "finish_reason": "length"}]}).encode()),
    ],
)
def test_a_body_that_is_no_whole_reply_is_no_score(fake, headers, raw):
    """What gateways and servers send with HTTP 200 is unscored, as a failure of the endpoint, not of the plugin."""
    fake.answer = lambda _body: (200, headers, raw)
    [found] = ask(Reference(reference="answer", **{**OWN, "url": fake.url}), [ROLLOUT])
    assert (found.kind, isinstance(found, Score)) == ("infra", False)


def test_a_whole_reply_may_be_compressed(fake):
    """So that the cases above can fail."""
    fake.answer = lambda _body: (200, {"content-encoding": "gzip"}, gzip.compress(json.dumps(BODY).encode()))
    [found] = ask(Reference(reference="answer", **{**OWN, "url": fake.url}), [ROLLOUT])
    assert found.value == 1.0


# --- the endpoint at the start of a run -------------------------------------------------------------------------------------


def listing(fake, status, data):
    """Let a server answer GET /models."""

    def answer(handler):
        raw = json.dumps(data).encode()
        handler.send_response(status)
        handler.send_header("content-length", str(len(raw)))
        handler.end_headers()
        handler.wfile.write(raw)

    fake.server.RequestHandlerClass.do_GET = answer


@pytest.mark.parametrize(
    ("status", "data", "told"),
    [
        (200, {"data": [{"id": "my-judge"}, {"id": "other"}]}, None),
        (200, {"data": [{"id": "my-judge-2"}]}, "does not know the model 'my-judge'; did you mean 'my-judge-2'?"),
        (200, {"data": []}, "it has none"),
        (200, {"object": "list"}, None),
        (404, {}, None),
        (401, {}, "HTTP 401, which means a missing or wrong key: the environment variable NO_KEY has no value"),
        (503, {"error": "loading"}, "is the server still starting?"),
    ],
)
def test_an_endpoint_is_asked_for_its_models(fake, status, data, told):
    """What is wrong is told with the address; an endpoint that lists no models is trusted."""
    listing(fake, status, data)
    problem = Endpoint(fake.url, 1, 1, 5.0, "NO_KEY").problem("my-judge")
    assert problem is None if told is None else told in problem


def test_an_endpoint_that_is_down_is_told_at_once():
    """The message has the address and what to do."""
    problem = Endpoint("http://127.0.0.1:1/v1", 1, 1, 5.0, "").problem("m")
    assert "http://127.0.0.1:1/v1/models can't be reached" in problem
    assert "start the server, or correct url" in problem


def test_a_preflight_can_be_left_out():
    """For endpoints that serve models which they do not list."""
    assert Judge(Options(model="m", url="http://127.0.0.1:1/v1", preflight=False)).problem() is None


def test_loading_the_plugin_loads_no_http_client():
    """The package httpx is imported with the first call."""
    code = "import sys, rewardkit; rewardkit.Registry.load(only=['judge']); print('httpx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
