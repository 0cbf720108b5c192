"""Calibrations beside a router: which threshold keeps which promise.

``calibrations.json`` lies in the router's folder and is not part of its card, so a router can be calibrated again and
again without becoming another router.  Every record is bound to the card by its fingerprint: a router that was
trained again is not calibrated, whatever lies beside it.

Two programs that calibrate one router at the same moment may lose one of the two records; run them in turn.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from hybrid_batch.core.errors import ConfigError
from hybrid_batch.core.routing import GRID
from hybrid_batch.storage import join, normalise, open_store

CALIBRATIONS: Final = "calibrations.json"
"""Name of the file in a router's folder; the card does not list it."""
FORMAT: Final = "hybrid-batch-calibrations/1"
ALL_TO_LARGE: Final = GRID + 1
"""Threshold that no score reaches."""

MAX_DROP: Final = "max_drop_pct"
CONFIDENCE: Final = "confidence"
SMALL_SHARE: Final = "small_share"
MAX_USD: Final = "max_usd_per_1000"
USD_SMALL: Final = "usd_small_per_1000"
USD_LARGE: Final = "usd_large_per_1000"

Goal = Mapping[str, float | str]
"""What was asked for, in plain values: ``{"max_drop_pct": 1.0, "confidence": 0.95}``, ``{"small_share": 0.4}`` or
``{"max_usd_per_1000": "0.80", "usd_small_per_1000": "0.20", "usd_large_per_1000": "1.00"}``."""


@dataclass(frozen=True)
class Threshold:
    """A threshold on the score grid, and what the calibration rows said of it.

    ``share`` (in [0, 1]) of the ``rows`` goes to small and loses ``drop_pct`` percent of the large model's mean
    quality; ``upper_drop_pct`` is the least loss that could be proved at this threshold by itself (None: nothing is).
    ``kept`` is False where these rows cannot keep the promise; then the threshold sends everything to large, and
    ``rows_needed`` estimates how many rows could (None: no number of rows).
    """

    threshold_micros: int
    rows: int
    share: float
    drop_pct: float
    upper_drop_pct: float | None = None
    kept: bool = True
    rows_needed: int | None = None

    @property
    def threshold(self) -> float:
        return self.threshold_micros / GRID


@dataclass(frozen=True)
class Record:
    """One calibration.

    Without groups, ``overall`` holds for all queries.  With groups (``by`` names the column), each group of
    ``groups`` has its own promise and its own threshold, and ``overall`` is for queries of any other group: no row
    speaks for them, so they go to large.  ``router`` is the card's fingerprint, ``labels`` that of the label set.
    ``with_tasks`` says whether the router was told the tasks of the queries: then a job must tell them, too.
    """

    goal: Goal
    router: str
    labels: str
    labels_source: str
    rows: int
    method: str
    created: str
    overall: Threshold
    with_tasks: bool = False
    by: str | None = None
    groups: Mapping[str, Threshold] = field(default_factory=dict)

    @property
    def kept(self) -> bool:
        """Whether any query may go to small under the promise."""
        return any(part.kept for part in self.groups.values()) if self.by else self.overall.kept

    def thresholds(self) -> dict[str, int]:
        """Thresholds on the grid by group; empty without groups."""
        return {name: part.threshold_micros for name, part in self.groups.items()}


def stored(router_url: str) -> list[Record]:
    """All records beside the router at ``router_url`` (folder or ``s3://``), the oldest first; none is an empty list.

    Raises ``ConfigError`` naming file and field if the file is not what :func:`store` writes.
    """
    url = _place(router_url)
    data = open_store(url).read_if_present(url)
    return [] if data is None else _parsed(data, url)


def store(router_url: str, record: Record) -> str:
    """Put ``record`` beside its router -> URL of the file.

    It replaces the record of the same goal and column, and all records of other versions of the router.
    """
    url = _place(router_url)
    others = [
        held
        for held in stored(router_url)
        if held.router == record.router and (dict(held.goal), held.by) != (dict(record.goal), record.by)
    ]
    document = {"format": FORMAT, "records": [asdict(held) for held in [*others, record]]}
    open_store(url).put(url, json.dumps(document, indent=1, ensure_ascii=False).encode())
    return url


def lookup(
    router_url: str,
    card_fingerprint: str,
    max_drop_pct: float,
    confidence: float,
    by: str | None = None,
    with_tasks: bool | None = None,
) -> Record:
    """The record that belongs to a promise: the very same numbers, the same column, the same router.

    ``with_tasks`` says whether the job tells the router its queries' tasks (None: it does not matter).
    Raises ``ConfigError`` that lists what is stored and names the command that makes what is missing.
    """
    wanted: Goal = {MAX_DROP: float(max_drop_pct), CONFIDENCE: float(confidence)}
    records = stored(router_url)
    for record in records:
        if record.router == card_fingerprint and dict(record.goal) == wanted and record.by == by:
            if with_tasks not in (None, record.with_tasks):
                raise ConfigError(_other_scores(router_url, record))
            return record
    raise ConfigError(_missing(router_url, card_fingerprint, records, wanted, by, bool(with_tasks)))


def command(router_url: str, goal: Goal, by: str | None = None, with_tasks: bool = False) -> str:
    """The command that calibrates ``router_url`` for a promise."""
    options = (f" --by {by}" if by else "") + (" --tasks" if with_tasks else "")
    return (
        f"hybrid-batch calibrate {router_url} LABELS "
        f"--max-drop {goal[MAX_DROP]:g} --confidence {goal[CONFIDENCE]:g}{options}"
    )


def told(goal: Goal, by: str | None = None) -> str:
    """A goal in a few words: ``at most 1 % drop with 95 % confidence, per task``."""
    if MAX_DROP in goal:
        words = f"at most {goal[MAX_DROP]:g} % drop with {float(goal[CONFIDENCE]) * 100:g} % confidence"
    elif SMALL_SHARE in goal:
        words = f"{float(goal[SMALL_SHARE]) * 100:g} % to the small model"
    else:
        words = f"at most {goal[MAX_USD]} USD per 1,000 queries"
    return f"{words}, per {by}" if by else words


def _place(router_url: str) -> str:
    return join(normalise(router_url), CALIBRATIONS)


def _missing(
    router_url: str, fingerprint: str, records: Sequence[Record], wanted: Goal, by: str | None, with_tasks: bool
) -> str:
    ours = [record for record in records if record.router == fingerprint]
    if ours:
        held = "stored are: " + "; ".join(told(record.goal, record.by) for record in ours)
    elif records:
        held = f"the records in {CALIBRATIONS} belong to an earlier version of this router"
    else:
        held = f"there is no {CALIBRATIONS}"
    return (
        f"router {router_url} is not calibrated for {told(wanted, by)}: {held}.\n"
        f"Calibrate it with\n  {command(router_url, wanted, by, with_tasks)}"
    )


def _other_scores(router_url: str, record: Record) -> str:
    """With and without tasks a router gives other scores, so a threshold for the ones is none for the others."""
    was = "with" if record.with_tasks else "without"
    return (
        f"router {router_url} was calibrated for {told(record.goal, record.by)} {was} the tasks of the queries, "
        f"and the job runs the other way; calibrate with\n"
        f"  {command(router_url, record.goal, record.by, not record.with_tasks)}"
    )


def _parsed(data: bytes, url: str) -> list[Record]:
    try:
        document = json.loads(data)
    except ValueError as error:
        raise ConfigError(f"{url}: not JSON ({error}); delete it and calibrate again") from error
    found = document.get("format") if isinstance(document, dict) else None
    if found != FORMAT:
        raise ConfigError(f"{url}: format is {found!r}, expected {FORMAT!r}")
    try:
        return [_record(item) for item in document["records"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{url}: a record cannot be read ({error}); delete the file and calibrate again") from error


def _record(item: Mapping[str, Any]) -> Record:
    groups = {name: _threshold(part) for name, part in item["groups"].items()}
    fields = {key: value for key, value in item.items() if key not in ("overall", "groups")}
    return Record(**fields, overall=_threshold(item["overall"]), groups=groups)


def _threshold(item: Mapping[str, Any]) -> Threshold:
    part = Threshold(**item)
    if type(part.threshold_micros) is not int or not 0 <= part.threshold_micros <= ALL_TO_LARGE:
        raise ValueError(
            f"threshold_micros is {part.threshold_micros!r}, allowed are whole numbers 0 to {ALL_TO_LARGE}"
        )
    return part
