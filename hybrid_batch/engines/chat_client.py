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
from hybrid_batch.engines import tries as rules
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
from hybrid_batch.engines.tries import Again, Backoff, Doubt, Pulse, Shorter, Wait

HEALTH_TIMEOUT_S = 5.0

# What the length of a prompt depends on.
TOKENIZED = ("model", "messages", "tools", "chat_template", "chat_template_kwargs", "mm_processor_kwargs")


class ChatClient:
    """A :class:`~hybrid_batch.engines.base.Generator` over HTTP, for one event loop.

    ``concurrency`` bounds the connections; ``request_timeout_s`` is the time that one try may take
    (at a local engine ``LOOK_S`` more, while we look whether it lives);
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
        self.pulse = Pulse(handle)
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
        403, 404 after another's success     ``invalid_request``
        401, 403, 404                        raises ``EndpointError``
        408, 409, 425                        asked again, then ``server_error``
        429                                  waits (``Retry-After`` or backoff), at last raises ``EndpointError``
        503                                  the same; endpoint: ``server_error`` if nearly all others are answered
        502, 504, 520 to 529, endpoint       waits as for 503; ``server_error`` if others have success meanwhile
        other 5xx                            asked again, then ``server_error``
        no connection, local server          raises ``EngineDiedError``
        no connection, endpoint              waits, at last raises ``EndpointError``
        lost connection, local server        asked again, then raises ``EngineDiedError``
        lost connection, endpoint            as 502
        no answer in time, local server      as below if it answers others or generates, else ``EngineDiedError``
        no answer in time, endpoint          asked again, then ``timeout``
        ===================================  ===============================================================

        A 5xx of a local server whose ``/health`` is bad raises ``EngineDiedError`` too.
        """
        return await _Exchange(self, request).run()

    async def close(self) -> None:
        """Close its connections; a second call does nothing."""
        await self.pulse.close()
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
        self._doubt = Doubt(client.pulse)

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
                if (waited := self._waited_too_long()) is not None:
                    return self._given_up(wait, waited)
                await self._pause(wait)

    async def _try_once(self) -> ChatAnswer:
        try:
            handle = self._handle
            payload = to_payload(self._request, handle.model, handle.max_model_len, handle.max_tokens_field)
            body = json.dumps(payload, ensure_ascii=False).encode()
        except (TypeError, ValueError) as error:  # a lone surrogate, or content that is no JSON
            return failed(INVALID_REQUEST, f"the request cannot be written as JSON: {error}")
        reserved = estimated_tokens(self._request, payload) if self._client.limiter.counts_tokens else 0
        await self._client.limiter.admit(reserved)
        used = 0
        began = time.monotonic()
        try:
            answer = await self._judge(await self._post(self._client.chat_url, body), began)
            used = answer.prompt_tokens + answer.completion_tokens
        finally:
            self._client.limiter.settle(reserved, used)
        return answer

    async def _post(self, url: URL, body: bytes) -> Reply:
        client, seconds = self._client, self._client.request_timeout_s
        if not self._handle.is_local:
            return await self._sent(url, body, seconds)
        # The look happens while the request is under way: ended, it would be no sign of life any more.
        timer = asyncio.get_running_loop().call_later(seconds, client.pulse.look)
        try:
            return await self._sent(url, body, seconds + rules.LOOK_S)
        finally:
            timer.cancel()

    async def _sent(self, url: URL, body: bytes, seconds: float) -> Reply:
        try:
            return await self._client.http.post(url, body, seconds)
        except TimeoutError:
            raise await self._hanging(seconds) from None
        except UnreachableError as error:
            raise self._unreachable(error) from None
        except CutOffError as error:
            raise self._cut_off(error) from None

    async def _judge(self, reply: Reply, began: float) -> ChatAnswer:
        status = reply.status
        if status == 200:
            return self._accepted(reply.body, time.monotonic() - began)
        text = error_text(reply.body)
        if status in rules.ROW_STATUS:
            return await self._row_refused(text)
        if status == 404 and self._request.adapter is not None:
            return failed(INVALID_REQUEST, text)  # the row's own choice of a model
        if status in (403, 404) and self._client.pulse.successes:
            return failed(INVALID_REQUEST, f"status {status}: {text}")  # others were let in: it is the row's content
        if status in rules.REFUSED_STATUS:
            raise EndpointError(self._about(f"refuses all requests with status {status}: {text}"))
        if status >= 500:
            await self._raise_if_dying(status, text)
        if status in rules.BUSY_STATUS or (status in rules.GATEWAY_STATUS and not self._handle.is_local):
            raise self._away(status, f"status {status}: {text}", seconds_to_wait(reply.headers))
        if status >= 500 or status in rules.PASSING_STATUS:
            raise Again(failed("server_error", f"status {status}: {text}"))
        raise EndpointError(self._about(f"answers with status {status}, which is no chat completion: {text}"))

    def _accepted(self, body: bytes, seconds: float) -> ChatAnswer:
        try:
            answer = answer_of(body, self._request.sampling)
        except BadBodyError as error:
            raise Again(failed("bad_response", f"status 200 without a chat completion: {error}")) from None
        self._client.pulse.beat()
        window = self._handle.max_model_len
        if answer.completion_tokens == 0 and window is not None and answer.prompt_tokens >= window:
            return failed("context_overflow", f"the prompt's {answer.prompt_tokens} tokens fill the window of {window}")
        return replace(answer, latency_seconds=seconds)

    async def _row_refused(self, text: str) -> ChatAnswer:
        """The row's failure, unless a smaller ``max_tokens`` helps: it is an upper bound, not a demand."""
        self._client.pulse.beat()  # a refusal with a reason is a sign of life too
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
        payload = to_payload(self._request, self._handle.model)
        body = json.dumps({name: payload[name] for name in TOKENIZED if name in payload}).encode()
        reply = await self._post(self._client.tokenize_url, body)
        try:
            return int(json.loads(reply.body)["count"]) if reply.status == 200 else None
        except (ValueError, KeyError, TypeError):
            return None

    async def _hanging(self, seconds: float) -> Exception:
        pulse, limit = self._client.pulse, f"{self._client.request_timeout_s:g} s"
        if self._handle.is_local and not (pulse.beat_within(seconds) or await pulse.generates()):
            return EngineDiedError(self._about(f"hangs: no answer within {limit}"))
        message = f"no answer within request_timeout_s = {limit}, {rules.SLOW_TRIES} times"
        return Again(failed("timeout", message), rules.SLOW_TRIES)

    def _unreachable(self, error: Exception) -> Exception:
        reason = f"cannot be reached ({error})"
        return EngineDiedError(self._about(reason)) if self._handle.is_local else Wait(reason)

    def _cut_off(self, error: Exception) -> Exception:
        """A server may close an idle connection just as we use it: one more try tells that from a death."""
        reason = f"closed the connection ({error})"
        self._cuts += 1
        if not self._handle.is_local:
            return self._doubt.judge(reason)
        if self._cuts < rules.CUTS:
            return Again(failed("server_error", reason))
        return EngineDiedError(self._about(reason))

    def _away(self, status: int, reason: str, asked: float | None) -> Exception:
        if status == 429 or self._handle.is_local:
            return Wait(reason, asked, for_all=status == 429 or asked is not None)
        return self._doubt.judge(reason, asked, busy=status == 503)

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

    def _waited_too_long(self) -> float | None:
        """Seconds without any answer, if they are beyond the budget."""
        now = time.monotonic()
        self._refused_since = self._refused_since if self._refused_since is not None else now
        waited = now - max(self._refused_since, self._client.pulse.last_success)
        return waited if waited > self._client.retry_budget_s else None

    def _given_up(self, wait: Wait, waited: float) -> ChatAnswer:
        if wait.doubtful and self._doubt.is_the_last():
            return failed("server_error", wait.reason)
        message = self._about(f"gave no answer for {waited:.0f} s (retry budget): {wait.reason}")
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
