"""The service as a process: its address, its end, and clients that outlive it."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs rewardkit[serve]")
pytest.importorskip("uvicorn", reason="needs rewardkit[serve]")

from rewardkit import load_reward
from rewardkit.errors import UsageError
from rewardkit.serve.app import Settings
from rewardkit.serve.run import listen, with_token
from rewardkit.types import Rollout

MATH = "version: 1\ncomponents: {right: {use: math, with: {reference: answer}}}\n"
BROKEN = "\\frac{1}{"


@contextlib.contextmanager
def service(file: Path, *options: str, port: int = 0):
    """Start the command; yields the process and its address once it answers."""
    command = [sys.executable, "-m", "rewardkit", "serve", str(file), "--no-cache", "--port", str(port), *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        address = None
        while address is None:
            line = process.stderr.readline()
            assert line, "the service ended"
            address = re.search(r" on (http://\S+)", line)
        yield process, address[1]
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def post(url: str, data, seconds: float = 60):
    """Post JSON and return the answer's JSON."""
    body = json.dumps(data).encode()
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=seconds) as answer:
        return json.load(answer)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A reward file."""
    (tmp_path / "reward.yaml").write_text(MATH)
    return tmp_path / "reward.yaml"


def test_sigterm_answers_what_is_in_flight(tmp_path: Path, monkeypatch) -> None:
    """A stopping service answers the request that it is scoring, then exits with 0."""
    (tmp_path / "slow_reward.py").write_text(
        "import os, pathlib, time\n"
        "from rewardkit import reward\n"
        "@reward('slow')\n"
        "def slow(rollout, *, folder: str):\n"
        "    pathlib.Path(folder, 'entered').touch()\n"
        "    while not pathlib.Path(folder, 'go').exists():\n"
        "        time.sleep(0.01)\n"
        "    return 0.25\n"
    )
    info = tmp_path / "slow_reward-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: slow-reward\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[rewardkit]\nslow = slow_reward\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "slow.yaml").write_text(f"version: 1\ncomponents: {{s: {{use: slow, with: {{folder: {tmp_path}}}}}}}\n")
    with service(tmp_path / "slow.yaml") as (process, address):
        answers: list = []
        rows = {"rows": [{"prompt": "q", "completion": "c"}]}
        client = threading.Thread(target=lambda: answers.append(post(f"{address}/score", rows)))
        client.start()
        while not (tmp_path / "entered").exists():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        port = int(address.rpartition(":")[2])
        while True:  # until it takes no more connections
            try:
                socket.create_connection(("127.0.0.1", port), 5).close()
            except OSError:
                break
        assert process.poll() is None
        (tmp_path / "go").touch()
        client.join(60)
        assert answers[0]["results"][0]["reward"] == 0.25
        assert process.wait(60) == 0


def test_a_client_with_retries_loses_nothing(file: Path) -> None:
    """Killed and started again under load, the service makes no client lose a row or take a failure for a reward of 0."""
    rows = [
        {"prompt": "q", "completion": f"\\boxed{{{n}}}", "answer": BROKEN if n % 4 == 0 else str(n - n % 3 % 2)}
        for n in range(160)
    ]
    with load_reward(file) as reward:
        wanted = [
            item.reward
            for item in reward.score([Rollout("q", row["completion"], {"answer": row["answer"]}) for row in rows])
        ]
    found: dict[int, float | None] = {}
    errors, half, killed = [0], threading.Event(), threading.Event()

    def client(part: int, port: int) -> None:
        for index in range(part, len(rows), 4):
            if len(found) > len(rows) // 2:
                half.set()
                killed.wait(60)
            while True:
                try:
                    found[index] = post(f"http://127.0.0.1:{port}/score", {"rows": [rows[index]]})["results"][0][
                        "reward"
                    ]
                    break
                except (urllib.error.URLError, ConnectionError, TimeoutError, json.JSONDecodeError):
                    errors[0] += 1
                    threading.Event().wait(0.1)

    with service(file) as (process, address):
        port = int(address.rpartition(":")[2])
        clients = [threading.Thread(target=client, args=(part, port)) for part in range(4)]
        for thread in clients:
            thread.start()
        assert half.wait(60)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        killed.set()
    with service(file, port=port):
        for thread in clients:
            thread.join(120)
    assert [found[index] for index in range(len(rows))] == wanted
    assert errors[0] > 0
    assert wanted.count(None) == 40


def test_other_addresses_get_a_token() -> None:
    """Away from the loopback interface a token is made; one that is given stays."""
    assert with_token(Settings(), "127.0.0.1") == (Settings(), False)
    settings, is_new = with_token(Settings(), "0.0.0.0")
    assert is_new
    assert len(settings.token or "") >= 32
    assert with_token(Settings(token="mine"), "0.0.0.0") == (Settings(token="mine"), False)


def test_a_port_in_use_is_told() -> None:
    """A port that can't be opened is an error that says what to do."""
    with listen("127.0.0.1", 0) as sock, pytest.raises(UsageError, match=r"can't listen on .*--port"):
        listen("127.0.0.1", sock.getsockname()[1])


def test_the_extra_is_named(file: Path) -> None:
    """Without the extra the command names it."""
    code = (
        "import sys; sys.modules['fastapi'] = None\n"
        f"from rewardkit.cli import run; sys.exit(run(['serve', {str(file)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert "serving needs fastapi: pip install 'rewardkit[serve]'" in done.stderr
