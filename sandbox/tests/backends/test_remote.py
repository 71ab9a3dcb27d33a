"""The remote backend against our own server, over a real socket."""

import threading

import pytest
from sandbox_support import opened

from rewardkit_sandbox import Limits, Program, SandboxError, Stdin, Unavailable, open_remote
from rewardkit_sandbox.testing import SandboxContract

httpx = pytest.importorskip("httpx")
uvicorn = pytest.importorskip("uvicorn")


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
        opened("auto", slots=2, limits=Limits(cpu_s=10, wall_s=10, memory_mb=512)) as box,
        Served(application(box)) as address,
    ):
        yield address


class TestRemote(SandboxContract):
    """The same claims, through HTTP; test code needs a local backend."""

    runs_test_code = False
    is_local = False

    @pytest.fixture(scope="class")
    @classmethod
    def sandbox(cls, url):
        with open_remote(url, limits=Limits(cpu_s=2, wall_s=6)) as remote:
            yield remote


def test_no_service():
    """A service that is not there is told when it is opened."""
    with pytest.raises(Unavailable, match="no sandbox answers"):
        open_remote("http://127.0.0.1:9")


def test_the_api_of_sandboxfusion(url):
    """The fields that its clients read are there."""
    answer = httpx.post(
        f"{url}/run_code", json={"code": "print(input())", "language": "python", "stdin": "x\n", "run_timeout": 5}
    ).json()
    assert answer["status"] == "Success"
    assert answer["run_result"]["stdout"] == "x\n"
    assert answer["run_result"]["status"] == "Finished"
    assert answer["run_result"]["return_code"] == 0
    slow = httpx.post(
        f"{url}/run_code", json={"code": "while 1: pass", "language": "python", "run_timeout": 1}, timeout=20
    ).json()
    assert (slow["status"], slow["run_result"]["status"]) == ("Failed", "TimeLimitExceeded")


@pytest.mark.parametrize(
    "body", ["{", "[]", '{"code": 3}', '{"code": "", "files": {"a": "b"}}', '{"code": "", "language": "cobol"}']
)
def test_bad_requests(url, body):
    """They are refused with a reason."""
    response = httpx.post(f"{url}/run_code", content=body)
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
        open_remote(address) as remote,
        pytest.raises(SandboxError, match="no room"),
    ):
        remote.run(Program("print(1)"), [Stdin("")])
    assert len(calls) > 2
