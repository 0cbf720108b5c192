"""An async client of any OpenAI-compatible chat endpoint that tells a bad row from a bad engine.

A row's own failure comes back as an answer with ``error_kind``; a failure of the engine raises.  The table is in
:meth:`ChatClient.answer`.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace

from yarl import URL

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
from hybrid_batch.engines.limits import Limiter, estimated_tokens, limiter_of
from hybrid_batch.engines.transport import CutOffError, Reply, Transport, UnreachableError
from hybrid_batch.engines.tries import CUTS, SLOW_TRIES, Again, Backoff, Shorter, Wait

HEALTH_TIMEOUT_S = 5.0

ROW_STATUS = frozenset({400, 413, 422})
REFUSED_STATUS = frozenset({401, 403, 404})
BUSY_STATUS = frozenset({429, 503})


class ChatClient:
    """A :class:`~hybrid_batch.engines.base.Generator` over HTTP, for one event loop.

    ``concurrency`` bounds the connections; ``request_timeout_s`` is the time that one try may take;
    ``retry_budget_s`` is how long the endpoint may give no answer at all (429, 503, no connection) before it is
    given up: while any request succeeds, all go on waiting.  ``limiter`` says when requests may be sent; without one
    the limits of ``handle`` do.
    """

    def __init__(
        self,
        handle: EngineHandle,
        *,
        concurrency: int,
        request_timeout_s: float,
        retry_budget_s: float = 300.0,
        limiter: Limiter | None = None,
    ) -> None:
        self.handle = handle
        self.request_timeout_s = request_timeout_s
        self.retry_budget_s = retry_budget_s
        self.last_success = float("-inf")
        self.limiter = limiter or limiter_of(handle)
        root = handle.base_url.removesuffix("/v1")
        self.chat_url = URL(f"{handle.base_url}/chat/completions")
        self.tokenize_url, self.health_url = URL(f"{root}/tokenize"), URL(f"{root}/health")
        # A proxy must not come between us and loopback.
        self.http = Transport(handle.base_url, handle.api_key, concurrency, may_use_proxy=not handle.is_local)

    async def answer(self, request: ChatRequest) -> ChatAnswer:
        """One request's answer, or the row's failure, or an exception for the engine's.

        ===================================  ===============================================================
        200                                  the answer; an unreadable one is asked again, then ``bad_response``
        400, 413, 422                        ``context_overflow`` if the prompt leaves no room, else ``invalid_request``
        404, the row names its adapter       ``invalid_request``
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
        """Close its connections; a second call does nothing."""
        await self.http.close()


class _Exchange:
    """One request and all its tries."""

    def __init__(self, client: ChatClient, request: ChatRequest) -> None:
        self._client = client
        self._handle = client.handle
        self._request = request
        self._shortened = False
        self._refused_since: float | None = None
        self._backoff = Backoff()
        self._cuts = 0

    async def run(self) -> ChatAnswer:
        tries = 0
        while True:
            try:
                return await self._try_once()
            except Shorter:
                continue
            except Again as again:
                tries += 1
                if tries >= again.tries:
                    return again.answer
                await asyncio.sleep(self._backoff.next())
            except Wait as wait:
                self._check_budget(wait.reason)
                await self._pause(wait)

    async def _try_once(self) -> ChatAnswer:
        try:
            payload = to_payload(self._request, self._handle.model, self._handle.max_model_len)
            body = json.dumps(payload, ensure_ascii=False).encode()
        except (TypeError, ValueError) as error:  # a lone surrogate, or content that is no JSON
            return failed(INVALID_REQUEST, f"the request cannot be written as JSON: {error}")
        reserved = estimated_tokens(self._request, payload) if self._client.limiter.counts_tokens else 0
        await self._client.limiter.admit(reserved)
        used = 0
        began = time.monotonic()
        try:
            answer = await self._judge(await self._post(body), began)
            used = answer.prompt_tokens + answer.completion_tokens
        finally:
            self._client.limiter.settle(reserved, used)
        return answer

    async def _post(self, body: bytes) -> Reply:
        client = self._client
        try:
            return await client.http.post(client.chat_url, body, client.request_timeout_s)
        except TimeoutError:
            raise self._hanging() from None
        except UnreachableError as error:
            raise self._unreachable(error) from None
        except CutOffError as error:
            raise self._cut_off(error) from None

    async def _judge(self, reply: Reply, began: float) -> ChatAnswer:
        status = reply.status
        if status == 200:
            return self._accepted(reply.body, time.monotonic() - began)
        text = error_text(reply.body)
        if status in ROW_STATUS:
            return await self._row_refused(text)
        if status == 404 and self._request.adapter is not None:
            return failed(INVALID_REQUEST, text)  # the row's own choice of a model
        if status in REFUSED_STATUS:
            raise EndpointError(self._about(f"refuses all requests with status {status}: {text}"))
        if status >= 500:
            await self._raise_if_dying(status, text)
        if status in BUSY_STATUS:
            asked = seconds_to_wait(reply.headers)
            raise Wait(f"status {status}: {text}", asked, for_all=status == 429 or asked is not None)
        if status >= 500:
            raise Again(failed("server_error", f"status {status}: {text}"))
        raise EndpointError(self._about(f"answers with status {status}, which is no chat completion: {text}"))

    def _accepted(self, body: bytes, seconds: float) -> ChatAnswer:
        try:
            answer = answer_of(body, self._request.sampling)
        except BadBodyError as error:
            raise Again(failed("bad_response", f"status 200 without a chat completion: {error}")) from None
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
        raise Shorter

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
        client = self._client
        try:
            reply = await client.http.post(client.tokenize_url, json.dumps(payload).encode(), client.request_timeout_s)
        except TimeoutError:
            raise self._hanging() from None
        except (UnreachableError, CutOffError) as error:
            raise self._cut_off(error) from None
        return int(json.loads(reply.body)["count"]) if reply.status == 200 else None

    def _hanging(self) -> Exception:
        seconds = f"{self._client.request_timeout_s:g} s"
        if self._handle.is_local:
            return EngineDiedError(self._about(f"hangs: no answer within {seconds}"))
        message = f"no answer within request_timeout_s = {seconds}, {SLOW_TRIES} times"
        return Again(failed("timeout", message), SLOW_TRIES)

    def _unreachable(self, error: Exception) -> Exception:
        reason = f"cannot be reached ({error})"
        return EngineDiedError(self._about(reason)) if self._handle.is_local else Wait(reason)

    def _cut_off(self, error: Exception) -> Exception:
        """A server may close an idle connection just as we use it: one more try tells that from a death."""
        reason = f"closed the connection ({error})"
        self._cuts += 1
        if not self._handle.is_local:
            return Wait(reason)
        if self._cuts < CUTS:
            return Again(failed("server_error", reason))
        return EngineDiedError(self._about(reason))

    async def _raise_if_dying(self, status: int, text: str) -> None:
        """A vLLM whose engine process died still answers for a moment, with 500 for everybody's rows."""
        if not self._handle.is_local:
            return
        try:
            health = await self._client.http.get(self._client.health_url, HEALTH_TIMEOUT_S)
        except TimeoutError:
            raise EngineDiedError(self._about(f"answers {status} ({text}) and does not say how it is")) from None
        except (UnreachableError, CutOffError) as error:
            raise EngineDiedError(self._about(f"answered {status} ({text}) and is gone ({error})")) from None
        if health.status != 200:
            raise EngineDiedError(self._about(f"answers {status} ({text}) and says that it is not healthy"))

    def _check_budget(self, reason: str) -> None:
        now = time.monotonic()
        self._refused_since = self._refused_since if self._refused_since is not None else now
        since = max(self._refused_since, self._client.last_success)
        if now - since > self._client.retry_budget_s:
            message = self._about(f"gave no answer for {now - since:.0f} s (retry budget): {reason}")
            raise EngineDiedError(message) if self._handle.is_local else EndpointError(message)

    async def _pause(self, wait: Wait) -> None:
        """The time asked for, at most the budget, and a backoff; the limiter holds the other requests back as well."""
        pause = self._backoff.next()
        if wait.seconds is not None:
            pause += min(wait.seconds, self._client.retry_budget_s)
        if wait.for_all:
            self._client.limiter.pause(pause)
        await asyncio.sleep(pause)

    def _about(self, what: str) -> str:
        log = f"; log: {self._handle.log_path}" if self._handle.log_path else ""
        return f"{self._handle.base_url} (model {self._handle.model}) {what}{log}"
