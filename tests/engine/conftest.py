"""A home for one engine per test, and a check that nothing of an engine outlives its test."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from hybrid_batch.engines.base import ServerRecipe
from hybrid_batch.engines.processes import group_members, marked
from hybrid_batch.engines.server_state import EngineState, read_state
from hybrid_batch.engines.vllm_server import stop

Recipe = Callable[..., ServerRecipe]
PATIENCE_S = 60.0


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    return tmp_path / "logs"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "home"
    yield folder
    state = read_state(folder) if folder.is_dir() else None
    stop(folder)
    assert state is None or not remains(state)


@pytest.fixture
def fake() -> Recipe:
    """A recipe of the fake server; keywords become its flags, ``recipe`` holds the recipe's own fields."""

    def build(recipe: dict[str, object] | None = None, **flags: object) -> ServerRecipe:
        fields = {"tier": "small", "model": "org/fake-model", "start_timeout_s": 60.0, **(recipe or {})}
        return ServerRecipe(server="fake", engine_args=tuple(flags.items()), **fields)  # type: ignore[arg-type]

    return build


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    return wait_until


def wait_until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def remains(state: EngineState) -> list[int]:
    """Pids that are left of an engine: its group, whatever carries its mark, its supervisor."""
    group = group_members(state.server.pid) if state.server else []
    supervisor = [state.supervisor.pid] if state.supervisor.alive() else []
    return sorted({*group, *marked(state.engine_id), *supervisor})


@pytest.fixture
def left_of() -> Callable[[EngineState], list[int]]:
    return remains


@pytest.fixture
def owner() -> Iterator[psutil.Popen]:
    """A process to own an engine, to be killed."""
    process = psutil.Popen(["sleep", "3600"], env=dict(os.environ))
    yield process
    if process.poll() is None:
        process.kill()
    process.wait()
