"""Leftovers in storage: found by one listing, named before anything is removed."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from hybrid_batch.core.errors import InputError, RunConflictError
from hybrid_batch.core.layout import RunLayout, output_of, parse_part, parse_shard, runs_folder
from hybrid_batch.core.leftovers import Leftover, Leftovers
from hybrid_batch.core.records import ShardId
from hybrid_batch.ledger import Ledger
from hybrid_batch.storage import ObjectInfo, normalise, open_store

UNFINISHED: Final = "unfinished writes"
SCORED: Final = "scored rows"
ROUTED: Final = "routed rows"

SAFE_AGE_S: Final = 3600.0
"""An unfinished write that is younger may still be under way."""

_DELETERS: Final = 16
_READERS: Final = 16


def find_leftovers(url: str, *, intermediate: bool) -> Leftovers:
    """What may be removed below the run or output ``url``; with ``intermediate`` also what finished runs need no more.

    Raises ``InputError`` if nothing lies there, ``StorageError`` if the store fails.
    """
    place = normalise(url)
    store = open_store(place)
    temporary = store.list_temporary(place)
    objects = store.list(place) if intermediate or not temporary else []
    if not temporary and not objects:
        raise InputError(f"{place}: nothing lies here; give the folder of a run, or a run.output")
    oldest_safe_us = (time.time() - SAFE_AGE_S) * 1_000_000
    old = [item for item in temporary if item.modified_us < oldest_safe_us]
    groups = _grouped(UNFINISHED, old)
    kept = (
        [f"{len(temporary) - len(old):,} unfinished writes: they are younger than an hour"] if old != temporary else []
    )
    needed = _needed_by(place) if intermediate else {}
    for root, own in _runs(place, objects) if intermediate else ():
        reason, found = _of_run(RunLayout(root), own, needed.get(RunLayout(root).run_id))
        groups += found
        kept += [f"run {RunLayout(root).run_id}: {reason}"] if reason else []
    return Leftovers(place, tuple(groups), tuple(kept))


def remove(leftovers: Leftovers) -> int:
    """Delete all of ``leftovers`` -> how many objects.  What is gone already is no error."""
    store = open_store(leftovers.place)
    urls = [url for group in leftovers.groups for url in group.urls]
    with ThreadPoolExecutor(_DELETERS) as pool:
        list(pool.map(store.delete, urls))
    return len(urls)


def _grouped(kind: str, items: Iterable[ObjectInfo]) -> list[Leftover]:
    by_run: defaultdict[str | None, list[ObjectInfo]] = defaultdict(list)
    for item in items:
        by_run[_run_of(item.url)].append(item)
    return [_leftover(kind, run_id, by_run[run_id]) for run_id in sorted(by_run, key=lambda name: name or "")]


def _leftover(kind: str, run_id: str | None, items: Iterable[ObjectInfo]) -> Leftover:
    held = list(items)
    return Leftover(kind, run_id, tuple(item.url for item in held), sum(item.size for item in held))


def _run_of(url: str) -> str | None:
    """The run that an object lies in: a folder below ``runs``, wherever the look began."""
    _, found, rest = url.rpartition("/runs/")
    inside = found and "/" in rest
    return rest.partition("/")[0] if inside else None


def _runs(place: str, objects: Iterable[ObjectInfo]) -> Iterator[tuple[str, list[ObjectInfo]]]:
    """Each run at or below ``place``, by its plan, with its objects."""
    by_root: defaultdict[str, list[ObjectInfo]] = defaultdict(list)
    folder = runs_folder(place)
    for item in objects:
        below = item.url.removeprefix(f"{folder}/")
        by_root[place if below == item.url else f"{folder}/{below.partition('/')[0]}"].append(item)
    for root, items in by_root.items():
        if any(item.url == RunLayout(root).plan for item in items):
            yield root, items


def _needed_by(place: str) -> dict[str, str]:
    """Runs whose routed rows an unfinished retry reads, with the retry: of the output at or around ``place``."""
    folder = runs_folder(output_of(place) or place)
    ledgers = [Ledger(RunLayout(root), mends=False) for root in open_store(folder).folders(folder)]
    with ThreadPoolExecutor(_READERS) as pool:
        found = [source for source in pool.map(_needs, ledgers) if source is not None]
    return dict(found)


def _needs(ledger: Ledger) -> tuple[str, str] | None:
    try:
        plan = ledger.plan()
    except RunConflictError:
        # No version that reads this folder can go on with it.
        return None
    if plan is None or plan.retry_of is None or ledger.is_finished():
        return None
    return str(plan.retry_of["run_id"]), ledger.layout.run_id


def _of_run(layout: RunLayout, objects: list[ObjectInfo], retry: str | None) -> tuple[str, list[Leftover]]:
    """Why something of a run stays, and what of it may go; ``retry`` is an unfinished one that reads its rows."""
    ledger = Ledger(layout, mends=False)
    try:
        plan = ledger.plan()
    except RunConflictError as error:
        return str(error), []
    try:
        finished = ledger.manifest()
        shards = None if finished is None else [ShardId(tier, number) for tier, number, _ in finished["shards"]]
    except (RunConflictError, ValueError, KeyError, TypeError) as error:
        return f"its manifest.json cannot be read: {error!r}", []
    if plan is None or shards is None:
        return "it is unfinished", []
    if plan.is_labelling:
        return "it is a labelling, and other labels can be made of its answers", []
    present = {item.url for item in objects}
    if layout.routing not in present:
        return "its routed/routing.parquet is missing", []
    if missing := [shard for shard in shards if layout.results(shard) not in present]:
        return f"results of {len(missing):,} of its shards are missing", []
    scored = [item for item in objects if _is_below(item, layout.scored_folder) and parse_part(item.url) is not None]
    routed = [item for item in objects if _is_below(item, layout.routed_folder) and parse_shard(item.url) is not None]
    kinds = ((SCORED, scored), (ROUTED, [] if retry else routed))
    reason = f"its routed rows stay, the unfinished retry {retry} reads them" if retry and routed else ""
    return reason, [_leftover(kind, layout.run_id, items) for kind, items in kinds if items]


def _is_below(item: ObjectInfo, folder: str) -> bool:
    return item.url.startswith(f"{folder}/")
