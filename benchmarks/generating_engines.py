"""One engine for all: the recipe of the server, and what it means for a program that calls vLLM itself."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hybrid_batch.engines.base import ServerRecipe
from hybrid_batch.engines.server_command import server_arguments, server_environment

ROOT: Final = Path(__file__).resolve().parents[1]
BLOCK_TOKENS: Final = 128
"""Tokens in one block of vLLM's KV cache on a CPU."""

MAX_MODEL_LEN: Final = 1024
_BATCHED_TOKENS = 4096


@dataclass(frozen=True)
class Turn:
    """One contestant's turn: wall seconds, the answers by id, and the tokens in them.

    ``start_seconds`` is what came before the first request, where that is part of every turn.
    """

    seconds: float
    answers: Mapping[str, str | None]
    tokens: int
    start_seconds: float = 0.0
    errors: Mapping[str, int] = field(default_factory=dict)


def recipe_of(model: Path, max_num_seqs: int, kv_blocks: int | None) -> ServerRecipe:
    """The engine of all contestants: what the job runs, with the flags named whose defaults differ between them.

    The server is told by the environment to offer ``/reset_prefix_cache``.
    """
    args: dict[str, int | bool] = {"max_num_batched_tokens": _BATCHED_TOKENS, "enable_prefix_caching": True}
    if kv_blocks is not None:
        args["num_gpu_blocks_override"] = kv_blocks
    return ServerRecipe(
        tier="small",
        model=str(model),
        max_model_len=MAX_MODEL_LEN,
        max_num_seqs=max_num_seqs,
        engine_args=tuple(args.items()),
        env=(("VLLM_SERVER_DEV_MODE", "1"), ("VLLM_CPU_KVCACHE_SPACE", "1")),
        idle_timeout_s=3600.0,
    )


def engine_kwargs(recipe: ServerRecipe) -> dict[str, Any]:
    """The server's flags by name; :func:`known` has those of them that are not the server's alone."""
    found: dict[str, Any] = {}
    for word in server_arguments(recipe):
        name, given, value = word.removeprefix("--").partition("=")
        found[name.removeprefix("no-").replace("-", "_")] = _plain(value) if given else not name.startswith("no-")
    return found


def known(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Those of ``kwargs`` that vLLM's engine takes.  Where vLLM is not imported yet, this takes seconds."""
    from vllm import EngineArgs

    return {name: value for name, value in kwargs.items() if name in EngineArgs.__dataclass_fields__}


def _plain(value: str) -> str | int:
    return int(value) if value.isdecimal() else value


def environment(recipe: ServerRecipe) -> dict[str, str]:
    """The server's environment, for a process that finds this project's packages."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return server_environment(recipe, {**os.environ, "PYTHONPATH": path}, str(ROOT))
