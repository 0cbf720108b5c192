"""Look at a stage while Spark runs it: the committed objects in storage are the only source of what is done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from hybrid_batch.core.cost import Price, tier_costs, total_usd
from hybrid_batch.core.errors import StorageError
from hybrid_batch.core.inputs import Split
from hybrid_batch.core.progress import Observer, Progress
from hybrid_batch.core.records import total_usage
from hybrid_batch.ledger import Ledger

SHORTEST_PAUSE_S = 1.0
PAUSE_PER_LOOK = 10
"""A look lists a folder; between two looks the driver rests this many times as long, so that listing stays cheap."""

Look = Callable[[float], Progress]
"""Seconds since the stage began -> its progress."""


@contextmanager
def watched(observer: Observer, look: Look) -> Iterator[None]:
    """Report progress while the block runs, and once more at its end."""
    begin, ended = time.monotonic(), threading.Event()
    observer.progress(look(0.0))
    thread = threading.Thread(target=_watch, args=(observer, look, begin, ended), name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    observer.progress(look(time.monotonic() - begin))


def _watch(observer: Observer, look: Look, begin: float, ended: threading.Event) -> None:
    pause = SHORTEST_PAUSE_S
    while not ended.wait(pause):
        started = time.monotonic()
        try:
            observer.progress(look(started - begin))
        except StorageError as error:
            # The job has retries of its own and says so when they are used up; a missed look is no failure.
            observer.note(f"progress unknown: {error}")
        pause = max(SHORTEST_PAUSE_S, PAUSE_PER_LOOK * (time.monotonic() - started))


def score_look(ledger: Ledger, splits: Sequence[Split], total_rows: int | None) -> Look:
    """Progress of scoring, by committed parts; parts of unknown size count with the mean."""
    before = _scored_rows(ledger, splits, total_rows)

    def look(elapsed: float) -> Progress:
        return Progress("score", _scored_rows(ledger, splits, total_rows), total_rows, elapsed, rows_before=before)

    return look


def _scored_rows(ledger: Ledger, splits: Sequence[Split], total_rows: int | None) -> int:
    parts = ledger.scored_parts()
    known = [split.rows for split in splits if split.number in parts]
    if all(rows is not None for rows in known):
        return sum(rows or 0 for rows in known)
    return round((total_rows or 0) * len(parts) / len(splits))


def generate_look(
    ledger: Ledger, tier: str, total_rows: int, models: Mapping[str, str], prices: Mapping[str, Price | None]
) -> Look:
    """Progress of one tier, by its receipts; tokens and money are those of the whole run."""
    before: int | None = None

    def look(elapsed: float) -> Progress:
        nonlocal before
        receipts = ledger.receipts(ledger.committed())
        usage = total_usage(receipt.usage for receipt in receipts)
        rows = sum(receipt.usage.rows for receipt in receipts if receipt.tier == tier)
        before = rows if before is None else before
        return Progress(
            stage=f"generate {tier}",
            done_rows=rows,
            total_rows=total_rows,
            elapsed_seconds=elapsed,
            rows_before=before,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            usd=total_usd(tier_costs(receipts, models, prices)),
        )

    return look
