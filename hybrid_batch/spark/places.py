"""A few places that processes of one machine share: whoever finds none free waits.

A place is a locked file, so a process that dies gives its place back.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def one_of(files: Sequence[Path], poll_seconds: float) -> Iterator[None]:
    """Hold the lock on one of ``files`` for the length of the block."""
    with _gate(files, poll_seconds):
        held = _first_free([FileLock(file) for file in files], poll_seconds)
    try:
        yield
    finally:
        held.release()


@contextmanager
def all_of(files: Sequence[Path], poll_seconds: float) -> Iterator[None]:
    """Hold the locks on all ``files``, alone with what they stand for; who comes later waits."""
    with ExitStack() as held:
        with _gate(files, poll_seconds):
            for file in files:
                held.enter_context(FileLock(file).acquire(poll_interval=poll_seconds))
        yield


def _gate(files: Sequence[Path], poll_seconds: float) -> FileLock:
    """Where all queue, so that a stream of those who want one place cannot keep out one who wants all of them."""
    return FileLock(files[0].with_suffix(".gate"), poll_interval=poll_seconds)


def _first_free(locks: Sequence[FileLock], poll_seconds: float) -> FileLock:
    while True:
        for lock in locks:
            try:
                lock.acquire(blocking=False)
            except Timeout:
                continue
            return lock
        time.sleep(poll_seconds)
