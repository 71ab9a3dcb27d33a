"""An OpenAI-compatible endpoint that answers by the rules of rules.py, in place of a language model.

    python examples/constitution/endpoint.py [--port 8000]

It knows the model ``rules``, and answers the questions of `rewardkit judge revise` and `rewardkit judge prefer`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import re
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import rules

MODEL = "rules"
FENCED = re.compile(r"<<<(\w+)\n(.*?)\n\1>>>", re.DOTALL)
"""Texts stand between lines with a boundary that they can't contain."""


def reply(body: dict[str, Any]) -> str:
    """Return the reply to a chat completion request."""
    question = str(body["messages"][-1]["content"])
    texts = [text for _, text in FENCED.findall(question)]
    if not texts:  # a prompt itself: the first answer
        return rules.helpful_answer(random.Random(question))  # noqa: S311 - no secrets
    prompt = texts[0] + "\n"
    if '"winner"' in question:
        first, second = (rules.kept(prompt, text) for text in texts[1:])
        winner = "tie" if first == second else "A" if first > second else "B"
        return json.dumps({"reasoning": f"A keeps to {first} principles, B to {second}.", "winner": winner})
    principle = question.split("Principle:\n", 1)[1].split("\n", 1)[0]
    if question.startswith("Rewrite"):
        return rules.revision(principle, prompt, texts[1])
    return rules.critique(principle, prompt, texts[1])


class Handler(BaseHTTPRequestHandler):
    """Answers requests."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """List the models."""
        self._send({"object": "list", "data": [{"id": MODEL, "object": "model"}]})

    def do_POST(self) -> None:
        """Complete a chat."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text = reply(body)
        words = sum(len(str(message["content"]).split()) for message in body["messages"])
        usage = {"prompt_tokens": words, "completion_tokens": len(text.split())}
        message = {"role": "assistant", "content": text}
        self._send({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage})

    def _send(self, data: Any) -> None:
        raw = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: object) -> None:
        """Stay silent."""


class Server(ThreadingHTTPServer):
    """A server that lets many connections wait."""

    request_queue_size = 128


@contextlib.contextmanager
def serving(port: int = 0) -> Iterator[str]:
    """Serve on loopback inside the block, and yield the address.

    Args:
        port: The port; 0 for any free one.
    """
    server = Server(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8000)
    with serving(parser.parse_args().port) as address:
        print(address, flush=True)  # noqa: T201 - its purpose
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
