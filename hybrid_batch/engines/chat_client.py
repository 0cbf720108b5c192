"""An async client of any OpenAI-compatible chat endpoint that tells a bad row from a bad engine.

A row's own failure comes back as an answer with ``error_kind``; a failure of the engine raises.  The table is in
:meth:`ChatClient.answer`.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from dataclasses import replace

import httpx

from hybrid_batch.core.errors import EndpointError, EngineDiedError
from hybrid_batch.engines.base import INVALID_REQUEST, ChatAnswer, ChatRequest, EngineHandle
from hybrid_batch.engines.chat_wire import (
    BadBodyError,
    answer_of,
    error_text,
    failed,
    prompt_length_of,
    says_overflow,
    seconds_to_wait,
    to_payload,
    window_of,
)

TRIES = 3
"""Tries of one request whose answer is a 5xx, unreadable or cut off."""

SLOW_TRIES = 2
"""Tries of a request that an endpoint does not answer in time."""

CUTS = 2
"""Lost connections of one request after which a local server counts as dead."""

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 30.0
CONNECT_TIMEOUT_S = 10.0
HEALTH_TIMEOUT_S = 5.0

KEEPALIVE_S = 4.0
"""Below the 5 s after which vLLM closes an idle connection, so that a request rarely meets a closing one."""

ROW_STATUS = frozenset({400, 413, 422})
REFUSED_STATUS = frozenset({401, 403, 404})
BUSY_STATUS = frozenset({429, 503})


class ChatClient:
    """A :class:`~hybrid_batch.engines.base.Generator` over HTTP, for one event loop.

    ``concurrency`` bounds the connections; ``request_timeout_s`` is the time that one try may take;
    ``retry_budget_s`` is how long the endpoint may give no answer at all (429, 503, no connection) before it is
    given up: while any request succeeds, all go on waiting.
    """

    def __init__(
        self,
        handle: EngineHandle,
        *,
        concurrency: int,
        request_timeout_s: float,
        retry_budget_s: float = 300.0,
    ) -> None:
        self.handle = handle
        self.request_timeout_s = request_timeout_s
        self.retry_budget_s = retry_budget_s
        self.last_success = float("-inf")
        key = {"Authorization": f"Bearer {handle.api_key}"} if handle.api_key else {}
        self.http = httpx.AsyncClient(
            headers={**key, "Content-Type": "application/json"},
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
            limits=httpx.Limits(
                max_connections=concurrency, max_keepalive_connections=concurrency, keepalive_expiry=KEEPALIVE_S
            ),
            trust_env=not handle.is_local,  # a proxy must not come between us and loopback
        )

    async def answer(self, request: ChatRequest) -> ChatAnswer:
        """One request's answer, or the row's failure, or an exception for the engine's.

        ===================================  ===============================================================
        200                                  the answer; an unreadable one is asked again, then ``bad_response``
        400, 413, 422                        ``context_overflow`` if the prompt leaves no room, else ``invalid_request``
        401, 403, 404                        raises ``EndpointError``
        429, 503                             waits (``Retry-After`` or backoff), at last raises ``EndpointError``
        other 5xx                            asked again, then ``server_error``
        no or lost connection, local server  raises ``EngineDiedError``
        no or lost connection, endpoint      waits, at last raises ``EndpointError``
        no answer in time, local server      raises ``EngineDiedError``
        no answer in time, endpoint          asked again, then ``timeout``
        ===================================  ===============================================================

        A 5xx of a local server whose ``/health`` is bad raises ``EngineDiedError`` too.
        """
        return await _Exchange(self, request).run()

    async def close(self) -> None:
        await self.http.aclose()


class _Again(Exception):
    """Ask again: ``answer`` is what the row gets when ``tries`` of them failed."""

    def __init__(self, answer: ChatAnswer, tries: int = TRIES) -> None:
        super().__init__(answer.error_message)
        self.answer, self.tries = answer, tries


class _Wait(Exception):
    """The engine takes no requests now; ``seconds`` is what it asked us to wait."""

    def __init__(self, reason: str, seconds: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.seconds = reason, seconds


class _Exchange:
    """One request and all its tries."""

    def __init__(self, client: ChatClient, request: ChatRequest) -> None:
        self._client = client
        self._handle = client.handle
        self._request = request
        self._shortened = False
        self._refused_since: float | None = None
        self._pauses = 0
        self._cuts = 0

    async def run(self) -> ChatAnswer:
        tries = 0
        while True:
            try:
                return await self._try_once()
            except _Again as again:
                tries += 1
                if tries >= again.tries:
                    return again.answer
                await self._pause(None)
            except _Wait as wait:
                self._check_budget(wait.reason)
                await self._pause(wait.seconds)

    async def _try_once(self) -> ChatAnswer:
        try:
            payload = to_payload(self._request, self._handle.model, self._handle.max_model_len)
            body = json.dumps(payload, ensure_ascii=False).encode()
        except (TypeError, ValueError) as error:  # a lone surrogate, or content that is no JSON
            return failed(INVALID_REQUEST, f"the request cannot be written as JSON: {error}")
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._client.request_timeout_s):
                response = await self._client.http.post(f"{self._handle.base_url}/chat/completions", content=body)
        except TimeoutError:
            raise self._hanging() from None
        except httpx.ConnectError as error:
            raise self._unreachable(error) from None
        except httpx.TransportError as error:
            raise self._cut_off(error) from None
        return await self._judge(response, time.monotonic() - began)

    async def _judge(self, response: httpx.Response, seconds: float) -> ChatAnswer:
        status = response.status_code
        if status == 200:
            return self._accepted(response.content, seconds)
        text = error_text(response.content)
        if status in ROW_STATUS:
            return await self._row_refused(text)
        if status in REFUSED_STATUS:
            raise EndpointError(self._about(f"refuses all requests with status {status}: {text}"))
        if status >= 500:
            await self._raise_if_dying(status, text)
        if status in BUSY_STATUS:
            raise _Wait(f"status {status}: {text}", seconds_to_wait(response.headers.get("Retry-After")))
        if status >= 500:
            raise _Again(failed("server_error", f"status {status}: {text}"))
        raise EndpointError(self._about(f"answers with status {status}, which is no chat completion: {text}"))

    def _accepted(self, body: bytes, seconds: float) -> ChatAnswer:
        try:
            answer = answer_of(body)
        except BadBodyError as error:
            raise _Again(failed("bad_response", f"status 200 without a chat completion: {error}")) from None
        self._client.last_success = time.monotonic()
        window = self._handle.max_model_len
        if answer.completion_tokens == 0 and window is not None and answer.prompt_tokens >= window:
            return failed("context_overflow", f"the prompt's {answer.prompt_tokens} tokens fill the window of {window}")
        return replace(answer, latency_seconds=seconds)

    async def _row_refused(self, text: str) -> ChatAnswer:
        """The row's failure, unless a smaller ``max_tokens`` helps: it is an upper bound, not a demand."""
        self._client.last_success = time.monotonic()  # a refusal with a reason is a sign of life too
        if self._request.sampling.max_tokens < 1 or not says_overflow(text):
            return failed(INVALID_REQUEST, text)
        room = None if self._shortened else await self._room(text)
        if room is None or not 0 < room < self._request.sampling.max_tokens:
            return failed("context_overflow", text)
        self._shortened = True
        sampling = replace(self._request.sampling, max_tokens=room)
        self._request = replace(self._request, sampling=sampling)
        return await self._try_once()

    async def _room(self, text: str) -> int | None:
        """Tokens left for the answer: from the refusal's own words, else from vLLM's tokenizer."""
        window = window_of(text) or self._handle.max_model_len
        if window is None:
            return None
        prompt = prompt_length_of(text)
        if prompt is None and self._handle.is_local:
            prompt = await self._count_prompt()
        return None if prompt is None else window - prompt

    async def _count_prompt(self) -> int | None:
        payload = {
            "model": self._handle.model,
            "messages": [dict(message) for message in self._request.messages],
        }
        try:
            url = f"{self._root()}/tokenize"
            response = await self._client.http.post(url, json=payload, timeout=self._client.request_timeout_s)
            return int(response.json()["count"]) if response.status_code == 200 else None
        except httpx.TransportError as error:
            raise self._cut_off(error) from None

    def _hanging(self) -> Exception:
        seconds = f"{self._client.request_timeout_s:g} s"
        if self._handle.is_local:
            return EngineDiedError(self._about(f"hangs: no answer within {seconds}"))
        message = f"no answer within request_timeout_s = {seconds}, {SLOW_TRIES} times"
        return _Again(failed("timeout", message), SLOW_TRIES)

    def _unreachable(self, error: httpx.TransportError) -> Exception:
        reason = f"cannot be reached ({_name(error)})"
        return EngineDiedError(self._about(reason)) if self._handle.is_local else _Wait(reason)

    def _cut_off(self, error: httpx.TransportError) -> Exception:
        """A server may close an idle connection just as we use it: one more try tells that from a death."""
        reason = f"closed the connection ({_name(error)})"
        self._cuts += 1
        if not self._handle.is_local:
            return _Wait(reason)
        if self._cuts < CUTS:
            return _Again(failed("server_error", reason))
        return EngineDiedError(self._about(reason))

    async def _raise_if_dying(self, status: int, text: str) -> None:
        """A vLLM whose engine process died still answers for a moment, with 500 for everybody's rows."""
        if not self._handle.is_local:
            return
        try:
            health = await self._client.http.get(f"{self._root()}/health", timeout=HEALTH_TIMEOUT_S)
        except httpx.TransportError as error:
            raise EngineDiedError(self._about(f"answered {status} ({text}) and is gone ({_name(error)})")) from None
        if health.status_code != 200:
            raise EngineDiedError(self._about(f"answers {status} ({text}) and says that it is not healthy"))

    def _check_budget(self, reason: str) -> None:
        now = time.monotonic()
        self._refused_since = self._refused_since if self._refused_since is not None else now
        since = max(self._refused_since, self._client.last_success)
        if now - since > self._client.retry_budget_s:
            message = self._about(f"gave no answer for {now - since:.0f} s (retry budget): {reason}")
            raise EngineDiedError(message) if self._handle.is_local else EndpointError(message)

    async def _pause(self, asked: float | None) -> None:
        """The time asked for, else exponential backoff with full jitter; never beyond the longest pause."""
        longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**self._pauses)
        self._pauses += 1
        drawn = random.uniform(0.0, longest)  # noqa: S311 (not for secrets)
        await asyncio.sleep(drawn if asked is None else min(asked, LONGEST_PAUSE_S) + drawn)

    def _root(self) -> str:
        return self._handle.base_url.removesuffix("/v1")

    def _about(self, what: str) -> str:
        log = f"; log: {self._handle.log_path}" if self._handle.log_path else ""
        return f"{self._handle.base_url} (model {self._handle.model}) {what}{log}"


def _name(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")
