"""From a recipe to a server's command line and environment.  Pure: nothing is started, read or looked up."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from hybrid_batch.core.errors import ConfigError
from hybrid_batch.engines.base import ServerRecipe

MODULES = {"vllm": "vllm.entrypoints.openai.api_server", "fake": "hybrid_batch.engines.fake_server"}

OWN_FLAGS = {
    "model": "model",
    "dtype": "dtype",
    "max_model_len": "max_model_len",
    "max_num_seqs": "max_num_seqs",
    "tensor_parallel_size": "tensor_parallel",
    "served_model_name": "model",
    "trust_remote_code": "trust_remote_code",
}
"""Server flag -> the recipe's field that sets it."""

UNSAFE_FLAGS = frozenset(
    {
        *("host", "port", "uds", "api_key", "root_path", "headless", "api_server_count"),
        *("ssl_keyfile", "ssl_certfile", "ssl_ca_certs"),
        *("config", "middleware", "worker_cls", "worker_extension_cls", "logits_processors"),
        *("tool_server", "tool_parser_plugin", "reasoning_parser_plugin"),
        "allowed_local_media_path",
        *("trust_request_chat_template", "trust_request_mm_kwargs"),
        *("enable_log_requests", "enable_log_outputs"),
        *("scheduler_cls", "kv_transfer_config", "ec_transfer_config", "kv_events_config"),
        "structured_outputs_config",
    }
)
"""Flags that would open the server to others, run code named by text, or write prompts into logs."""

_FLAG = re.compile(r"[a-z][a-z0-9_.-]*")

SAFE_FORMATS = frozenset({"safetensors", "fastsafetensors", "sharded_state", "runai_streamer", "dummy"})
"""Weight formats that cannot hold a pickle."""

SAFE_BACKENDS = frozenset({"uni", "mp", "ray"})
"""Executor backends of vLLM; any other value names code to import."""

_VLLM_FLAGS: dict[str, str | int | float | bool] = {
    "load_format": "safetensors",
    "disable_uvicorn_access_log": True,
    "disable_fastapi_docs": True,
    "uvicorn_log_level": "warning",
    "enable_prompt_tokens_details": True,  # tells how much of a prompt came out of the prefix cache
}
_VLLM_ENV = {
    "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "PYTHONUNBUFFERED": "1",
}
_CPU_ENV = {
    "VLLM_CPU_KVCACHE_SPACE": "2",  # GiB
    # Left to itself vLLM binds its threads to cores it does not own: two engines would share one core.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    # Threads that spin while they wait for each other cost a multiple of their work once Spark wants the cores too.
    "OMP_WAIT_POLICY": "PASSIVE",
    # With this variable at 1 vLLM overrules the executor backend "uni" on a CPU.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}


def check_engine_args(tier: str, args: Mapping[str, str | int | float | bool]) -> None:
    """Raises ``ConfigError`` for a flag that another field owns, or that would break a safety rule."""
    for given, value in args.items():
        where = f"tiers.{tier}.engine_args.{given} = {value!r}"
        flag = given.replace("-", "_").removeprefix("no_").partition(".")[0]
        if not _FLAG.fullmatch(given):
            raise ConfigError(f"{where}: not the name of a flag; write it without dashes in front, like `max_loras`")
        if owned := _meant(flag, OWN_FLAGS):
            raise ConfigError(f"{where}: this flag is set by tiers.{tier}.{OWN_FLAGS[owned]}; set that instead")
        if flag == "hf_token":
            raise ConfigError(f"tiers.{tier}.engine_args.{given}: a secret; set HF_TOKEN in the executors' environment")
        if _meant(flag, UNSAFE_FLAGS):
            raise ConfigError(f"{where}: not allowed; servers listen on loopback with a random key and log no text")
        for name, safe in (("load_format", SAFE_FORMATS), ("distributed_executor_backend", SAFE_BACKENDS)):
            if _meant(flag, (name,)) and str(value).lower() not in safe:
                raise ConfigError(
                    f"{where}: may run code that comes from elsewhere; allowed are {', '.join(sorted(safe))}"
                )
        if not isinstance(value, str | int | float | bool):
            raise ConfigError(f"{where}: a flag's value is text, a number, true or false")


def _meant(flag: str, names: Iterable[str]) -> str | None:
    """The name that a command line would take ``flag`` for: argparse accepts any beginning of a name."""
    return next((name for name in names if name.startswith(flag)), None)


def served_name(recipe: ServerRecipe) -> str:
    """What requests call the model: the last part of its path or hub name."""
    return Path(recipe.model).name or recipe.model


def local_folder(model: str) -> Path | None:
    """The absolute path that ``model`` means, None when it is a hub name."""
    return Path(model).expanduser().absolute() if model.startswith(("/", "./", "../", "~")) else None


def server_arguments(recipe: ServerRecipe) -> list[str]:
    """The arguments of the server's module, ``{port}`` standing for the port.  Raises ``ConfigError``."""
    args = dict(recipe.engine_args)
    check_engine_args(recipe.tier, args)
    model = str(local_folder(recipe.model) or recipe.model)
    words = [
        f"--model={model}",
        f"--served-model-name={served_name(recipe)}",
        "--host=127.0.0.1",
        "--port={port}",
    ]
    words.append(f"--max-num-seqs={recipe.max_num_seqs}")
    if recipe.max_model_len is not None:
        words.append(f"--max-model-len={recipe.max_model_len}")
    if recipe.server == "vllm":
        words += _vllm_words(recipe)
        args = {**_VLLM_FLAGS, **(_cpu_flags(recipe) if recipe.gpus == 0 else {}), **args}
    return words + [_flag(name, value) for name, value in args.items()]


def server_environment(recipe: ServerRecipe, inherited: Mapping[str, str], package_root: str) -> dict[str, str]:
    """The server's environment: ours, then vLLM's switches, then ``recipe.env`` on top of all."""
    env = dict(inherited)
    if recipe.server == "fake":
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [package_root, env.get("PYTHONPATH")]))
    else:
        if recipe.python not in (None, sys.executable):
            env.pop("PYTHONPATH", None)  # our packages must not shadow those of another environment
        env.update(_VLLM_ENV)
        if local_folder(recipe.model):
            env["HF_HUB_OFFLINE"] = "1"
        if recipe.gpus == 0:
            # Spark gives its Python workers one thread each; the engine has the machine's.
            env.pop("OMP_NUM_THREADS", None)
            env = {**_CPU_ENV, **env}
    return {**env, **dict(recipe.env)}


def recipe_fingerprint(recipe: ServerRecipe) -> str:
    """Same value, same engine: what a client waits for and asks for, and what it is called (its tier), are left out."""
    fields = asdict(recipe)
    for name in ("tier", "start_timeout_s", "request_timeout_s", "adapter", "window"):
        del fields[name]
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def _vllm_words(recipe: ServerRecipe) -> list[str]:
    dtype = "bfloat16" if recipe.dtype == "auto" and recipe.gpus == 0 else recipe.dtype
    words = [f"--dtype={dtype}", f"--tensor-parallel-size={recipe.tensor_parallel}"]
    return [*words, "--trust-remote-code"] if recipe.trust_remote_code else words


def _cpu_flags(recipe: ServerRecipe) -> dict[str, str | int | float | bool]:
    flags: dict[str, str | int | float | bool] = {
        "enforce_eager": True,  # compiling takes minutes on a CPU
        "max_num_batched_tokens": max(4096, recipe.max_num_seqs),  # as vLLM called for throughput; its server has half
    }
    if recipe.tensor_parallel == 1:
        flags["distributed_executor_backend"] = "uni"  # the model in the engine core's process: one import less
    return flags


def _flag(name: str, value: str | int | float | bool) -> str:
    word = name.replace("_", "-")
    if value is True:
        return f"--{word}"
    return f"--no-{word}" if value is False else f"--{word}={value}"
