"""The remote backend against our own server, over a real socket."""

import threading

import pytest
from sandbox_support import opened

from rewardkit_sandbox import Limits, Program, SandboxError, Stdin, Tests, Unavailable, open_sandbox
from rewardkit_sandbox.testing import SandboxContract

httpx = pytest.importorskip("httpx")
uvicorn = pytest.importorskip("uvicorn")


TOKEN = "a secret"  # noqa: S105
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


class Served:
    """A server in a thread, on a port of its own."""

    def __init__(self, application):
        config = uvicorn.Config(application, host="127.0.0.1", port=0, log_level="error", lifespan="off")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run)

    def __enter__(self):
        self.thread.start()
        while not self.server.started:
            if not self.thread.is_alive():
                raise RuntimeError("the server did not start")
        port = self.server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    def __exit__(self, *_):
        self.server.should_exit = True
        self.thread.join()


@pytest.fixture(scope="module")
def url():
    from rewardkit_sandbox.server import application

    with (
        opened("auto", slots=2, limits=Limits(cpu_s=20, wall_s=20, memory_mb=512)) as box,
        Served(application(box, token=TOKEN)) as address,
    ):
        yield address


class TestRemote(SandboxContract):
    """The remote sandbox fulfils the contract of sandboxes, except for test code."""

    runs_test_code = False
    is_local = False

    @pytest.fixture(scope="class")
    @classmethod
    def sandbox(cls, url):
        with open_sandbox("remote", url=url, token=TOKEN, limits=Limits(cpu_s=2, wall_s=6)) as remote:
            yield remote


def test_no_service():
    """A service that is not there is told when it is opened."""
    with pytest.raises(Unavailable, match="no sandbox answers"):
        open_sandbox("remote", url="http://127.0.0.1:9")


def test_the_api_of_sandboxfusion(url):
    """The fields that its clients read are there."""
    answer = httpx.post(
        f"{url}/run_code",
        json={"code": "print(input())", "language": "python", "stdin": "x\n", "run_timeout": 5},
        headers=HEADERS,
    ).json()
    assert answer["status"] == "Success"
    assert answer["run_result"]["stdout"] == "x\n"
    assert answer["run_result"]["status"] == "Finished"
    assert answer["run_result"]["return_code"] == 0
    slow = httpx.post(
        f"{url}/run_code",
        json={"code": "while 1: pass", "language": "python", "run_timeout": 1},
        timeout=20,
        headers=HEADERS,
    ).json()
    assert (slow["status"], slow["run_result"]["status"]) == ("Failed", "TimeLimitExceeded")


@pytest.mark.parametrize(
    "body",
    ["{", "[]", '{"code": 3}', '{"code": "", "files": {"a": "b"}}', '{"code": "", "language": "cobol"}',
     '{"code": "", "stdin": 5}', '{"code": "", "run_timeout": 1e9}', '{"code": "", "run_timeout": -1}', '{"code": "", "run_timeout": NaN}', '{"code": "", "run_timeout": "x"}', '{"code": "", "memory_limit_MB": "x"}'],
)  # fmt: skip
def test_bad_requests(url, body):
    """Options that a remote sandbox can't honour are refused with a reason."""
    response = httpx.post(f"{url}/run_code", content=body, headers={**HEADERS, "Content-Type": "application/json"})
    assert response.status_code == 400
    assert "bad request" in response.json()["message"]


def test_a_service_that_fails_is_no_verdict():
    """An error of the service is raised, never a failed program."""
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    calls = []

    async def run_code(request):
        calls.append(1)
        if len(calls) == 1:
            row = {"status": "Finished", "return_code": 0, "stdout": "ready\n", "stderr": "", "execution_time": 0.1}
            return JSONResponse({"status": "Success", "run_result": row})
        return JSONResponse({"status": "SandboxError", "message": "no room"})

    with (
        Served(Starlette(routes=[Route("/run_code", run_code, methods=["POST"])])) as address,
        open_sandbox("remote", url=address) as remote,
        pytest.raises(SandboxError, match="no room"),
    ):
        remote.run(Program("print(1)"), [Stdin("")])
    assert len(calls) > 2


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": ""}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example:8080"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "localhost:1"}, 200),
        ({"Host": "[::1]:8080"}, 200),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
    ],
)
def test_who_may_send_programs(url, headers, status):
    """A request without the token, from a web page's form, or under a name that is not the service's runs nothing."""
    given = {**HEADERS, "Content-Type": "application/json", **headers}
    answer = httpx.post(f"{url}/run_code", content='{"code": "print(1)"}', headers=given)
    assert answer.status_code == status
    assert ("run_result" in answer.json()) is (status == 200)


def test_a_wrong_token_is_told(url):
    """A client without the token is told so when the sandbox is opened."""
    with pytest.raises(Unavailable, match="token is missing or wrong"):
        open_sandbox("remote", url=url)


def test_a_large_body(url, monkeypatch):
    """A body beyond the limit is refused while it is read."""
    monkeypatch.setattr("rewardkit_sandbox.server.LARGEST_BODY", 100)
    answer = httpx.post(f"{url}/run_code", json={"code": "#" * 200}, headers=HEADERS)
    assert (answer.status_code, "larger than" in answer.json()["message"]) == (400, True)


def test_no_test_code(url):
    """Test code is refused with the backends that run it."""
    with (
        open_sandbox("remote", url=url, token=TOKEN) as remote,
        pytest.raises(Unavailable, match="docker or bubblewrap"),
    ):
        remote.run_tests(Program("def f(): pass"), Tests("f()"))


def test_the_commands_token(monkeypatch):
    """`serve` makes a token unless it is given one or told to do without."""
    from click.testing import CliRunner

    from rewardkit_sandbox.cli import main

    applications = []
    monkeypatch.setattr("uvicorn.run", lambda app, **_: applications.append(app))
    made = CliRunner().invoke(main, ["serve", "--image", "python", "--slots", "1"])
    if "no sandbox can be opened" in made.output:
        pytest.skip(made.output)
    assert made.exit_code == 0, made.output
    assert "token: " in made.output and len(applications) == 1
    both = CliRunner().invoke(main, ["serve", "--token", "x", "--no-token"])
    assert both.exit_code == 2 and "exclude each other" in both.output
