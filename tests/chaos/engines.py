"""Faults of engines that live: 500, 429, unreadable answers, a row that kills, and the real vLLM."""

from __future__ import annotations

import contextlib
import re
import signal
import threading
import urllib.request
from collections.abc import Callable
from typing import Any

import psutil

from hybrid_batch.demo.models import ensure_model
from tests.chaos.fault import Fault
from tests.chaos.processes import servers
from tests.chaos.scene import TASKS, Scene, command_of, on_folder
from tests.chaos.stage import Stage
from tests.support.driver import GONE_S

POISON = "XYZZY"
VLLM = "vllm.entrypoints.openai.api_server"
VLLM_ROWS, VLLM_TOKENS, VLLM_SHARD = 64, 32, 8
_GENERATED = re.compile(r"^vllm:generation_tokens_total\{[^}]*\} (\S+)", re.MULTILINE)


def with_flags(**flags: Any) -> Callable[[Scene], None]:
    """A run on engines that have these flags all the time."""

    def act(scene: Scene) -> None:
        scene.engines(**flags)
        scene.start()

    return act


def poison(scene: Scene) -> None:
    scene.rows[50]["prompt"] += f" {POISON}"
    scene.engines(die_on=POISON)
    scene.start()


class TokenWatch:
    """What the engines of a scene say that they have generated, asked for several times a second.

    An engine that is killed takes with it what it generated since the last look.
    """

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._seen: dict[int, int] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        scene.ends.callback(self.stop)

    @property
    def tokens(self) -> int:
        return sum(self._seen.values())

    def stop(self) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(0.2):
            for server in servers(self._scene, module=VLLM):
                if found := re.search(r"--port=(\d+)", command_of(server)):
                    self._look(server.pid, int(found[1]))

    def _look(self, pid: int, port: int) -> None:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2) as answer,
        ):
            if found := _GENERATED.search(answer.read().decode()):
                self._seen[pid] = int(float(found[1]))


def real_engine(stage: Stage, name: str) -> Scene:
    """A scene whose small tier is the real vLLM, and answers all."""
    scene = on_folder(stage, name)
    scene.rows = [
        {"query_id": f"q{n:03d}", "prompt": f"Tell a story of {n} sheep.", "tenant": "t"} for n in range(VLLM_ROWS)
    ]
    scene.document["policy"] = {"small_share": 1.0}
    scene.document["sampling"] = {"max_tokens": VLLM_TOKENS}
    scene.document["shards"] = {"rows": VLLM_SHARD}
    scene.document["tiers"]["small"] = {
        "model": str(ensure_model("smollm2-135m-instruct")),
        "gpus": 0,
        "max_model_len": 256,
        "max_num_seqs": 8,
        "usd_per_engine_hour": "0.10",
    }
    scene.token_watch = TokenWatch(scene)
    return scene


def seen_tokens(scene: Scene) -> int:
    assert scene.token_watch is not None
    return scene.token_watch.tokens


def kill_vllm(scene: Scene) -> None:
    scene.start()
    scene.until_results(2, "small")
    cores: list[psutil.Process] = []

    def look() -> bool:
        below = [child for server in servers(scene, module=VLLM) for child in server.children(recursive=True)]
        cores[:] = [process for process in below if "EngineCore" in command_of(process)]
        return bool(cores)

    scene.until(look)
    scene.struck()
    for core in cores:
        core.kill()


def kill_driver_of_vllm(scene: Scene) -> None:
    driver = scene.start()
    scene.until_results(2, "small")
    scene.struck()
    driver.send(signal.SIGKILL, group=False)
    driver.process.wait(GONE_S)


_REAL: dict[str, Any] = {"set_up": real_engine, "tokens": seen_tokens, "shards_lost": TASKS * VLLM_TOKENS // 8}
"""A shard's answers are ``VLLM_TOKENS`` long, four times those of the fake engine."""

FAULTS = [
    Fault("engine-500", "the engine answers 500 to 3 % of requests", with_flags(fail_rate_500=0.03)),
    Fault("engine-429", "the engine answers 429 to the first 20", with_flags(busy_first=20, retry_after=0.5)),
    Fault("engine-garbage", "5 % of answers cannot be read", with_flags(garbage_rate=0.05), shards_lost=3),
    Fault(
        "engine-dies", "each engine kills itself at its 40th request", with_flags(die_after=40), shards_lost=3 * TASKS
    ),
    Fault("poison-row", "a row that kills every engine", poison, failed=1, shards_lost=4),
    Fault("vllm-kill-engine", "kill -9 of the real vLLM's core", kill_vllm, **_REAL),
    Fault("vllm-kill-driver", "kill -9 of the driver over the real vLLM", kill_driver_of_vllm, **_REAL),
]
