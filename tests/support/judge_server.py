"""A small real endpoint that grades by a rule: the grade that an answer deserves stands in it as ``worth 7``."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_QUOTED = re.compile(r"^<<(\w+) ([a-z ]+)>>\n(.*?)\n<<\1 end>>$", re.MULTILINE | re.DOTALL)
_WORTH = re.compile(r"worth (\d+(?:\.\d+)?)")


def quoted(prompt: str) -> dict[str, str]:
    """What stands between the markers of a judge's prompt, by name."""
    return {name: text for _, name, text in _QUOTED.findall(prompt)}


@dataclass
class JudgeServer:
    """How the judge errs, and what it was asked.

    ``bias`` is added to the grade of the first place (no grade leaves 1 to 10).  The first ``silent`` replies to each
    prompt hold no verdict.  A prompt whose first answer contains ``silent_on`` never gets one; one that contains
    ``refuse_on`` is refused with 400.  ``reply`` is a format with ``{verdict}``.
    """

    bias: float = 0.0
    silent: int = 0
    silent_on: str = ""
    refuse_on: str = ""
    key: str = ""
    reply: str = "{verdict}"
    url: str = ""
    prompts: list[dict[str, str]] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)

    def answer(self, headers: Any, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self.key and headers.get("Authorization") != f"Bearer {self.key}":
            return 401, {"error": {"message": "who are you?"}}
        turns = request["messages"]
        prompt = turns[1]["content"]
        parts = quoted(prompt)
        asked = sum(request["messages"][1]["content"] == prompt for request in self.requests)
        self.requests.append(request)
        self.prompts.append(parts)
        if self.refuse_on and self.refuse_on in prompt:
            return 400, {"error": {"message": "not this one"}}
        mute = asked < self.silent or (self.silent_on and self.silent_on in parts["first answer"])
        text = "Both are fine." if mute else self.reply.replace("{verdict}", self._verdict(parts))
        usage = {"prompt_tokens": 1, "completion_tokens": 1}
        return 200, {"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": usage}

    def _verdict(self, parts: dict[str, str]) -> str:
        first = self._grade(parts["first answer"]) + self.bias
        second = self._grade(parts["second answer"])
        return json.dumps({"first": min(10.0, max(1.0, first)), "second": second})

    @staticmethod
    def _grade(text: str) -> float:
        found = _WORTH.search(text)
        return float(found[1]) if found else 1.0


@contextmanager
def judging(**rules: Any) -> Iterator[JudgeServer]:
    """A :class:`JudgeServer` with these rules, serving at its ``url``."""
    judge = JudgeServer(**rules)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, answer = judge.answer(self.headers, request)
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        judge.url = f"http://127.0.0.1:{server.server_port}/v1"
        try:
            yield judge
        finally:
            server.shutdown()
            thread.join()
