"""From a recipe to a command line and an environment; why a start failed, from a log."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from hybrid_batch.core.errors import ConfigError
from hybrid_batch.engines.base import ServerRecipe
from hybrid_batch.engines.server_command import (
    check_engine_args,
    recipe_fingerprint,
    server_arguments,
    server_environment,
)
from hybrid_batch.engines.start_failure import cause_of_failure

CPU = ServerRecipe(tier="small", model="/models/smol")


def test_on_a_cpu():
    words = server_arguments(replace(CPU, max_model_len=512))
    assert {"--model=/models/smol", "--served-model-name=smol", "--host=127.0.0.1", "--port={port}"} <= set(words)
    assert {"--dtype=bfloat16", "--enforce-eager", "--max-model-len=512", "--load-format=safetensors"} <= set(words)
    assert "--enable-prompt-tokens-details" in words
    assert "--trust-remote-code" not in words


def test_one_process_less_unless_the_model_is_split():
    assert "--distributed-executor-backend=uni" in server_arguments(CPU)
    assert "--distributed-executor-backend=uni" not in server_arguments(replace(CPU, tensor_parallel=2))


def test_on_gpus():
    words = server_arguments(replace(CPU, gpus=2, tensor_parallel=2, trust_remote_code=True))
    assert {"--dtype=auto", "--tensor-parallel-size=2", "--trust-remote-code"} <= set(words)
    assert "--enforce-eager" not in words


def test_engine_args_become_flags_and_overrule_defaults():
    args = (("enforce_eager", False), ("enable_prefix_caching", True), ("gpu_memory_utilization", 0.5))
    words = server_arguments(replace(CPU, engine_args=args))
    assert {"--no-enforce-eager", "--enable-prefix-caching", "--gpu-memory-utilization=0.5"} <= set(words)
    assert "--enforce-eager" not in words


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("host", "0.0.0.0", "not allowed"),
        ("api-key", "x", "not allowed"),
        ("port", 1, "not allowed"),
        ("trust_remote_code", True, r"tiers\.small\.trust_remote_code"),
        ("no-trust-remote-code", True, r"tiers\.small\.trust_remote_code"),
        ("max_model_len", 5, r"tiers\.small\.max_model_len"),
        ("--dtype", "half", "without dashes"),
        ("hos", "0.0.0.0", "not allowed"),
        ("trust-remote", True, r"tiers\.small\.trust_remote_code"),
        ("load_format", "PT", "code that comes from elsewhere"),
        ("load_format", "hf", "code that comes from elsewhere"),
        ("load_form", "pt", "code that comes from elsewhere"),
        ("distributed_executor_backend", "some.Backend", "code that comes from elsewhere"),
        ("kv_transfer_config", "{}", "not allowed"),
        ("allowed-local-media-path", "/", "not allowed"),
        ("allowed", "/", "not allowed"),
    ],
)
def test_flags_that_are_not_the_users(name, value, says):
    with pytest.raises(ConfigError, match=rf"tiers\.small\.engine_args\.{name} = .*{says}"):
        check_engine_args("small", {name: value})


def test_places_of_images_may_be_limited():
    words = server_arguments(replace(CPU, engine_args=(("allowed_media_domains", "images.example.org"),)))
    assert "--allowed-media-domains=images.example.org" in words


def test_a_token_is_refused_and_not_repeated():
    with pytest.raises(ConfigError, match=r"tiers\.small\.engine_args\.hf_token: a secret") as refusal:
        check_engine_args("small", {"hf_token": "hf_abc"})
    assert "hf_abc" not in str(refusal.value)


def test_environment_of_a_cpu_engine():
    env = server_environment(replace(CPU, env=(("X", "1"),)), {"PYTHONPATH": "/ours"}, "/pkg")
    assert env["HF_HUB_OFFLINE"] == "1"
    assert env["VLLM_NO_USAGE_STATS"] == "1"
    assert env["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"
    assert env["X"] == "1"
    assert env["PYTHONPATH"] == "/ours"
    given = server_environment(replace(CPU, env=(("VLLM_CPU_KVCACHE_SPACE", "9"),)), {}, "/pkg")
    assert given["VLLM_CPU_KVCACHE_SPACE"] == "9"
    inherited = server_environment(CPU, {"VLLM_CPU_KVCACHE_SPACE": "8"}, "/pkg")
    assert inherited["VLLM_CPU_KVCACHE_SPACE"] == "8"


def test_another_interpreter_gets_none_of_our_packages():
    assert "PYTHONPATH" not in server_environment(replace(CPU, python="/other/python"), {"PYTHONPATH": "/ours"}, "/p")
    assert "PYTHONPATH" in server_environment(replace(CPU, python=sys.executable), {"PYTHONPATH": "/ours"}, "/p")


def test_a_hub_model_may_be_fetched():
    assert "HF_HUB_OFFLINE" not in server_environment(replace(CPU, model="org/name"), {}, "/p")
    assert "--served-model-name=name" in server_arguments(replace(CPU, model="org/name"))


def test_fingerprint_holds_what_makes_the_engine():
    assert recipe_fingerprint(replace(CPU, tier="large", start_timeout_s=1.0, adapter="a")) == recipe_fingerprint(CPU)
    for other in (replace(CPU, max_model_len=9), replace(CPU, env=(("A", "b"),)), replace(CPU, model="/models/other")):
        assert recipe_fingerprint(other) != recipe_fingerprint(CPU)


def test_a_supervisor_is_light():
    code = "import sys, hybrid_batch.engines.supervisor as s; print([m for m in sys.modules if m in sys.argv])"
    heavy = ["numpy", "torch", "vllm", "aiohttp", "pyspark", "pyarrow", "pydantic"]
    done = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


PREFIX = "(EngineCore pid=17) ERROR 11-24 07:18:22 [core.py:133] "
CASES = [
    ("usage: x\napi_server.py: error: unrecognized arguments: --nope=1", 2, "unrecognized arguments: --nope=1"),
    (
        f"{PREFIX}Traceback (most recent call last):\n{PREFIX}ValueError: KV cache too small\n"
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}",
        1,
        "ValueError: KV cache too small",
    ),
    ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", 1, "OutOfMemoryError: CUDA out"),
    (
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n"
        "  Value error, the model type `foo` is not known. [type=value_error]\n    For further information",
        1,
        "the model type `foo` is not known.",
    ),
    ("struct.error: unpack requires a buffer of 8 bytes", 1, "a weight file is cut off or damaged"),
    ("loading\n", -9, "the server was killed by SIGKILL while it loaded, most likely for lack of memory"),
    ("ModuleNotFoundError: No module named 'vllm'", 1, "set the tier's `python` to one that has it"),
    ("/x/python: Error while finding module vllm: No module named 'vllm'", 1, "No module named"),
    ("", 1, "the server ended without a word"),
    ("[supervisor] 2026-11-24 ending\nlast words\n\n", 1, "last words"),
]


@pytest.mark.parametrize(("log", "status", "cause"), CASES)
def test_cause_of_a_failed_start(log, status, cause):
    text = cause_of_failure(log, status, "/logs/engine.log")
    assert cause in text
    assert text.endswith(f"(exit status {status}; log: /logs/engine.log)")
    assert "\n" not in text
