"""A failing sandbox is not the program's fault."""

import asyncio
import gc
import inspect
import itertools
import json
import threading
from types import SimpleNamespace

import pytest
from rewardkit_code import CodeTests, Runs, code_tests, sandboxes
from rewardkit_code.sandboxes import SandboxOptions
from rewardkit_sandbox import Execution, Limits, Result, Unavailable, identify, open_sandbox

from rewardkit import Rollout, Unscored
from rewardkit.composite import load_reward
from rewardkit.errors import ConfigError, TooManyUnscoredError
from rewardkit.scoring.run import ScoreOptions, score_files

ROW = Rollout("", "```python\nprint(input())\n```", {"tests": [{"stdin": "1", "expected": "1"}]})


def score(reward, rows):
    """Return the results of a batch."""
    try:
        return asyncio.run(reward(rows))
    finally:
        reward.close()


@pytest.mark.parametrize("error", [Unavailable("no engine: start one"), OSError(28, "No space left on device")])
def test_without_a_sandbox_nothing_is_scored(monkeypatch, error):
    """Each rollout is unscored with a message that says what to do, and the sandbox is not tried again for each."""
    tried = []

    def fail(*_args, **_more):
        tried.append(1)
        raise error

    monkeypatch.setattr(sandboxes, "open_sandbox", fail)
    assert score(CodeTests(slots=2), [ROW] * 20) == [Unscored("infra", str(error))] * 20
    assert tried == [1]


@pytest.mark.usefixtures("_needs_sandbox")
def test_a_sandbox_that_comes_back_is_used(monkeypatch):
    """A sandbox that could not be opened is tried again some seconds later."""
    real = sandboxes.open_sandbox
    monkeypatch.setattr(sandboxes, "RETRY_S", 0.0)
    failures = iter([True])

    def sometimes(*args, **more):
        if next(failures, False):
            raise Unavailable("not yet")
        return real(*args, **more)

    monkeypatch.setattr(sandboxes, "open_sandbox", sometimes)
    results = score(Runs(slots=2), [ROW] * 4)
    assert [isinstance(result, Unscored) for result in results].count(True) == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the SDK drops its socket
def test_a_missing_engine_and_image(monkeypatch):
    """The message names what is missing."""
    if identify("docker"):
        (missing,) = score(CodeTests(backend="docker", image="surely-not:there"), [ROW])
        assert "no image surely-not:there" in missing.message
    (missing,) = score(CodeTests(backend="bubblewrap", image="/surely/not/there"), [ROW])
    assert "no root file system in /surely/not/there" in missing.message
    monkeypatch.setenv("DOCKER_HOST", "unix:///surely/not/there.sock")
    (missing,) = score(CodeTests(backend="docker"), [ROW])
    assert (missing.kind, "no Docker engine answers" in missing.message) == ("infra", True)
    gc.collect()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("language: pyhton", "pyhton"),
        ("backend: dokcer", "unknown backend 'dokcer'; there are auto, docker, bubblewrap"),
        ("cpu_s: 0", "cpu_s"),
        ("slots: 0", "slots"),
        ("score: some", "some"),
        ("memory: 5", "memory"),
    ],
)
def test_wrong_parameters(given, says):
    """Wrong options are reported with file, line and column before anything runs."""
    text = f"version: 1\ncomponents:\n  correct: {{use: code.tests, with: {{{given}}}}}\n"
    with pytest.raises(ConfigError, match=r":3:\d+: ") as caught:
        load_reward(text).close()
    assert says in str(caught.value)


@pytest.mark.usefixtures("_needs_sandbox")
def test_boxes_that_are_killed_in_the_middle():
    """Every program gets its own correct score although sandboxes are killed under it, one after the other."""
    rows = [
        Rollout(
            "",
            f"```python\nprint({number})\n```",
            {"tests": [{"stdin": "", "expected": str(number)}, {"stdin": "", "expected": "x"}]},
        )
        for number in range(60)
    ]
    reward = CodeTests(slots=3)
    pool = reward._sandbox._shared.get().pool
    done = threading.Event()

    def kill():
        for killed in range(4):
            while not (done.is_set() or pool._boxes):
                done.wait(0.01)
            for slot in list(pool._boxes)[:1]:
                slot._end()  # the container or the process, without a word to the pool
            while not (done.is_set() or pool.replaced > killed):
                done.wait(0.01)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        results = asyncio.run(reward(rows))
    finally:
        done.set()
        killer.join()
        replaced = pool.replaced
        reward.close()
    assert [result.value for result in results] == [0.5] * 60
    assert replaced > 0


def test_a_sandbox_that_goes_in_the_middle_of_a_run(monkeypatch, tmp_path):
    """The run stops with exit code 3 and says what to do, and no row gets a 0. After a repair, the same command scores the rest."""
    gone = Unavailable("no box could be started for 120 s: start the engine")
    ran = itertools.count()
    is_repaired = threading.Event()

    class Dying:
        def run(self, _program, cases, **_more):
            if next(ran) >= 300 and not is_repaired.is_set():
                raise gone
            return Result(tuple(Execution("ok", b"1\n") for _ in cases))

        def close(self):
            pass

    def run():
        text = "version: 1\ncomponents:\n  a: {use: code.tests}\n"
        with load_reward(text) as reward:
            return score_files(ScoreOptions([str(tmp_path / "rows.jsonl")], tmp_path / "scored.jsonl"), reward)

    monkeypatch.setattr(sandboxes, "open_sandbox", lambda *_a, **_k: Dying())
    rows = ({"prompt": "", "completion": f"```python\nprint({n})\n```", **ROW.fields} for n in range(1500))
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(TooManyUnscoredError, match="start the engine") as caught:
        run()
    assert caught.value.exit_code == 3
    kept = [json.loads(line)["reward"] for line in (tmp_path / "scored.jsonl.part").read_text().splitlines()]
    assert set(kept) <= {1.0, None}
    is_repaired.set()
    run()
    rewards = [json.loads(line)["reward"] for line in (tmp_path / "scored.jsonl").read_text().splitlines()]
    assert len(rewards) == 1500
    # Chunks that were under way when it went, up to eight, may hold some rows without a reward; the outage itself leaves none.
    assert rewards.count(None) <= 8 * 128
    assert rewards[-200:] == [1.0] * 200


CALLS = [{"call": "add", "args": [1, 2], "expected": 3}]


def test_a_remote_sandbox(tmp_path):
    """`backend: remote` runs programs and calls at its url."""
    uvicorn = pytest.importorskip("uvicorn")
    pytest.importorskip("httpx")
    from rewardkit_sandbox.server import application

    try:
        box = open_sandbox(slots=1, limits=Limits(cpu_s=20))
    except Unavailable as error:
        pytest.skip(str(error))
    server = uvicorn.Server(uvicorn.Config(application(box, token=None), port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
        url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        text = f"version: 1\ncomponents:\n  a: {{use: code.tests, with: {{backend: remote, url: '{url}', slots: 1}}, weight: 1}}\n"
        with load_reward(text) as reward:
            programs = ["def add(a, b): return a + b", "def add(a, b): return a"]
            rows = [Rollout("Add.", f"```python\n{program}\n```", {"tests": CALLS}) for program in programs]
            assert [item.reward for item in reward.score(rows)] == [1.0, 0.0]
    finally:
        server.should_exit = True
        thread.join()
        box.close()


@pytest.mark.parametrize(
    "tests", ["def check(candidate): assert candidate(1) == 1", ["assert sorted(map(f, [1])) == [1]"]]
)
def test_test_code_on_a_remote_sandbox(tests):
    """Test code is refused before anything runs, with the backends that can run it."""
    defaults = {name: each.default for name, each in inspect.signature(CodeTests.__init__).parameters.items()}
    params = SimpleNamespace(**{**defaults, "backend": "remote", "url": "http://127.0.0.1:9"})
    found = code_tests._check(params, Rollout("", "", {"tests": tests, "entry_point": "f"}))
    assert "use docker or bubblewrap" in str(found)


@pytest.mark.parametrize(("backend", "url"), [("remote", None), ("docker", "http://x"), ("auto", "http://x")])
def test_a_url_belongs_to_remote(backend, url):
    """A remote sandbox without a url, or a url for another backend, is refused when the options are made."""
    with pytest.raises(ValueError, match="url"):
        SandboxOptions(backend, "python", None, Limits(), url)
