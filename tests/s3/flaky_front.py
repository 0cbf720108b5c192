"""A small HTTP server before the S3 gateway that misbehaves on request, then passes everything on."""

import http.client
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

_SLOW_DOWN = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>busy</Message></Error>"
_CONFLICT = b"<?xml version='1.0'?><Error><Code>ConditionalRequestConflict</Code><Message>race</Message></Error>"


class FlakyFront:
    """Each request takes the next entry of ``misbehave``; with none left it is passed on unchanged.

    ``slow_down``: 503.  ``conflict``: 409.  ``reset``: the connection breaks before the request is passed on.
    ``lost_answer``: it breaks after.  ``cut_body``: it breaks in the middle of the answer's body.
    ``pretend``: 200, and nothing is stored.  ``requests`` and ``body_bytes`` count what was answered.
    A subclass may choose by the request, also a behaviour of its own: a function of request and body.
    """

    def __init__(self, upstream: str) -> None:
        self.misbehave: deque[str] = deque()
        self.always: str | None = None
        self.requests = 0
        self.body_bytes = 0
        self._host = urlsplit(upstream).netloc
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def next_behaviour(self, request: "Request") -> "str | Behaviour":
        with self._lock:
            self.requests += 1
            return self.misbehave.popleft() if self.misbehave else self.always or "pass"

    def count(self, sent: int) -> None:
        with self._lock:
            self.body_bytes += sent

    def forward(self, request: "Request", body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = http.client.HTTPConnection(self._host, timeout=30)
        headers = {name: value for name, value in request.headers.items() if name.lower() != "expect"}
        upstream.request(request.command, request.path, body or None, headers)
        answer = upstream.getresponse()
        kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in _OWN_HEADERS]
        data = answer.read()
        if request.command == "HEAD":
            kept.append(("Content-Length", answer.getheader("Content-Length") or "0"))
        else:
            kept.append(("Content-Length", str(len(data))))
        upstream.close()
        return answer.status, kept, data

    def _handler(self) -> type["Request"]:
        return type("Handler", (Request,), {"front": self})


_OWN_HEADERS = ("content-length", "transfer-encoding", "connection", "date", "server")


class Request(BaseHTTPRequestHandler):
    """One connection of a client; its requests come one after the other."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    front: FlakyFront

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        behaviour = self.front.next_behaviour(self)
        if not isinstance(behaviour, str):
            behaviour(self, body)
            return
        actions: dict[str, Callable[[], None]] = {
            "slow_down": lambda: self.answer(503, [], _SLOW_DOWN),
            "conflict": lambda: self.answer(409, [], _CONFLICT),
            "pretend": lambda: self.answer(200, [("ETag", '"0"')], b""),
            "reset": self.break_off,
            "lost_answer": lambda: (self.front.forward(self, body), self.break_off())[1],
            "cut_body": lambda: self._answer_partly(body),
            "pass": lambda: self.answer(*self.front.forward(self, body), own_length=False),
        }
        actions[behaviour]()

    do_GET = do_PUT = do_HEAD = do_DELETE = handle_any  # noqa: N815 -- http.server calls them so

    def handle_expect_100(self) -> bool:
        """Tell a waiting client at once to send its body."""
        super().handle_expect_100()
        self.wfile.flush()
        return True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class names it so
        """Quiet: pytest's output is for failures."""

    def answer(self, status: int, headers: list[tuple[str, str]], data: bytes, own_length: bool = True) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if own_length:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
            self.front.count(len(data))
        self.wfile.flush()

    def _answer_partly(self, body: bytes) -> None:
        status, headers, data = self.front.forward(self, body)
        self.answer(status, headers, data[: len(data) // 2], own_length=False)
        self.break_off()

    def break_off(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


Behaviour = Callable[[Request, bytes], None]
