"""The service's routes, access and limits."""

import base64
import json
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from rewardkit import Registry, load_reward, reward
from rewardkit.cli import run

MATH = """version: 1
components:
  right: {use: math, with: {reference: answer}}
  short: {use: length.overlong, with: {max_tokens: 16, buffer: 8}, when: "right == 1"}
unscored: {abort_above: 0.9}
"""
ROWS = [
    {"prompt": "2+3?", "completion": "\\boxed{5}", "answer": "5", "num_tokens": 12},
    {"prompt": "2+3?", "completion": "\\boxed{6}", "answer": "5", "num_tokens": 3},
    {"prompt": "2+3?", "completion": "\\boxed{5}", "answer": "\\frac{1}{", "num_tokens": 3},
    {
        "prompt": [{"role": "user", "content": "é\u2028?"}],
        "completion": "\\boxed{1/3}",
        "answer": "0.5",
        "num_tokens": 3,
    },
]


def row(answer="x", completion="12345", **more):
    """A row for the toy reward."""
    return {"prompt": "q", "completion": completion, "answer": answer, **more}


def post(client: TestClient, path: str, data, **headers):
    """Post JSON."""
    return client.post(path, content=json.dumps(data), headers={"content-type": "application/json", **headers})


def test_lines_are_those_of_the_command(serving, tmp_path: Path) -> None:
    """JSON Lines sent to /score come back byte for byte as `rewardkit score` writes them."""
    lines = "".join(json.dumps(item) + "\n" for item in ROWS)
    source, out = tmp_path / "request", tmp_path / "out.jsonl"
    source.with_suffix(".jsonl").write_text(lines)
    client = serving(MATH, Registry.load())
    arguments = [
        str(source.with_suffix(".jsonl")),
        "--reward",
        str(tmp_path / "reward.yaml"),
        "--out",
        str(out),
        "--no-cache",
    ]
    assert run(["score", *arguments]) == 0
    answer = client.post("/score", content=lines, headers={"content-type": "application/x-ndjson"})
    assert answer.status_code == 200
    assert answer.content == out.read_bytes()


def test_json_has_the_same_rewards(serving, tmp_path: Path) -> None:
    """The JSON form of /score gives the same bits as scoring in Python, and the kind of failure where there is no reward."""
    client = serving(MATH, Registry.load())
    results = post(client, "/score", {"rows": ROWS}).json()["results"]
    lines = client.post(
        "/score", content="\n".join(map(json.dumps, ROWS)), headers={"content-type": "application/jsonl"}
    ).content.splitlines()
    assert (
        [item["reward"] for item in results] == [json.loads(line)["reward"] for line in lines] == [0.5, 0.0, None, 0.0]
    )
    assert results[2]["unscored"]["kind"] == "reference"
    assert results[2]["reward_status"] == "unscored"


def test_the_reward_id_is_the_files(serving, tmp_path: Path) -> None:
    """Also where the policy `fail` is applied by the service instead of the engine."""
    client = serving(MATH.replace("abort_above: 0.9", "policy: fail"), Registry.load())
    with load_reward(tmp_path / "reward.yaml") as own:
        assert client.get("/ready").json()["reward_id"] == own.reward_id


def test_fail_concerns_one_request(serving) -> None:
    """With the policy `fail`, a request with an unscored row gets an error that names the kind, and others are answered."""
    client = serving("version: 1\ncomponents: {size: {use: toy.size}}\nunscored: {policy: fail}\n")
    answer = post(client, "/score", {"rows": [row(), row("infra")]})
    assert (answer.status_code, answer.json()["kind"]) == (503, "infra")
    assert post(client, "/score", {"rows": [row()]}).json()["results"][0]["reward"] == 0.5


def test_zero_is_only_on_wish(serving) -> None:
    """Only a reward file with the policy `zero` makes a failure a number, and it stays marked as unscored."""
    client = serving("version: 1\ncomponents: {size: {use: toy.size}}\nunscored: {policy: zero}\n")
    result = post(client, "/score", {"rows": [row("infra")]}).json()["results"][0]
    assert (result["reward"], result["reward_status"]) == (0.0, "unscored")


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ("{", 400, "not JSON"),
        ("[]", 400, "must be a JSON object"),
        ("{}", 422, '"rows", a list'),
        ('{"rows": [1]}', 422, "row 1: is no object"),
        ('{"rows": [{"prompt": "q"}]}', 422, "row 1: there is no column 'completion'"),
        ('{"rows": [{"prompt": "q", "completion": 7}]}', 422, "row 1: 'completion' must be text"),
        ("[" * 300 + "]" * 300, 400, "nested 300 levels"),
    ],
)
def test_bad_bodies_are_explained(serving, body: str, status: int, message: str) -> None:
    """A body that can't be used is refused as a whole, with what is wrong and where."""
    answer = serving().post("/score", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert message in answer.json()["error"]


def test_a_row_without_route_is_refused(serving) -> None:
    """A row that no route takes fails its own request, with its number."""
    text = "version: 1\ncomposites: {a: {components: {size: {use: toy.size}}}}\nroutes: [{match: {kind: m}, composite: a}]\n"
    answer = post(serving(text), "/score", {"rows": [row(kind="m"), row(kind="z")]})
    assert answer.status_code == 422
    assert answer.json()["rows"][0]["row"] == 2
    assert "no route matches a row with kind='z'" in answer.json()["error"]


def test_a_list_of_completions_is_scored_each(serving) -> None:
    """A row with several completions gives as many results, as in files."""
    results = post(serving(), "/score", {"rows": [row(completion=["1", "12"])]}).json()["results"]
    assert [item["reward"] for item in results] == [0.1, 0.2]


def test_openrlhf(serving) -> None:
    """OpenRLHF's query holds prompt, completion and special tokens; a label is the column that the reward reads."""
    body = {"query": ["<s>q12345</s>", "q1<|im_end|>\n"], "prompts": ["q", "q"], "labels": ["x", {"answer": "y"}]}
    assert post(serving(), "/get_reward", body).json() == {
        "rewards": [0.5, 0.1],
        "scores": [0.5, 0.1],
        "extra_logs": {"size": [0.5, 0.1]},
    }


def test_slime(serving) -> None:
    """The answer to slime is the reward itself."""
    assert post(serving(), "/slime", {"prompt": "q", "response": "123", "label": "x"}).json() == 0.3


VERIFY = {
    "responses_create_params": {"input": [{"role": "user", "content": "q"}]},
    "response": {
        "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "1234"}]}]
    },
    "answer": "x",
}


def test_nemo_gym(serving) -> None:
    """NeMo-Gym gets its request back with the reward and the components."""
    client = serving()
    assert post(client, "/seed_session", {"any": 1}).json() == {}
    answer = post(client, "/verify", VERIFY).json()
    assert answer == {**VERIFY, "reward": 0.4, "size": 0.4, "mask_sample": False, "reward_components": {"size": 0.4}}


def test_nemo_gym_leaves_masked_ones_out_of_means(serving) -> None:
    """A masked answer counts in no mean."""
    rows = [{"_ng_task_index": 0, "reward": 1.0}, {"_ng_task_index": 0, "reward": 0.0, "mask_sample": True}]
    found = post(serving(), "/aggregate_metrics", {"verify_responses": rows}).json()
    assert found["key_metrics"] == {"mean/reward": 1.0}
    assert found["agent_metrics"]["masked"] == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/get_reward", {"query": ["q1"], "prompts": ["q"], "labels": ["FAIL"]}),
        ("/slime", {"prompt": "q", "response": "1", "label": "FAIL"}),
        ("/verify", {**VERIFY, "answer": "FAIL"}),
    ],
)
@pytest.mark.parametrize("kind", ["infra", "reference", "raise", None])
def test_protocols_without_a_word_for_it_get_an_error(serving, path: str, body, kind: str | None) -> None:
    """Where a protocol can't say "not scored", a failure of any kind is an error to try again, never a number."""
    data = json.loads(json.dumps(body).replace('"FAIL"', json.dumps(kind)))
    answer = post(serving(retry_for_s=0), path, data)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["kind"] == {"infra": "infra", "reference": "reference", "raise": "plugin", None: "input"}[kind]


def test_nemo_gym_masks_on_wish(serving) -> None:
    """With ``mask_unscored`` a failure is a masked sample."""
    answer = post(serving(mask_unscored=True), "/verify", {**VERIFY, "answer": "reference"}).json()
    assert answer["mask_sample"] is True
    assert answer["failure_reason"] == "reference: the toy says so"


def test_a_failing_service_is_tried_again(serving, registry) -> None:
    """The protocols that can't say "not scored" wait for a service that comes back."""
    tries = []

    @reward("toy.flaky")
    def flaky(rollout):
        from rewardkit import Unscored

        tries.append(1)
        return Unscored("infra", "down") if len(tries) < 2 else 0.7

    registry.register(flaky)
    client = serving("version: 1\ncomponents: {f: {use: toy.flaky}}\n", retry_for_s=30)
    assert post(client, "/slime", {"prompt": "q", "response": "1"}).json() == 0.7
    assert len(tries) == 2


@pytest.mark.parametrize("path", ["/get_reward", "/slime", "/verify"])
def test_group_rewards_refuse_single_rollouts(serving, path: str) -> None:
    """A reward that compares a group's rollouts can't be served by a protocol that gives one at a time."""
    client = serving("version: 1\ncomponents: {size: {use: toy.size, scale: zscore}}\n")
    answer = post(client, path, {})
    assert answer.status_code == 409
    assert "compares the rollouts of a group" in answer.json()["error"]


@pytest.mark.parametrize("path", ["/get_reward", "/slime"])
def test_token_rewards_refuse_protocols_without_tokens(serving, path: str) -> None:
    """A reward that counts tokens is refused where nobody tells their number: it would score wrong answers above right ones."""
    answer = post(serving(MATH, Registry.load()), path, {})
    assert answer.status_code == 409
    assert "short needs the number of tokens" in answer.json()["error"]


def test_group_rewards_are_not_mixed_between_requests(serving) -> None:
    """Two requests with the same group name are two groups."""
    client = serving("version: 1\ncomponents: {size: {use: toy.size, scale: zscore}}\n")
    assert client.app.state.service.batcher.merges is False
    rows = [row(completion="1", group="g"), row(completion="123", group="g")]
    found = [item["reward"] for item in post(client, "/score", {"rows": rows}).json()["results"]]
    assert found == pytest.approx([-1.0, 1.0])


def test_a_token_is_asked_for(serving) -> None:
    """With a token, only /health and /ready are open; Bearer and the password of a URL are accepted."""
    client = serving(token="secret")
    assert client.get("/health").status_code == 200
    assert client.get("/metrics").status_code == client.get("/openapi.json").status_code == 401
    assert post(client, "/score", {"rows": []}).status_code == 401
    assert post(client, "/score", {"rows": []}, authorization="Bearer wrong").status_code == 401
    assert post(client, "/score", {"rows": []}, authorization="Bearer secret").status_code == 200
    basic = base64.b64encode(b"rewardkit:secret").decode()
    assert post(client, "/score", {"rows": []}, authorization=f"Basic {basic}").status_code == 200


def test_only_known_hosts_and_json(serving) -> None:
    """A page in a browser can neither send JSON nor reach the service under a name of its own."""
    client = serving(hosts=["box"])
    assert post(client, "/score", {"rows": []}, host="evil.example").status_code == 403
    assert post(client, "/score", {"rows": []}, host="box:8077").status_code == 200
    assert client.post("/score", content="{}", headers={"content-type": "text/plain"}).status_code == 415
    assert client.post("/slime", content="{}", headers={"content-type": "application/jsonl"}).status_code == 415


def test_large_bodies_are_refused(serving) -> None:
    """A body above the limit is refused before it is read, or where it exceeds the limit."""
    client = serving(max_body_bytes=1000)
    assert post(client, "/score", {"rows": [row("x" * 1000)]}).status_code == 413
    parts = (b"x" * 600 for _ in range(3))
    answer = client.post("/score", content=parts, headers={"content-type": "application/json"})
    assert answer.status_code == 413


def test_more_rows_than_the_limit_are_refused(serving) -> None:
    """A request that could never be admitted is told so."""
    answer = post(serving(max_rollouts=2), "/score", {"rows": [row()] * 3})
    assert answer.status_code == 413
    assert "3 rollouts in one request; at most 2" in answer.json()["error"]


def test_weights_follow_the_step(serving) -> None:
    """The query parameter ``step`` is the step of weight schedules."""
    text = "version: 1\ncomponents: {size: {use: toy.size, weight: {linear: {from: 1, to: 0, steps: [0, 10]}}}}\n"
    client = serving(text)
    assert post(client, "/score?step=5", {"rows": [row()]}).json()["results"][0]["reward"] == 0.25
    assert post(client, "/score?step=x", {"rows": [row()]}).status_code == 422


def test_metrics_count(serving) -> None:
    """Prometheus sees requests, rollouts, and the kinds of failures."""
    client = serving()
    post(client, "/score", {"rows": [row(), row("infra")]})
    text = client.get("/metrics").text
    assert 'rewardkit_requests_total{route="/score",status="200"} 1.0' in text
    assert 'rewardkit_rollouts_total{status="scored"} 1.0' in text
    assert 'rewardkit_unscored_total{kind="infra"} 1.0' in text
    assert "rewardkit_rollouts_in_flight 0.0" in text


def test_stopping_is_told(serving) -> None:
    """A load balancer learns from /ready that the service stops."""
    client = serving()
    client.app.state.service.stopping = True
    assert client.get("/ready").status_code == 503
    assert client.get("/health").status_code == 200


def test_every_route_is_described_with_an_example(serving) -> None:
    """OpenAPI has an example for each body, and each example is answered with 200."""
    client = serving("version: 1\ncomponents: {size: {use: toy.size}}\n")
    for path, operations in client.get("/openapi.json").json()["paths"].items():
        if "post" not in operations:
            continue
        example = operations["post"]["requestBody"]["content"]["application/json"]["example"]
        assert post(client, path, example).status_code == 200, path


def test_rewards_in_workers(serving, tmp_path: Path) -> None:
    """Rewards that run in worker processes are served, too; their requests run side by side instead of being merged."""
    (tmp_path / "mine.py").write_text("def f(rollout):\n    return float(len(rollout.completion_text))\n")
    client = serving("version: 1\ncomponents: {f: {use: './mine.py:f'}, size: {use: toy.size}}\n")
    assert client.app.state.service.batcher.merges is False
    results = post(client, "/score", {"rows": [row(), row(completion="1")]}).json()["results"]
    assert [item["reward"] for item in results] == [5.5, 1.1]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/get_reward", {"query": ["2+3?\\boxed{5}"], "prompts": ["2+3?"], "labels": ["5"]}),
        ("/slime", {"prompt": "2+3?", "response": "\\boxed{5}", "label": "5"}),
    ],
)
def test_a_tokenizer_counts_where_a_protocol_tells_no_tokens(serving, path: str, body) -> None:
    """With one, rewards that count tokens are served; here each character is a token."""
    text = "version: 1\ncomponents: {long: {use: length.penalty, with: {per_token: 1.0, floor: null}, when: 'num_tokens > 0'}}\n"
    answer = post(serving(text, Registry.load(), tokenizer=len), path, body)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found if path == "/slime" else found["rewards"][0]) == -9.0
