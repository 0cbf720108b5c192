"""A few places that processes of one machine share: whoever finds none free waits.

A place is a locked file, so a process that dies gives its place back.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def one_of(files: Sequence[Path], poll_seconds: float) -> Iterator[None]:
    """Hold the lock on one of ``files`` for the length of the block."""
    held = _first_free([FileLock(file) for file in files], poll_seconds)
    try:
        yield
    finally:
        held.release()


def _first_free(locks: Sequence[FileLock], poll_seconds: float) -> FileLock:
    while True:
        for lock in locks:
            try:
                lock.acquire(blocking=False)
            except Timeout:
                continue
            return lock
        time.sleep(poll_seconds)
