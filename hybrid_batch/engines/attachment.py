"""One caller's way to an engine: decide under the home's lock, wait without it, again until there is one.

Nobody waits for a model to load while holding the lock, so whoever is done with an engine can always come back.
"""

from __future__ import annotations

import importlib.resources
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil

import hybrid_batch
from hybrid_batch.core.errors import EngineStartError
from hybrid_batch.engines import probe, server_command
from hybrid_batch.engines.base import EngineHandle, ServerRecipe
from hybrid_batch.engines.engine_end import ask_to_end, kill_engine
from hybrid_batch.engines.launch_plan import LaunchPlan
from hybrid_batch.engines.lease import leased
from hybrid_batch.engines.processes import ProcessId
from hybrid_batch.engines.server_state import (
    FAILED,
    READY,
    STARTING,
    EngineState,
    attach_lock,
    prepare_home,
    read_key,
    read_state,
    supervised,
    write_private,
)

POLL_SECONDS = 0.2
HEALTH_TRIES = 3
HEALTH_TIMEOUT_S = 5.0
SPAWN_TIMEOUT_S = 60.0
FRESH_SECONDS = 2.0
"""An engine this young is not replaced: whoever waited for it may not have leased it yet."""
START_TRIES = 3
PATIENCE_S = 15.0
"""On top of the start timeout: for the supervisor's own verdict, and for a former engine to end."""


class Attachment:
    """One call of ``attach``.  ``wait`` returns the handle."""

    def __init__(self, recipe: ServerRecipe, home: Path, owner_pid: int, log_dir: Path) -> None:
        self._recipe, self._home, self._log_dir = recipe, home, log_dir.absolute()
        self._plan = _plan(recipe, home, owner_pid)
        self._starts = 0
        self._watched: str | None = None  # the start whose failure is ours too
        prepare_home(home)
        log_dir.mkdir(parents=True, exist_ok=True)

    def wait(self, on_ready: Callable[[], None]) -> EngineHandle:
        """``on_ready`` runs under the lock, before the engine can be taken away again."""
        deadline = time.monotonic() + self._recipe.start_timeout_s + PATIENCE_S
        while time.monotonic() < deadline:
            with attach_lock(self._home):
                handle = self._decide()
                if handle is not None:
                    (self._home / "used").touch(mode=0o600)
                    on_ready()
                    return handle
            time.sleep(POLL_SECONDS)
        raise EngineStartError(self._why_not())

    def _decide(self) -> EngineHandle | None:
        """The engine, or None after the next step towards it was taken."""
        state = read_state(self._home)
        if state is None or not supervised(self._home):
            self._raise_own_failure(state)
            self._start_anew(state)
        elif state.phase == STARTING and self._fits(state):
            self._watched = state.engine_id
        elif state.phase == READY and self._fits(state):
            if _healthy(state):
                return _handle_of(state, self._home, self._recipe)
            if not self._in_use():  # who uses it finds out by itself when it hangs; it may only be busy
                kill_engine(state)
        elif state.phase == READY and not self._in_use():
            ask_to_end(state)
        return None

    def _fits(self, state: EngineState) -> bool:
        return state.fingerprint == self._plan.fingerprint and state.owner.same_as(self._plan.owner)

    def _in_use(self) -> bool:
        """Leased, or so fresh that whoever waited for it may not have had the time to lease it."""
        touched = [path.stat().st_mtime for name in ("used", "state.json") if (path := self._home / name).exists()]
        # A time that lies ahead is that of a clock which was set back since.
        return leased(self._home) or 0 <= time.time() - max(touched) < FRESH_SECONDS

    def _raise_own_failure(self, state: EngineState | None) -> None:
        if state is not None and state.engine_id == self._watched and state.phase == FAILED:
            raise EngineStartError(f"tier {self._recipe.tier}, model {self._recipe.model}: {state.error}")
        if self._starts == START_TRIES:
            raise EngineStartError(
                f"tier {self._recipe.tier}, model {self._recipe.model}: the engine was ended from outside in each of "
                f"{START_TRIES} starts; log: {self._plan.log_path}"
            )

    def _start_anew(self, state: EngineState | None) -> None:
        if state is not None:
            kill_engine(state)  # a supervisor that was killed may have left something for an instant
        self._starts += 1
        engine_id = str(uuid.uuid4())
        log_path = str(self._log_dir / f"engine-{self._recipe.tier}-{engine_id[:8]}.log")
        self._plan = replace(self._plan, engine_id=engine_id, log_path=log_path)
        self._watched = engine_id
        _spawn_supervisor(self._plan)

    def _why_not(self) -> str:
        state = read_state(self._home)
        why = "another engine is still in use there" if state and not self._fits(state) else "it never became ready"
        return (
            f"tier {self._recipe.tier}, model {self._recipe.model}: no engine in {self._home} within start_timeout_s "
            f"= {self._recipe.start_timeout_s:g}: {why}; log: {state.log_path if state else self._plan.log_path}"
        )


def _plan(recipe: ServerRecipe, home: Path, owner_pid: int) -> LaunchPlan:
    _check_model(recipe)
    try:
        owner = ProcessId.of(owner_pid)
    except psutil.NoSuchProcess:
        raise EngineStartError(f"owner_pid = {owner_pid}: there is no such process to own an engine") from None
    arguments = server_command.server_arguments(recipe)
    return LaunchPlan(
        engine_id="",  # each start gets its own, and its own log
        fingerprint=server_command.recipe_fingerprint(recipe),
        home=str(home.absolute()),
        owner=owner,
        command=(
            recipe.python or sys.executable,
            str(home.absolute() / "launcher.py"),
            server_command.MODULES[recipe.server],
            *arguments,
        ),
        env=server_command.server_environment(recipe, os.environ, _package_root()),
        key_variable="VLLM_API_KEY",
        model=server_command.served_name(recipe),
        log_path="",
        start_timeout_s=recipe.start_timeout_s,
        idle_timeout_s=recipe.idle_timeout_s,
    )


def _check_model(recipe: ServerRecipe) -> None:
    """The commonest mistake is found without loading anything."""
    folder = server_command.local_folder(recipe.model)
    if recipe.server != "vllm" or folder is None or (folder / "config.json").is_file():
        return
    what = "holds no config.json" if folder.is_dir() else "does not exist"
    raise EngineStartError(
        f"tier {recipe.tier}: model folder {folder} {what} on {socket.gethostname()}; "
        "it must be on every executor, at the same path"
    )


def _spawn_supervisor(plan: LaunchPlan) -> None:
    home = Path(plan.home)
    source = importlib.resources.files("hybrid_batch.engines").joinpath("launcher.py").read_text()
    write_private(home / "launcher.py", source)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([_package_root(), *filter(None, sys.path)])}
    done = subprocess.run(
        [sys.executable, "-m", "hybrid_batch.engines.supervisor"],
        input=plan.to_json(),
        env=env,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=SPAWN_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise EngineStartError(
            f"the engine's supervisor did not start: {done.stderr.strip()[-500:]}; log: {plan.log_path}"
        )


def _package_root() -> str:
    return str(Path(hybrid_batch.__file__).absolute().parent.parent)


def _healthy(state: EngineState) -> bool:
    assert state.port is not None
    return any(probe.healthy(state.port, HEALTH_TIMEOUT_S) for _ in range(HEALTH_TRIES))


def _handle_of(state: EngineState, home: Path, recipe: ServerRecipe) -> EngineHandle:
    assert state.model is not None
    return EngineHandle(
        engine_id=state.engine_id,
        base_url=f"http://127.0.0.1:{state.port}/v1",
        model=recipe.adapter or state.model,
        max_model_len=state.max_model_len,
        load_seconds=state.load_seconds,
        api_key=read_key(home),
        log_path=state.log_path,
    )
