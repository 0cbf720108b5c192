"""``make bench-client``: how many short requests a second of one processor core can send and read.

5,000 requests of 1 to 5 tokens, 256 at once, to the fake server on another core: through the client, through its HTTP
layer alone with ready bytes, and through a bare asyncio loop that writes ready bytes to sockets and reads answers, with
one JSON parse each.  What counts is the client's own processor time, so the server's speed does not matter.  The last
line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Final

from yarl import URL

from hybrid_batch.engines import probe
from hybrid_batch.engines.base import ChatRequest, EngineHandle, Sampling
from hybrid_batch.engines.chat_client import ChatClient
from hybrid_batch.engines.chat_wire import to_payload
from hybrid_batch.engines.transport import Transport

WINDOW: Final = 256
ROUNDS: Final = 3
WARM_UP: Final = 500
START_SECONDS: Final = 30.0


@contextmanager
def server() -> Iterator[EngineHandle]:
    """A fake server that answers at once, on the last core; this process takes the first one."""
    cores = sorted(os.sched_getaffinity(0))
    port = probe.free_port()
    command = [sys.executable, "-m", "hybrid_batch.engines.fake_server", f"--port={port}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    os.sched_setaffinity(process.pid, {cores[-1]})
    os.sched_setaffinity(0, {cores[0]})
    try:
        deadline = time.monotonic() + START_SECONDS
        while not probe.healthy(port):
            if time.monotonic() > deadline:
                raise TimeoutError(f"no server on port {port} after {START_SECONDS:g} s")
            time.sleep(0.05)
        yield EngineHandle("bench", f"http://127.0.0.1:{port}/v1", "fake", 4096)
    finally:
        process.terminate()
        process.wait()
        os.sched_setaffinity(0, set(cores))


def requests(number: int) -> list[ChatRequest]:
    """Short questions that ask for 1 to 5 tokens."""
    return [
        ChatRequest(
            [{"role": "user", "content": f"Is review number {index} of this product a kind one?"}],
            Sampling(max_tokens=1 + index % 5),
        )
        for index in range(number)
    ]


async def windowed(number: int, one: Callable[[int], Awaitable[None]]) -> None:
    """``one`` for each of ``number``, with :data:`WINDOW` under way."""
    indices = iter(range(number))

    async def worker() -> None:
        for index in indices:
            await one(index)

    await asyncio.gather(*(worker() for _ in range(WINDOW)))


async def by_client(engine: EngineHandle, asked: Sequence[ChatRequest]) -> None:
    client = ChatClient(engine, concurrency=WINDOW, request_timeout_s=60.0)

    async def one(index: int) -> None:
        answer = await client.answer(asked[index])
        if answer.error_kind:
            raise RuntimeError(answer.error_message)

    try:
        await windowed(len(asked), one)
    finally:
        await client.close()


async def by_transport(engine: EngineHandle, asked: Sequence[ChatRequest]) -> None:
    url, bodies = URL(f"{engine.base_url}/chat/completions"), _bodies(engine, asked)
    http = Transport(engine.base_url, None, WINDOW, may_use_proxy=False)

    async def one(index: int) -> None:
        reply = await http.post(url, bodies[index], 60.0)
        json.loads(reply.body)["usage"]

    try:
        await windowed(len(asked), one)
    finally:
        await http.close()


async def by_sockets(engine: EngineHandle, asked: Sequence[ChatRequest]) -> None:
    host, port = engine.base_url.removeprefix("http://").removesuffix("/v1").split(":")
    bodies = _bodies(engine, asked)
    free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def one(index: int) -> None:
        reader, writer = free.pop() if free else await asyncio.open_connection(host, int(port))
        body = bodies[index]
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        json.loads(await reader.readexactly(length))["usage"]
        free.append((reader, writer))

    await windowed(len(asked), one)
    for _, writer in free:
        writer.close()


def _bodies(engine: EngineHandle, asked: Sequence[ChatRequest]) -> list[bytes]:
    return [json.dumps(to_payload(request, engine.model)).encode() for request in asked]


def rate(way: Callable[[EngineHandle, Sequence[ChatRequest]], Awaitable[None]], engine: EngineHandle, n: int) -> float:
    """Requests per second of this process's processor time, connections and all."""
    asked = requests(n)

    async def timed() -> float:
        await way(engine, asked[:WARM_UP])
        began = time.process_time()
        await way(engine, asked)
        return n / (time.process_time() - began)

    return asyncio.run(timed())


def main() -> None:
    parser = argparse.ArgumentParser(prog="client_ceiling")
    parser.add_argument("--requests", type=int, default=5000)
    number = parser.parse_args().requests
    with server() as engine:
        rounds = [[rate(way, engine, number) for way in (by_client, by_transport, by_sockets)] for _ in range(ROUNDS)]
    client, transport, raw = (median(rates) for rates in zip(*rounds, strict=True))
    told = {
        "client_requests_per_s": round(client),
        "http_requests_per_s": round(transport),
        "raw_requests_per_s": round(raw),
        "client_vs_raw": round(client / raw, 3),
        "requests": number,
        "window": WINDOW,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
