"""Who uses the engine of a home: one locked file per user, released by the kernel when its process dies."""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = "leases"


@contextmanager
def lease(home: Path) -> Iterator[None]:
    """Hold the engine of ``home`` for the length of the block, so that idling or replacement cannot end it.

    A lease is a lock, not a heartbeat: a process that is killed frees it at once, one that is merely slow keeps it.
    """
    file = _take(home / FOLDER)
    try:
        yield
    finally:
        os.close(file)


def leased(home: Path) -> bool:
    """True while any process holds a lease; files of ended leases are removed on the way."""
    folder = home / FOLDER
    paths = list(folder.iterdir()) if folder.is_dir() else []
    held = [_held(path) for path in paths]  # all of them, so that every stale file is removed
    return any(held)


def _take(folder: Path) -> int:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    while True:
        path = folder / f"{os.getpid()}-{uuid.uuid4().hex}.lock"
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)  # waits only while a check looks at the new file, which is microseconds
        if path.exists():
            return file
        os.close(file)  # that check took it for a stale one and removed it: take another name


def _held(path: Path) -> bool:
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False
