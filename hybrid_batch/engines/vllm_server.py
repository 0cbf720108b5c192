"""The life of an engine server beside an executor: attach to it, lease it, discard it, stop it.

One home folder, private to one executor, holds at most one engine.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hybrid_batch.engines import probe
from hybrid_batch.engines.attachment import HEALTH_TIMEOUT_S, POLL_SECONDS, Attachment
from hybrid_batch.engines.base import EngineHandle, ServerRecipe
from hybrid_batch.engines.engine_end import ask_to_end, kill_engine
from hybrid_batch.engines.lease import lease
from hybrid_batch.engines.server_state import READY, attach_lock, read_state, supervised

__all__ = ["alive", "attach", "attached", "discard", "lease", "stop"]

STOP_TIMEOUT_S = 15.0


def attach(recipe: ServerRecipe, home: Path, owner_pid: int, log_dir: Path) -> EngineHandle:
    """A healthy engine of ``recipe`` in ``home``: the one that runs there, or a new one.

    An engine of another recipe (or of another owner) is replaced as soon as nobody leases it.  The engine ends when
    the process ``owner_pid`` does, or after ``recipe.idle_timeout_s`` without a lease: take a lease at once, or use
    :func:`attached`.  Raises ``EngineStartError`` whose first line is the cause, ``ConfigError`` for bad flags.
    """
    attempt = Attachment(recipe, home, owner_pid, log_dir)
    return attempt.wait(lambda: None)


@contextmanager
def attached(recipe: ServerRecipe, home: Path, owner_pid: int, log_dir: Path) -> Iterator[EngineHandle]:
    """:func:`attach` with a lease that is taken before anybody could end or replace the engine."""
    attempt = Attachment(recipe, home, owner_pid, log_dir)
    with contextlib.ExitStack() as held:
        yield attempt.wait(lambda: held.enter_context(lease(home)))


def alive(handle: EngineHandle, home: Path) -> bool:
    """True when the engine of ``handle`` is still the one in ``home`` and says that it is healthy."""
    state = read_state(home)
    if state is None or state.engine_id != handle.engine_id or state.phase != READY or state.port is None:
        return False
    return state.supervisor.alive() and probe.healthy(state.port, HEALTH_TIMEOUT_S)


def discard(handle: EngineHandle, home: Path) -> None:
    """End the engine of ``handle`` at once, leased or not, because it answers nothing although it looks alive.

    Does nothing when ``home`` holds another engine by now, so two clients of one hanging engine may both call it.
    """
    with attach_lock(home):
        state = read_state(home)
        if state is not None and state.engine_id == handle.engine_id:
            kill_engine(state)


def stop(home: Path) -> None:
    """End the engine of ``home``, leased or not, and wait until nothing of it is left."""
    if not home.is_dir():
        return
    with attach_lock(home):
        state = read_state(home)
        if state is None:
            return
        ask_to_end(state)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while supervised(home) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        kill_engine(state)
