"""Look at a stage while Spark runs it: the committed objects in storage are the only source of what is done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager

from hybrid_batch.core.cost import Price, tier_costs, total_usd
from hybrid_batch.core.errors import StorageError
from hybrid_batch.core.inputs import Split
from hybrid_batch.core.progress import Observer, Parts, PartTime, Progress, is_long_awaited, skew_of
from hybrid_batch.core.records import EngineLoad, total_usage
from hybrid_batch.ledger import Ledger
from hybrid_batch.reports.progress import skew_told
from hybrid_batch.storage import basename

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


def score_look(ledger: Ledger, splits: Sequence[Split]) -> Look:
    """Progress of scoring ``splits`` of known rows, by committed parts."""
    pace, total_rows = Pace(ledger.scored_parts()), _rows(splits)

    def done() -> int:
        return _rows(split for split in splits if split.number in pace.committed)

    before = done()

    def look(elapsed: float) -> Progress:
        pace.saw(ledger.scored_parts(), elapsed)
        return Progress("score", done(), total_rows, elapsed, before, parts=pace.parts(splits, elapsed))

    return look


def _rows(splits: Iterable[Split]) -> int:
    return sum(split.rows or 0 for split in splits)


class Pace:
    """When parts were committed, as far as looks at the storage tell.  Times are seconds since the stage began."""

    def __init__(self, committed: Set[int]) -> None:
        self.committed = committed
        self._last_commit = self._longest_gap = 0.0

    def saw(self, committed: Set[int], elapsed: float) -> None:
        """``committed`` are the parts that are there at ``elapsed``."""
        if len(committed) > len(self.committed):
            self._longest_gap = max(self._longest_gap, elapsed - self._last_commit)
            self._last_commit = elapsed
        self.committed = committed

    def parts(self, splits: Sequence[Split], elapsed: float) -> Parts:
        """The parts of ``splits``, and those that have been awaited for long."""
        left = [split for split in splits if split.number not in self.committed]
        waited = elapsed - self._last_commit
        done = len(splits) - len(left)
        if not is_long_awaited(len(left), len(splits), waited, self._longest_gap):
            return Parts(done, len(splits))
        return Parts(done, len(splits), tuple(map(part_name, left)), waited)


def part_name(split: Split) -> str:
    """The part that comes of ``split``, with its file, for a person."""
    files = list(dict.fromkeys(piece.url for piece in split.pieces))
    more = f" and {len(files) - 1:,} more" if len(files) > 1 else ""
    return f"part {split.number} ({basename(files[0])}{more})"


def tell_skew(observer: Observer, splits: Sequence[Split], times: Iterable[PartTime]) -> None:
    """Say which part of scoring took far longer than the others did, if one did."""
    if (skew := skew_of(times)) is not None:
        name = next(part_name(split) for split in splits if split.number == skew.slowest.part)
        observer.note(skew_told("score", skew, name))


def tell_scorers(observer: Observer, scorers: Mapping[str, int]) -> None:
    """Say what computed the scores; where parts differ, how many of them, because equal queries may differ then."""
    if len(scorers) == 1:
        observer.note(f"scored by {next(iter(scorers))}")
    elif scorers:
        shares = ", ".join(f"{count:,} by {name}" for name, count in scorers.items())
        observer.note(f"note: the parts were not all scored alike: {shares}")


def generate_look(
    ledger: Ledger, tier: str, total_rows: int, models: Mapping[str, str], prices: Mapping[str, Price | None]
) -> Look:
    """Progress of one tier, by its receipts; tokens and money are those of the whole run."""
    before: int | None = None

    def look(elapsed: float) -> Progress:
        nonlocal before
        receipts = ledger.receipts(ledger.committed())
        usage = total_usage(receipt.usage for receipt in receipts)
        own = [receipt for receipt in receipts if receipt.tier == tier]
        rows = sum(receipt.usage.rows for receipt in own)
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
            load=sum((receipt.load for receipt in own), EngineLoad()),
        )

    return look
