"""What a home folder holds: one engine's state, its key, its locks.  Values and their files, no processes.

::

    home/                0700, one per executor
      attach.lock        held briefly by whoever decides about the engine
      supervisor.lock    held by the supervisor for its whole life: free means that there is none
      state.json         what the supervisor last wrote
      key                0600, the server's API key
      launcher.py        copied here because the package may live inside a zip file
      used               its modification time is the last attach
      leases/            one locked file per user
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from hybrid_batch.engines.processes import ProcessId

STARTING, READY, ENDING, FAILED = "starting", "ready", "ending", "failed"


@dataclass(frozen=True)
class EngineState:
    """One engine's life so far.  ``server`` leads the process group; ``load_seconds``: process start to readiness."""

    phase: str
    engine_id: str
    fingerprint: str
    owner: ProcessId
    supervisor: ProcessId
    log_path: str
    server: ProcessId | None = None
    port: int | None = None
    model: str | None = None
    max_model_len: int | None = None
    load_seconds: float = 0.0
    error: str | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> EngineState:
        fields: dict[str, Any] = json.loads(text)
        for name in ("owner", "supervisor", "server"):
            fields[name] = ProcessId(**fields[name]) if fields[name] else None
        return cls(**fields)


def prepare_home(home: Path) -> None:
    """Make the folder for this user alone.  Raises ``PermissionError`` when it belongs to somebody else."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if home.stat().st_uid != os.getuid():
        raise PermissionError(f"{home}: belongs to user {home.stat().st_uid}, engine homes must be one's own")
    home.chmod(0o700)


def attach_lock(home: Path, timeout_s: float = 60.0) -> FileLock:
    """The lock under which one decides what happens to the engine of ``home``."""
    return FileLock(home / "attach.lock", timeout=timeout_s, mode=0o600)


def read_state(home: Path) -> EngineState | None:
    """The last state written, None when there was never an engine."""
    try:
        return EngineState.from_json((home / "state.json").read_text())
    except FileNotFoundError:
        return None


def write_state(home: Path, state: EngineState) -> None:
    write_private(home / "state.json", state.to_json())


def write_private(path: Path, text: str) -> None:
    """Replace ``path`` in one step with a file that only this user can read."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


def read_key(home: Path) -> str:
    return (home / "key").read_text()


def write_key(home: Path, key: str) -> None:
    write_private(home / "key", key)


def take_supervisor_lock(home: Path) -> int | None:
    """An open file that holds the lock until this process ends, or None when another supervisor has it."""
    file = os.open(home / "supervisor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


def supervised(home: Path) -> bool:
    """True while a supervisor lives, told by its lock and so by the kernel."""
    file = take_supervisor_lock(home)
    if file is None:
        return True
    os.close(file)
    return False
