"""How an engine is ended from outside."""

from __future__ import annotations

import contextlib
import os
import signal

from hybrid_batch.engines.processes import end_group
from hybrid_batch.engines.server_state import EngineState


def ask_to_end(state: EngineState) -> None:
    """SIGTERM to the supervisor, which ends the engine with a grace time."""
    if state.supervisor.alive():
        with contextlib.suppress(ProcessLookupError):
            os.kill(state.supervisor.pid, signal.SIGTERM)


def kill_engine(state: EngineState) -> None:
    """SIGKILL to supervisor and server, whichever of them is left."""
    if state.supervisor.alive():
        with contextlib.suppress(ProcessLookupError):
            os.kill(state.supervisor.pid, signal.SIGKILL)
    end_group(state.server.pid if state.server else None, state.engine_id, grace_s=0)
