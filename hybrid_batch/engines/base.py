"""What the job needs of a model, and no more: two protocols, their values, and recipes.

A recipe is a small picklable value that travels to the executor; the engine is built there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

import numpy as np

from hybrid_batch.engines.memory import REMEMBERED

Message = Mapping[str, Any]
"""One chat turn: ``{"role": "system" | "user" | "assistant", "content": str}``."""


Backend = Literal["auto", "torch", "torch-fp32", "torch-bf16", "onnx-fp32", "onnx-int8"]
"""What computes a router's scores.  ``torch`` takes fp32 on a CPU and 16 bits on a GPU."""

INVALID_REQUEST: Final = "invalid_request"
"""``error_kind`` of a request that the engine refused."""


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn.  ``max_tokens`` counts completion tokens."""

    temperature: float = 0.0
    max_tokens: int = 256
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class ChatRequest:
    """One query as the engine gets it."""

    messages: Sequence[Message]
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True)
class ChatAnswer:
    """One answer, or the reason why this one row has none (``error_kind`` set, ``text`` None).

    ``finish_reason`` is the engine's word (``stop``, ``length``, ...); tokens are the engine's own count;
    ``latency_seconds`` is wall time of the request that gave the answer.
    """

    text: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    latency_seconds: float = 0.0
    error_kind: str | None = None
    error_message: str | None = None


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

    ``model`` is a folder on the executor or a hub name.  ``server`` is ``vllm`` or ``fake`` (the fake takes
    its speed and failure modes from ``engine_args``).  ``engine_args`` become command line flags of the server
    (``{"enforce_eager": True}`` -> ``--enforce-eager``).  ``python`` is the server's interpreter; None means
    the executor's own.  ``gpus`` is the number of GPUs one engine takes, 0 for the CPU.
    """

    tier: str
    model: str
    server: str = "vllm"
    gpus: int = 0
    tensor_parallel: int = 1
    max_model_len: int | None = None
    max_num_seqs: int = 256
    dtype: str = "auto"
    trust_remote_code: bool = False
    engine_args: tuple[tuple[str, str | int | float | bool], ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    python: str | None = None
    start_timeout_s: float = 900.0
    idle_timeout_s: float = 120.0
    request_timeout_s: float = 600.0


@dataclass(frozen=True)
class EndpointRecipe:
    """Any OpenAI-compatible endpoint.  The key is read on the executor from ``api_key_env``, never carried."""

    tier: str
    model: str
    base_url: str
    api_key_env: str | None = None
    concurrency: int = 32
    request_timeout_s: float = 600.0
    retry_budget_s: float = 300.0


EngineRecipe = ServerRecipe | EndpointRecipe


@dataclass(frozen=True)
class EngineHandle:
    """A live engine as a client sees it.  ``api_key`` stays in memory; ``repr`` hides it.

    ``load_seconds`` is the time from process start to readiness, 0 for an endpoint.  ``is_local`` tells a server
    that we run beside the executor, whose lost connection means that it died, from an endpoint somewhere else, whose
    lost connection is tried again.  ``log_path`` is the local server's log.
    """

    engine_id: str
    base_url: str
    model: str
    max_model_len: int | None = None
    load_seconds: float = 0.0
    api_key: str | None = field(default=None, repr=False)
    is_local: bool = True
    log_path: str | None = None
