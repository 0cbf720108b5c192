"""The tables of a run held against each other: scored rows, shards, and what routing counted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np

from hybrid_batch.core.proof import SHOWN, Notebook
from hybrid_batch.core.records import Receipt, ShardId
from hybrid_batch.verification.evidence import Evidence, in_order
from hybrid_batch.verification.ids import Digest, Held, Read, differences, digest_of, doubled_hashes, named
from hybrid_batch.verification.shards import ROUTED, ShardFound, inspect

SCORED: Final = "scored table"

Tell = Callable[[int], None]
"""Is told how many rows of results have been read so far."""


@dataclass
class Scored:
    """The scored table as far as it is there; of a labelling, the answers that its sample asks for in each tier."""

    parts: int = 0
    whole: bool = False
    digest: Digest = field(default_factory=Digest)


@dataclass
class Shards:
    """All shards of a run as far as they are there; digests and rows by tier."""

    routed: int = 0
    committed: int = 0
    copies: int = 0
    letters: int = 0
    unread: int = 0
    digests: dict[str, Digest] = field(default_factory=lambda: defaultdict(Digest))
    receipts: list[Receipt] = field(default_factory=list)

    def rows(self) -> dict[str, int]:
        return {tier: digest.rows for tier, digest in self.digests.items()}


def look_at_scored(evidence: Evidence, notebook: Notebook, pool: Executor) -> Scored:
    """Read the ids of all parts; an id that stands there twice is a problem."""
    layout, found, held = evidence.layout, Scored(), Held()
    urls = [layout.scored(part) for part in evidence.parts]
    rows = {layout.scored(split.number): split.rows for split in evidence.plan.splits}
    for url, one in zip(urls, evidence.hashed(urls, pool), strict=True):
        if one.damage is not None:
            notebook.write(SCORED, [f"{one.name}: cannot be read: {one.damage}"])
            continue
        if not evidence.plan.is_labelling and rows[url] not in (None, len(one.ids)):
            notebook.write(SCORED, [f"{one.name}: {len(one.ids):,} rows of {rows[url]:,} in the input"])
        found.parts, found.digest = found.parts + 1, found.digest + digest_of(one.hashes)
        held.add(one.hashes[:, 0])
    found.whole = found.parts == len(evidence.plan.splits)
    _tell_doubles(evidence, urls, held, SCORED, notebook, pool)
    return found


def look_at_shards(evidence: Evidence, notebook: Notebook, pool: Executor, tell: Tell, *, doubles: bool) -> Shards:
    """Read all shards.  ``doubles`` looks for ids that stand twice: needed where the scored table is not whole."""
    found, held = Shards(), Held()
    for one in in_order(partial(inspect, evidence), enumerate(evidence.planned), pool):
        for check, problem in one.problems:
            notebook.write(check, [problem])
        _count(found, one)
        if doubles:
            held.add(one.hashes)
        tell(sum(found.rows().values()))
    if doubles:
        _tell_doubles(evidence, _urls(evidence, evidence.planned), held, ROUTED, notebook, pool)
    return found


def _count(found: Shards, one: ShardFound) -> None:
    found.routed += one.routed
    found.committed += one.committed
    found.copies += one.copied
    found.letters += one.letters
    found.digests[one.shard.tier] += one.digest
    if one.receipt is not None:
        found.receipts.append(one.receipt)
    if not one.routed and one.receipt is None:
        found.unread += 1


def compare_ids(evidence: Evidence, scored: Scored, shards: Shards, notebook: Notebook, pool: Executor) -> bool:
    """Whether the ids of the scored table could be held against those of the shards; differences are problems."""
    if not scored.whole or shards.unread or not evidence.routing:
        return False
    tiers = evidence.routing.rows()
    groups = [[tier] for tier in tiers if tier in shards.digests] if evidence.plan.is_labelling else [list(tiers)]
    for group in groups:
        if sum((shards.digests[tier] for tier in group), Digest()) != scored.digest:
            _tell_differences(evidence, group, notebook, pool)
    return True


def _tell_differences(evidence: Evidence, tiers: Sequence[str], notebook: Notebook, pool: Executor) -> None:
    scored = [evidence.layout.scored(part) for part in evidence.parts]
    shards = _urls(evidence, [shard for shard in evidence.planned if shard.tier in tiers])
    rows = 2 * sum((evidence.routing.rows() if evidence.routing else {}).values())
    lost, extra = differences(_read(evidence, scored, pool), _read(evidence, shards, pool), rows)
    for hashes, urls, where in (
        (lost, scored, "not in the routed shards as often as here"),
        (extra, shards, "not in the scored table as often as here"),
    ):
        texts = [
            f"id {name!r} is {where}: {', '.join(places)}" for name, places in _named(evidence, hashes, urls, pool)
        ]
        # Not all of one kind, so that both are shown.
        notebook.write(ROUTED, texts[: SHOWN // 2 + 1], len(hashes))


def compare_counts(evidence: Evidence, scored: Scored, shards: Shards, notebook: Notebook) -> None:
    """Rows of the tables against what routing counted."""
    if evidence.routing is None:
        return
    counted = evidence.routing.rows()
    expected = counted["small"] if evidence.plan.is_labelling else sum(counted.values())
    if scored.whole and scored.digest.rows != expected:
        notebook.write(SCORED, [f"{scored.digest.rows:,} rows, routing counted {expected:,}"])
    for tier, rows in counted.items():
        found = shards.digests[tier].rows
        if not shards.unread and found != rows:
            notebook.write(ROUTED, [f"tier {tier}: {found:,} rows in shards, routing counted {rows:,}"])


def _tell_doubles(
    evidence: Evidence, urls: Sequence[str], held: Held, check: str, notebook: Notebook, pool: Executor
) -> None:
    hashes = doubled_hashes(held, _read(evidence, urls, pool))
    if not len(hashes):
        return
    # Two ids may share a hash of 64 bits; only what is read as the same text is a double.
    twice = [(name, places) for name, places in _named(evidence, hashes, urls, pool) if len(places) > 1]
    texts = [f"id {name!r} stands more than once: {', '.join(places)}" for name, places in twice]
    notebook.write(check, texts, max(len(texts), len(hashes)) if texts else 0)


def _named(evidence: Evidence, hashes: np.ndarray, urls: Sequence[str], pool: Executor) -> list[tuple[str, list[str]]]:
    if not len(hashes):
        return []
    return sorted(named(hashes, evidence.hashed(urls, pool)).items(), key=lambda item: item[1])


def _urls(evidence: Evidence, shards: Sequence[ShardId]) -> list[str]:
    """Where the ids of ``shards`` are read: their routed rows, without these their results."""
    layout, present = evidence.layout, evidence.objects
    places = (layout.routed(one) if layout.routed(one) in present else layout.results(one) for one in shards)
    return [url for url in places if url in present]


def _read(evidence: Evidence, urls: Sequence[str], pool: Executor) -> Read:
    def read() -> Iterator[np.ndarray]:
        return (one.hashes[:, 0] for one in evidence.hashed(urls, pool))

    return read
