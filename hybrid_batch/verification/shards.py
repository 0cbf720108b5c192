"""One shard held against itself: routed rows, results, receipt, its copy, dead letters, batch files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hybrid_batch.core.records import Receipt, ShardId, Usage
from hybrid_batch.ledger import RECEIPT_KEY
from hybrid_batch.parquet import read_checked
from hybrid_batch.storage import reading
from hybrid_batch.verification.evidence import DAMAGE, Evidence, told
from hybrid_batch.verification.ids import Digest, digest_of, row_hashes

ROUTED: Final = "routed shards"
RESULTS: Final = "results"
RECEIPTS: Final = "receipts"
DEAD_LETTERS: Final = "dead letters"
BATCH: Final = "batch files"

_COLUMNS: Final = (
    *("query_id", "tier", "prompt_tokens", "completion_tokens", "cached_prompt_tokens"),
    *("error_kind", "finish_reason", "answered_by"),
)


@dataclass
class ShardFound:
    """What one shard holds.  ``digest`` and ``hashes`` are those of its routed ids, without these of its results'.

    ``hashes`` are 64 bits of each id, uint64 ``[n]``; ``problems`` are pairs of a check and a sentence.
    """

    shard: ShardId
    routed: bool = False
    committed: bool = False
    receipt: Receipt | None = None
    copied: bool = False
    digest: Digest = field(default_factory=Digest)
    hashes: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64))
    letters: int = 0
    problems: list[tuple[str, str]] = field(default_factory=list)


def inspect(evidence: Evidence, place: tuple[int, ShardId]) -> ShardFound:
    """Read everything of the shard at ``place`` (its number over all tiers, and its id) that is there.

    Raises ``StorageError`` if the store fails; damage is a problem of the shard.
    """
    unit, shard = place
    found = ShardFound(shard)
    routed = _ids(evidence, shard, found)
    results = _results(evidence, shard, found)
    ids = routed if routed is not None else None if results is None else results["query_id"]
    if ids is not None:
        hashes = row_hashes(ids)
        found.digest, found.hashes = digest_of(hashes), hashes[:, 0].copy()
    if results is not None and found.receipt is not None:
        name = evidence.name(evidence.layout.results(shard))
        if routed is not None and (text := _difference(routed, results["query_id"])):
            found.problems.append((RESULTS, f"{name}: {text}"))
        found.problems += [(RECEIPTS, f"{name}: {text}") for text in _miscounted(results, found.receipt, shard)]
        _compare_copy(evidence, found, found.receipt)
        if evidence.manifest is not None and not evidence.plan.is_labelling:
            _compare_letters(evidence, found, results)
            _compare_batch(evidence, unit, found, results)
    return found


def _ids(evidence: Evidence, shard: ShardId, found: ShardFound) -> pa.ChunkedArray | None:
    url = evidence.layout.routed(shard)
    if url not in evidence.objects:
        return None
    try:
        ids = evidence.ids(url)
    except DAMAGE as error:
        found.problems.append((ROUTED, f"{evidence.name(url)}: cannot be read: {told(error)}"))
        return None
    found.routed = True
    return ids


def _results(evidence: Evidence, shard: ShardId, found: ShardFound) -> pa.Table | None:
    url = evidence.layout.results(shard)
    if url not in evidence.objects:
        return None
    found.committed = True
    try:
        with reading(url):
            rows = read_checked(evidence.store.read(url), _COLUMNS, whole=True)
        found.receipt = _receipt_in(rows)
    except DAMAGE as error:
        found.problems.append((RESULTS, f"{evidence.name(url)}: cannot be read: {told(error)}"))
        return None
    return rows


def _receipt_in(rows: pa.Table) -> Receipt:
    if missing := [name for name in _COLUMNS if name not in rows.schema.names]:
        raise ValueError(f"it has no column {missing[0]}")
    text = (rows.schema.metadata or {}).get(RECEIPT_KEY.encode())
    if text is None:
        raise ValueError("it carries no receipt")
    return Receipt.from_dict(json.loads(text))


def _difference(expected: pa.ChunkedArray, found: pa.ChunkedArray) -> str | None:
    """Where ``found`` is not ``expected``, in words."""
    if expected.equals(found):
        return None
    common = min(len(expected), len(found))
    same = pc.equal(expected.slice(0, common), found.slice(0, common)).to_numpy(zero_copy_only=False)
    unequal = np.flatnonzero(~same)
    if not len(unequal):
        longer = expected if len(expected) > common else found
        where = "is missing" if longer is expected else "was never routed to it"
        return f"{len(found):,} rows for {len(expected):,} routed ones: {longer[common].as_py()!r} {where}"
    row = int(unequal[0])
    return f"row {row} is {found[row].as_py()!r}, the routed shard has {expected[row].as_py()!r} there"


def _miscounted(rows: pa.Table, receipt: Receipt, shard: ShardId) -> Iterator[str]:
    """What the receipt says otherwise than the rows do."""
    if receipt.shard != shard:
        yield f"its receipt is that of {receipt.tier} {receipt.number}"
    if others := set(pc.unique(rows["tier"]).to_pylist()) - {shard.tier}:
        yield f"it has rows of the tier {sorted(map(str, others))[0]}"
    said, counted = asdict(receipt.usage), asdict(usage_of(rows))
    for name, value in counted.items():
        if said[name] != value:
            yield f"its receipt says {said[name]:,} {name}, its rows come to {value:,}"
    for column, kinds in (("error_kind", receipt.errors), ("finish_reason", receipt.finish_reasons)):
        if dict(kinds) != (own := _counts(rows[column])):
            yield f"its receipt says {column} {dict(kinds)}, its rows come to {own}"


def usage_of(rows: pa.Table) -> Usage:
    """What result ``rows`` come to."""

    def total(name: str) -> int:
        return pc.sum(rows[name], min_count=0).as_py()

    return Usage(
        rows=rows.num_rows,
        failed_rows=rows.num_rows - rows["error_kind"].null_count,
        prompt_tokens=total("prompt_tokens"),
        completion_tokens=total("completion_tokens"),
        cached_prompt_tokens=total("cached_prompt_tokens"),
        shared_rows=rows.num_rows - rows["answered_by"].null_count,
    )


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    counted = {str(item["values"]): item["counts"] for item in pc.value_counts(column.drop_null()).to_pylist()}
    return {kind: count for kind, count in counted.items() if kind}


def _compare_copy(evidence: Evidence, found: ShardFound, receipt: Receipt) -> None:
    url = evidence.layout.receipt(found.shard)
    if url not in evidence.objects:
        return
    found.copied = True
    try:
        same = Receipt.from_dict(json.loads(evidence.store.read(url))) == receipt
    except DAMAGE as error:
        found.problems.append((RECEIPTS, f"{evidence.name(url)}: cannot be read: {told(error)}"))
        return
    if not same:
        found.problems.append((RECEIPTS, f"{evidence.name(url)}: is not the receipt that its results carry"))


def _compare_letters(evidence: Evidence, found: ShardFound, results: pa.Table) -> None:
    url = evidence.layout.dead_letters(found.shard)
    columns = ["query_id", "error_kind"]
    failed = results.select(columns).filter(pc.is_valid(results["error_kind"]))
    if url not in evidence.objects:
        if failed.num_rows:
            found.problems.append((DEAD_LETTERS, f"{evidence.name(url)}: is missing, {failed.num_rows:,} rows failed"))
        return
    try:
        with reading(url):
            letters = read_checked(evidence.store.read(url), columns, whole=True).select(columns)
    except DAMAGE as error:
        found.problems.append((DEAD_LETTERS, f"{evidence.name(url)}: cannot be read: {told(error)}"))
        return
    found.letters = letters.num_rows
    if letters.to_pylist() != failed.to_pylist():
        text = f"{evidence.name(url)}: its {letters.num_rows:,} rows are not the {failed.num_rows:,} failed ones"
        found.problems.append((DEAD_LETTERS, text))


def _compare_batch(evidence: Evidence, unit: int, found: ShardFound, results: pa.Table) -> None:
    """The ids of the two batch files of a shard are those of its answered and its failed rows."""
    if "batch" not in (evidence.manifest or {}).get("objects", {}):
        return
    failed = pc.is_valid(results["error_kind"])
    sides = ((evidence.layout.batch_output(unit), pc.invert(failed)), (evidence.layout.batch_errors(unit), failed))
    for url, chosen in sides:
        expected = results["query_id"].filter(chosen).to_pylist()
        try:
            data = evidence.store.read(url) if url in evidence.objects else b""
            ids = [json.loads(line)["custom_id"] for line in data.splitlines()]
        except DAMAGE as error:
            found.problems.append((BATCH, f"{evidence.name(url)}: cannot be read: {told(error)}"))
            continue
        if ids != expected:
            different = next((one for one, other in zip(expected, ids, strict=False) if one != other), None)
            about = f", the first that differs is {different!r}" if different is not None else ""
            found.problems.append((BATCH, f"{evidence.name(url)}: {len(ids):,} ids for {len(expected):,} rows{about}"))
