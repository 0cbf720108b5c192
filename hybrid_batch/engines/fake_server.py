"""A small real server with vLLM's surface and failure modes to order.  Standard library only.

``python -m hybrid_batch.engines.fake_server --port 8000`` answers ``/health``, ``/version``, ``/v1/models``,
``/v1/chat/completions``, ``/tokenize`` and ``/metrics``; ``VLLM_API_KEY`` guards what vLLM guards.  An answer is a pure
function of messages and sampling; a token is a whitespace word.  It serves tests and load measurements where a
model would only add minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import hmac
import json
import os
import random
import signal
import sys
from typing import Any

from hybrid_batch.engines.fake_answers import (
    Refusal,
    answer_words,
    check_messages,
    completion,
    count_prompt_tokens,
    room_for,
    text_of,
)
from hybrid_batch.engines.fake_forms import check_supported
from hybrid_batch.engines.fake_load import Model, metrics_text

CHILD = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(3600)"


class Api:
    """Requests to answers, with the failures that the options order."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.model = Model(options)
        self._key = os.environ.get("VLLM_API_KEY", "")
        self._draw = random.Random(options.failure_seed)  # noqa: S311 (not for secrets)
        self._stuck = asyncio.Event()  # never set: what waits for it hangs

    async def answer(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, further headers, body."""
        try:
            self._check_key(path, headers)
            return 200, {}, await self._route(method, path, body)
        except Refusal as refusal:
            error = {"message": refusal.message, "type": "BadRequestError", "code": refusal.status} | refusal.told
            return refusal.status, refusal.headers, json.dumps({"error": error}).encode()

    def _check_key(self, path: str, headers: dict[str, str]) -> None:
        given = headers.get("authorization", "").removeprefix("Bearer ")
        if path.startswith("/v1") and self._key and not hmac.compare_digest(given, self._key):
            raise Refusal(401, "Unauthorized")

    async def _route(self, method: str, path: str, body: bytes) -> bytes:
        plain = {"/health": b"", "/version": b'{"version": "fake"}'}
        if method == "GET" and path == "/metrics":
            return metrics_text(self.model, self.options.served_model_name)
        if method == "GET" and path in plain:
            return plain[path]
        if method == "GET" and path == "/v1/models":
            card = {
                "id": self.options.served_model_name,
                "object": "model",
                "max_model_len": self.options.max_model_len,
            }
            return json.dumps({"object": "list", "data": [card]}).encode()
        if method == "POST" and path in ("/v1/chat/completions", "/tokenize"):
            return await self._post(path, body)
        raise Refusal(404, "Not Found")

    async def _post(self, path: str, body: bytes) -> bytes:
        try:
            request = json.loads(body)
        except ValueError:
            raise Refusal(400, "the body is not JSON") from None
        if request.get("model") != self.options.served_model_name:
            raise Refusal(404, f"The model `{request.get('model')}` does not exist.")
        messages = check_messages(request)
        prompt = count_prompt_tokens(messages)
        if path == "/tokenize":
            return json.dumps({"count": prompt, "max_model_len": self.options.max_model_len}).encode()
        return await self._chat(request, messages, prompt)

    async def _chat(self, request: dict[str, Any], messages: list[dict[str, Any]], prompt: int) -> bytes:
        await self._maybe_fail(messages)
        check_supported(request, self.options.unsupported)
        room = room_for(request, prompt, self.options.max_model_len, self.options.overflow)
        self.model.admit(prompt + room)
        words = answer_words(request)
        cached = await self.model.generate(messages, prompt, words[:room])
        if self._draw.random() < self.options.garbage_rate:
            return b'{"choices": [{"mess'
        whole = completion(words, room, prompt, self.options.served_model_name, request)
        whole["usage"]["prompt_tokens_details"] = {"cached_tokens": cached}
        return json.dumps(whole).encode()

    async def _maybe_fail(self, messages: list[dict[str, Any]]) -> None:
        options, load = self.options, self.model.load
        load.started += 1
        poisoned = options.die_on and any(options.die_on in text_of(message) for message in messages)
        if poisoned or (options.die_after and load.started > options.die_after):
            os.kill(os.getpid(), signal.SIGKILL)
        if (options.hang_after and load.started > options.hang_after) or (
            options.hang_on and any(options.hang_on in text_of(message) for message in messages)
        ):
            await self._stuck.wait()
        if load.started <= options.busy_first:
            raise Refusal(429, "Too many requests", {"Retry-After": f"{options.retry_after:g}"})
        if load.started <= options.fail_first or self._draw.random() < options.fail_rate_500:
            raise Refusal(500, "something broke inside")


async def serve_connection(api: Api, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Requests of one connection, one after the other, until the client closes it."""
    try:
        while (head := await reader.readuntil(b"\r\n\r\n")) is not None:
            method, path, headers = _parse_head(head)
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            status, more, content = await api.answer(method, path.partition("?")[0], headers, body)
            lines = [
                f"HTTP/1.1 {status} .",
                "Content-Type: application/json",
                f"Content-Length: {len(content)}",
            ]
            lines += [f"{key}: {value}" for key, value in more.items()]
            whole = "\r\n".join(lines).encode() + b"\r\n\r\n" + content
            if (
                path == "/v1/chat/completions"
                and api.model.load.finished <= api.options.half_body_first
                and status == 200
            ):
                writer.write(whole[: len(whole) - len(content) // 2])
                await writer.drain()
                return
            writer.write(whole)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        return  # the client closed the connection
    finally:
        writer.close()


def _parse_head(head: bytes) -> tuple[str, str, dict[str, str]]:
    first, *rest = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    pairs = (line.partition(":") for line in rest if line)
    return method, path, {key.strip().lower(): value.strip() for key, _, value in pairs}


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fake_server", description=__doc__.splitlines()[0] if __doc__ else "")
    flag = parser.add_argument
    flag("--host", default="127.0.0.1")
    flag("--port", type=int, required=True)
    flag("--model", default="fake")
    flag("--served-model-name", default="fake")
    flag("--max-model-len", type=int, default=4096)
    flag("--max-num-seqs", type=int, default=256)
    flag("--tokens-per-second", type=float, default=0.0, help="of all running requests together; 0 = no limit")
    flag("--token-log", default="", help="file that gets a line with the tokens of each answer when it is begun")
    flag("--start-seconds", type=float, default=0.0, help="time before it listens")
    flag("--children", type=int, default=0, help="processes of its own, as vLLM's engine core is one")
    flag("--fail-start", default="", help="end at the start with this message")
    flag("--overflow", choices=["clamp", "reject"], default="clamp")
    flag("--unsupported", default="", help="fields that are refused as OpenAI's newer models do, commas between")
    flag("--fail-rate-500", type=float, default=0.0)
    flag("--fail-first", type=int, default=0, help="500 to the first N chats")
    flag("--busy-first", type=int, default=0, help="429 to the first N chats")
    flag("--retry-after", type=float, default=0.0, help="seconds, sent with a 429")
    flag("--queue-limit", type=int, default=0, help="refuse a chat while N wait; 0 = off")
    flag("--queue-full-status", type=int, default=503)
    flag("--requests-per-minute", type=int, default=0, help="429 to what exceeds it; 0 = no limit")
    flag("--tokens-per-minute", type=int, default=0, help="prompt and longest answer; 429 to what exceeds it")
    flag("--minute-seconds", type=float, default=60.0, help="length of the minute that the limits mean")
    flag("--kv-blocks", type=int, default=4096, help="blocks of 16 words that the prefix cache holds")
    flag("--garbage-rate", type=float, default=0.0, help="share of chats answered with broken JSON")
    flag("--half-body-first", type=int, default=0, help="cut the body of the first N answers and close")
    flag("--hang-after", type=int, default=0, help="never answer a chat after N; 0 = off")
    flag("--hang-on", default="", help="never answer a chat that contains this text")
    flag("--die-after", type=int, default=0, help="SIGKILL itself at the chat after N; 0 = off")
    flag("--die-on", default="", help="SIGKILL itself at a chat that contains this text")
    flag("--failure-seed", type=int, default=0)
    return parser.parse_args()


async def run(options: argparse.Namespace) -> None:
    for _ in range(options.children):
        # Deaf to SIGTERM and without our environment: only the process group leads to it.
        await asyncio.create_subprocess_exec(sys.executable, "-c", CHILD, env={})
    await asyncio.sleep(options.start_seconds)
    if options.fail_start:
        raise ValueError(options.fail_start)
    api = Api(options)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    server = await asyncio.start_server(
        lambda r, w: serve_connection(api, r, w), options.host, options.port, backlog=1024
    )
    print(f"fake server for {options.served_model_name} on {options.host}:{options.port}", flush=True)
    await stopped.wait()
    server.close()


if __name__ == "__main__":
    asyncio.run(run(parse_options()))
