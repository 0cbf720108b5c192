"""A run shown again and again until it is finished: a picture that stays in place, or a line for each look."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Final

from rich.console import Console
from rich.live import Live

from hybrid_batch.core.errors import StorageError
from hybrid_batch.outcome import RunStatus
from hybrid_batch.reports.console import status_line, status_view

FAILED_LOOKS: Final = 5
"""So many looks in a row may fail: a store that is slow for a moment does not end a watch."""

Look = Callable[[], RunStatus]


def follow(look: Look, console: Console, every_seconds: float) -> None:
    """Show what ``look`` sees until the run is finished, and at last the whole status.

    An interruption leaves the last picture on the screen.  Raises ``StorageError`` if the first look fails, or
    ``FAILED_LOOKS`` of them one after the other.
    """
    shown: RunStatus | None = None
    try:
        with (
            Live(console=console, transient=True, auto_refresh=False) if console.is_terminal else nullcontext() as live
        ):
            for shown in _looks(look, console, every_seconds):
                if live is not None and not shown.finished:
                    live.update(status_view(shown, console.width), refresh=True)
                elif live is None:
                    console.print(status_line(shown), markup=False, highlight=False, soft_wrap=True)
    finally:
        if shown is not None:
            console.print(status_view(shown, console.width), crop=False)


def _looks(look: Look, console: Console, every_seconds: float) -> Iterator[RunStatus]:
    status = look()
    failed = 0
    while True:
        yield status
        if status.finished:
            return
        time.sleep(every_seconds)
        try:
            status, failed = look(), 0
        except StorageError as error:
            failed += 1
            if failed == FAILED_LOOKS:
                raise
            console.print(f"progress unknown: {error}", markup=False, highlight=False, soft_wrap=True)
