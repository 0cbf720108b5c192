"""What the job needs of a model, and no more: two protocols, their values, and recipes.

A recipe is a small picklable value that travels to the executor; the engine is built there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any, Final, Literal, Protocol

import numpy as np

from hybrid_batch.engines.memory import REMEMBERED

Message = Mapping[str, Any]
"""One chat turn: ``{"role": "system" | "user" | "assistant", "content": str | list of parts}``."""


Backend = Literal["auto", "torch", "torch-fp32", "torch-bf16", "onnx-fp32", "onnx-int8"]
"""What computes a router's scores.  ``torch`` takes fp32 on a CPU and 16 bits on a GPU."""

MaxTokensField = Literal["max_tokens", "max_completion_tokens"]
"""The name under which an endpoint takes the bound of an answer."""

Spared = Literal[
    "temperature", "top_p", "top_k", "min_p", "seed", "presence_penalty", "frequency_penalty", "repetition_penalty",
    "min_tokens", "ignore_eos", "stop_token_ids", "bad_words", "logit_bias", "include_stop_str_in_output",
    "skip_special_tokens", "include_reasoning", "parallel_tool_calls", "reasoning_effort", "user",
]  # fmt: skip
"""The fields that an endpoint may have to be spared: those that have no part in the form of an answer."""

INVALID_REQUEST: Final = "invalid_request"
"""``error_kind`` of a request that the engine refused."""

INVALID_JSON: Final = "invalid_json"
"""``error_kind`` of an answer that had to be JSON and cannot be read as such."""


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn, and what form it must have.

    ``max_tokens`` counts completion tokens; ``n`` is the number of answers; ``logprobs`` is the number of most likely
    tokens that are told at each position (0: the drawn one alone), None for none at all.  None leaves a value to the
    server, which may take it from the model's own ``generation_config.json``.

    The fields from ``response_format`` on are JSON texts of the same field of a chat completion's body; ``passed`` is a
    JSON object of further fields.  Texts, and not objects, so that a sampling can be hashed and never changes.
    """

    temperature: float | None = 0.0
    max_tokens: int = 256
    top_p: float | None = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    top_k: int | None = None
    min_p: float | None = None
    n: int = 1
    logprobs: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    response_format: str | None = None
    structured_outputs: str | None = None
    tools: str | None = None
    tool_choice: str | None = None
    chat_template_kwargs: str | None = None
    passed: str | None = None

    def stated(self) -> dict[str, Any]:
        """Plain values of all fields that are not left to the server, for identities and records."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class ChatRequest:
    """One query as the engine gets it.

    ``adapter`` is the name of an adapter that the server serves as a model of its own; None asks the tier's model.
    """

    messages: Sequence[Message]
    sampling: Sampling = field(default_factory=Sampling)
    adapter: str | None = None


def request_key(request: ChatRequest) -> bytes:
    """16 bytes that are equal for two requests of one tier exactly where everything that determines an answer is.

    The order of the fields of a turn does not count, that of a schema's members does: answers follow it.  Raises
    ``TypeError`` for messages that are no JSON.
    """
    told = json.dumps([request.messages, request.adapter], sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(f"{_sampling_text(request.sampling)}{told}".encode(), digest_size=16).digest()


@lru_cache(maxsize=64)
def _sampling_text(sampling: Sampling) -> str:
    return json.dumps(sampling.stated(), sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True)
class ChatAnswer:
    """One answer, or the reason why this one row has none (``error_kind`` set, ``text`` None).

    ``finish_reason`` is the engine's word (``stop``, ``length``, ...); tokens are the engine's own count, of all ``n``
    answers together; ``latency_seconds`` is wall time of the request that gave the answer.  ``cached_prompt_tokens``
    are those of the prompt's tokens that the engine had computed before, 0 where it does not say.  ``answered_by`` is
    the id of the query whose identical request was answered, None where this one was.

    ``reasoning`` is what the server split off as the model's thoughts.  ``tool_calls`` and ``logprobs`` are JSON texts
    of these fields of the first answer; ``samples`` are the texts of the others.  Of the failures, only
    ``invalid_json`` keeps all these, and its text.
    """

    text: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    latency_seconds: float = 0.0
    error_kind: str | None = None
    error_message: str | None = None
    cached_prompt_tokens: int = 0
    answered_by: str | None = None
    reasoning: str | None = None
    tool_calls: str | None = None
    logprobs: str | None = None
    samples: tuple[str, ...] = ()


class Scorer(Protocol):
    """P(the small model's answer is as good as the large one's), from the query and, where it is known, its task.

    In two steps, so that a batch can be made ready while the one before it is scored.
    """

    @property
    def told(self) -> str:
        """What scores, and on what, in a few words for the user: ``torch fp32 on cpu``."""
        ...

    def prepare(self, texts: Sequence[str], tasks: Sequence[str | None] | None = None) -> Any:
        """Everything that needs no model; another thread may call it while :meth:`scores` runs.

        ``tasks`` has the task of each text; None, and a task that the scorer does not know, say nothing.
        """
        ...

    def scores(self, prepared: Any) -> np.ndarray:
        """Score the texts of ``prepared`` -> float32 array of shape ``[len(texts)]``, each value in [0, 1]."""
        ...


class Generator(Protocol):
    """Answers requests.  A row's own failure is data; a failure of the engine raises ``EngineError``."""

    async def answer(self, request: ChatRequest) -> ChatAnswer: ...

    async def close(self) -> None: ...


@dataclass(frozen=True)
class RouterRecipe:
    """The router in the folder or at the ``s3://`` URL ``path``, whose card has this ``fingerprint``.

    ``backend`` says what computes its scores; ``auto`` is decided on the executor: torch where there is a GPU, else the
    export whose numbers and record are named by ``export``, else torch.  ``threads`` bounds the CPU threads of one
    Python worker; None leaves them to the library.  ``remember`` is the number of scores that a worker keeps for
    queries that come again.
    """

    path: str
    fingerprint: str
    backend: Backend = "auto"
    export: ExportRef | None = None
    threads: int | None = None
    remember: int = REMEMBERED


@dataclass(frozen=True)
class ExportRef:
    """An export beside a router: its ``numbers`` (``int8``, ``fp32``) and the ``sha256`` of its record."""

    numbers: str
    sha256: str


@dataclass(frozen=True)
class ServerRecipe:
    """An engine that runs as a server process beside the executor.

    ``model`` is a folder on the executor or a hub name.  ``server`` is ``vllm`` or ``fake`` (the fake takes its speed
    and failure modes from ``engine_args``).  ``engine_args`` become command line flags of the server
    (``{"enforce_eager": True}`` -> ``--enforce-eager``).  ``python`` is the server's interpreter; None means the
    executor's own.  ``window`` bounds the requests that one task keeps under way, None to ``max_num_seqs``.  ``gpus``
    is the number of GPUs one engine takes, 0 for the CPU.  ``adapter`` is the name under which the server serves the
    adapter that this tier asks; None asks the model itself.
    """

    tier: str
    model: str
    server: str = "vllm"
    gpus: int = 0
    tensor_parallel: int = 1
    max_model_len: int | None = None
    max_num_seqs: int = 256
    window: int | None = None
    dtype: str = "auto"
    trust_remote_code: bool = False
    engine_args: tuple[tuple[str, str | int | float | bool], ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    python: str | None = None
    start_timeout_s: float = 900.0
    idle_timeout_s: float = 120.0
    request_timeout_s: float = 600.0
    adapter: str | None = None


@dataclass(frozen=True)
class EndpointRecipe:
    """Any OpenAI-compatible endpoint.  The key is read on the executor from ``api_key_env``, never carried.

    ``requests_per_minute`` and ``tokens_per_minute`` are limits of the whole job; ``shares`` is the number of tasks
    that may call the endpoint at once, and each of them keeps to that part of the limits.  ``unsent`` are the fields
    that it is never sent.
    """

    tier: str
    model: str
    base_url: str
    api_key_env: str | None = None
    concurrency: int = 32
    request_timeout_s: float = 600.0
    retry_budget_s: float = 300.0
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    shares: int = 1
    max_tokens_field: MaxTokensField = "max_tokens"
    unsent: tuple[Spared, ...] = ()


EngineRecipe = ServerRecipe | EndpointRecipe


@dataclass(frozen=True)
class EngineHandle:
    """A live engine as a client sees it.  ``api_key`` stays in memory; ``repr`` hides it.

    ``load_seconds`` is the time from process start to readiness, 0 for an endpoint.  ``is_local`` tells a server
    that we run beside the executor, whose lost connection means that it died, from an endpoint somewhere else, whose
    lost connection is tried again.  ``log_path`` is the local server's log.  The limits are one task's share of an
    endpoint's, None where there is none.
    """

    engine_id: str
    base_url: str
    model: str
    max_model_len: int | None = None
    load_seconds: float = 0.0
    api_key: str | None = field(default=None, repr=False)
    is_local: bool = True
    log_path: str | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    max_tokens_field: MaxTokensField = "max_tokens"
