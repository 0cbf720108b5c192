"""One exchange over HTTP: what comes back, and how it fails."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from yarl import URL

from hybrid_batch.engines.transport import CutOffError, Reply, Transport, UnreachableError, proxy_for

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nRetry-After: 7\r\n\r\n{}"


async def exchange(answer: bytes | None, timeout_s: float = 10.0) -> tuple[Reply, bytes]:
    """Post to a server that sends ``answer`` and closes, or never answers (None) -> reply and what the server read."""
    heard: list[bytes] = []
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        if answer is None:
            await done.wait()
        writer.write(answer or b"")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    http = Transport(f"http://127.0.0.1:{port}/v1", "sk-key", 1, may_use_proxy=False)
    try:
        return await http.post(URL(f"http://127.0.0.1:{port}/v1/chat"), b"{}", timeout_s), heard[0]
    finally:
        await http.close()
        done.set()
        server.close()


def test_a_reply_and_what_was_sent():
    reply, heard = asyncio.run(exchange(OK))
    assert (reply.status, reply.body, reply.headers["retry-after"]) == (200, b"{}", "7")
    assert b"Authorization: Bearer sk-key" in heard
    assert b"Content-Type: application/json" in heard


def test_redirects_are_replies_like_others():
    answer = b"HTTP/1.1 307 Go\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"
    assert asyncio.run(exchange(answer))[0].status == 307


@pytest.mark.parametrize("answer", [b"", b"no HTTP at all\r\n\r\n", OK[:-1], OK.replace(b"Length: 2", b"Length: x")])
def test_an_answer_that_ends_early_or_is_no_http_is_cut_off(answer):
    with pytest.raises(CutOffError, match=r"\w+"):
        asyncio.run(exchange(answer))


def test_no_answer_in_time():
    with pytest.raises(TimeoutError):
        asyncio.run(exchange(None, timeout_s=0.1))


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "http://no-such-host.invalid/"])
def test_nobody_there(url):
    async def run() -> None:
        http = Transport(url, None, 1, may_use_proxy=False)
        try:
            await http.get(URL(url), 30.0)
        finally:
            await http.close()

    with pytest.raises(UnreachableError):
        asyncio.run(run())


@contextmanager
def environment(**values: str) -> Iterator[None]:
    names = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            del os.environ[name]
        os.environ.update(before)


def test_the_environments_proxy():
    with environment(HTTPS_PROXY="http://proxy:3128", NO_PROXY="inside.example,127.0.0.1"):
        assert proxy_for("https://llm.example.com/v1") == "http://proxy:3128"
        assert proxy_for("http://llm.example.com/v1") is None
        assert proxy_for("https://inside.example/v1") is None
        assert proxy_for("https://api.inside.example:8443/v1") is None
    with environment():
        assert proxy_for("https://llm.example.com/v1") is None
