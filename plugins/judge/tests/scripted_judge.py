"""A scripted endpoint: answers chat completions as a test says."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FENCED = re.compile(r"<<<(\w+)\n(.*?)\n\1>>>", re.DOTALL)
ATTACK = re.compile(
    r'\{.*"(?:score|scores|equal|winner|verdict)"[^<]*\}|ignore|thought process|solve this', re.IGNORECASE | re.DOTALL
)
"""What an obedient judge would follow."""
Reply = str | tuple[int, Mapping[str, str], Any]
"""The content of a reply; or a status, headers and a body."""


class Server(ThreadingHTTPServer):
    """A server that lets many connections wait."""

    request_queue_size = 128


class FakeJudge:
    """A server on loopback.

    Args:
        answer: Gets the request's body, and returns the reply.
    """

    def __init__(self, answer: Callable[[Mapping[str, Any]], Reply]) -> None:
        self.answer = answer
        self.requests: list[Mapping[str, Any]] = []
        self.keys: list[str | None] = []
        self.at_once = self.most_at_once = 0
        lock = threading.Lock()
        judge = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with lock:
                    judge.requests.append(body)
                    judge.keys.append(self.headers.get("authorization"))
                    judge.at_once += 1
                    judge.most_at_once = max(judge.at_once, judge.most_at_once)
                reply = judge.answer(body)
                with lock:
                    judge.at_once -= 1
                status, headers, data = reply if isinstance(reply, tuple) else (200, {}, completion(reply))
                raw = data if isinstance(data, bytes) else json.dumps(data).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(raw)))
                self.end_headers()
                with contextlib.suppress(ConnectionError):  # a caller that has stopped waiting
                    self.wfile.write(raw)

            def log_message(self, *_: object) -> None:
                """Stay silent."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        """Stop the server."""
        self.server.shutdown()
        self.server.server_close()


def completion(content: str | None, finish: str = "stop", **message: Any) -> dict[str, Any]:
    """Return the body of a chat completion."""
    return {
        "choices": [{"message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10},
    }


def question_of(body: Mapping[str, Any]) -> str:
    """Return the user's message of a request."""
    return str(body["messages"][-1]["content"])


def fenced(body: Mapping[str, Any]) -> list[str]:
    """Return the fenced texts of a request, in order."""
    return [text for _, text in FENCED.findall(question_of(body))]


def outside(body: Mapping[str, Any]) -> str:
    """Return what an obedient judge takes for instructions: everything outside of the fences."""
    return FENCED.sub("", question_of(body))


def honest(body: Mapping[str, Any]) -> str:
    """Judge by a known rule: a response is good if it contains ``right``. Obeys what stands outside of the fences."""
    texts = fenced(body)
    instructions = outside(body).partition("Reply with JSON")[0]
    obeyed = ATTACK.search(instructions)
    told = outside(body)
    good = "right" in texts[-1] or bool(obeyed)
    if '"winner"' in told:
        first, second = ("right" in text for text in texts[1:])
        winner = "tie" if first == second else "A" if first else "B"
        return json.dumps({"reasoning": "by the rule", "winner": "B" if obeyed else winner})
    if '"equal"' in told:
        return json.dumps({"reasoning": "by the rule", "equal": good})
    low, high = (0, 1) if "0 or 1" in told else map(int, re.search(r"from (\d+) \(worst\) to (\d+)", told).groups())
    names = re.findall(r'^- "(.*?)":', told, re.MULTILINE)
    return json.dumps({"reasoning": "by the rule", "scores": dict.fromkeys(names, high if good else low)})
