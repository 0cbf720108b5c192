"""Identity and end of operating system processes: by pid *and* start time, by group, by mark."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil

MARK = "HYBRID_BATCH_ENGINE_ID"
"""Environment variable that every process of one engine carries; its value is the engine's id (no secret)."""

POLL_SECONDS = 0.1
KILL_SECONDS = 5.0


@dataclass(frozen=True)
class ProcessId:
    """A process that cannot be mistaken for a later one with the same pid.

    ``created``: seconds from the machine's start to its own, which a clock that is set does not change.
    """

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> ProcessId:
        """The process that has ``pid`` now.  Raises ``psutil.NoSuchProcess``."""
        return cls(pid, round(psutil.Process(pid).create_time() - psutil.boot_time(), 2))

    def same_as(self, other: ProcessId) -> bool:
        # The clock may be set just between the two readings: exact equality would be too strict.
        return self.pid == other.pid and abs(self.created - other.created) < 2.0

    def alive(self) -> bool:
        """True while the process runs; a zombie is dead."""
        try:
            return self.same_as(ProcessId.of(self.pid)) and not _is_zombie(self.pid)
        except psutil.NoSuchProcess:
            return False


def group_members(pgid: int) -> list[int]:
    """Pids of the process group ``pgid`` that still run (zombies do not)."""
    return [pid for pid in psutil.pids() if _group_of(pid) == pgid and not _is_zombie(pid)]


def marked(engine_id: str) -> list[int]:
    """Pids of this user's processes whose environment carries the engine's mark, whatever group they are in.

    A process that rewrites its title (vLLM's engine core does) may have lost it; the guard never does.
    """
    return [pid for pid in psutil.pids() if pid != os.getpid() and _mark_of(pid) == engine_id]


def end_group(pgid: int | None, engine_id: str, grace_s: float, *, certain: bool = False) -> None:
    """SIGTERM to the group, SIGKILL to what is left after ``grace_s``, then to all that left the group.

    Only a group that has a member with this engine's mark is touched: the number may be somebody else's by now.
    ``certain`` says that it cannot be, because the caller is the parent of the group's leader.
    """
    ours = certain or any(_group_of(pid) == pgid for pid in marked(engine_id))
    if pgid is not None and ours:
        if grace_s > 0:
            _signal_group(pgid, signal.SIGTERM)
            _wait_until(lambda: not group_members(pgid), grace_s)
        _signal_group(pgid, signal.SIGKILL)
        _wait_until(lambda: not group_members(pgid), KILL_SECONDS)
    for pid in marked(engine_id):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    _wait_until(lambda: not marked(engine_id), KILL_SECONDS)


def _wait_until(done: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def _signal_group(pgid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pgid, number)


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def _is_zombie(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _mark_of(pid: int) -> str | None:
    try:
        environment: dict[str, str] = psutil.Process(pid).environ()
        return environment.get(MARK)
    except (psutil.Error, OSError):  # gone, a zombie, or another user's: not ours in any case
        return None
