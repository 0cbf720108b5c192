"""The records of one run in storage: plan, commits, receipts, manifest.

A result object is the commit point of its shard.  It carries its receipt in its Parquet metadata, so the two cannot
disagree; the JSON receipt beside it is a copy that costs one small read, and is made again where it is missing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from hybrid_batch.core.errors import InputError, RunConflictError, StorageError
from hybrid_batch.core.layout import RunLayout, parse_part, parse_shard, shards_in
from hybrid_batch.core.plan import Plan
from hybrid_batch.core.records import Receipt, ShardId
from hybrid_batch.core.routing import TIERS, RoutingDecision, ScoreHistogram
from hybrid_batch.parquet import from_parquet, metadata_value, to_parquet
from hybrid_batch.stages.route import ShardRanges
from hybrid_batch.storage import Store, open_store, reading
from hybrid_batch.tables import ROUTING, SCORED_BY

RECEIPT_KEY = "hybrid_batch.receipt"
ROUTING_KEY = "hybrid_batch.routing"
_READERS = 16

Record = TypeVar("Record")


@dataclass(frozen=True)
class Routing:
    """How a night is split: the decision, the key ranges of all shards, and the scores it was made from (coarse)."""

    decision: RoutingDecision
    ranges: ShardRanges
    histogram: ScoreHistogram

    @property
    def shards(self) -> list[ShardId]:
        """All shards, in the order of their numbers over all tiers."""
        return [ShardId(tier, number) for tier in TIERS for number in range(len(self.ranges.first_keys.get(tier, ())))]

    def rows(self) -> dict[str, int]:
        """Rows of each tier."""
        return dict(zip(TIERS, (self.decision.small, self.decision.large, self.decision.rejected), strict=True))


class Ledger:
    """Reads and writes the records of the run at ``layout``, in ``store`` or the one that its URL names.

    ``mends`` says whether a missing copy of a receipt is made again when receipts are read: a look from outside writes
    nothing.
    """

    def __init__(self, layout: RunLayout, store: Store | None = None, *, mends: bool = True) -> None:
        self.layout = layout
        self._mends = mends
        self._store: Store = open_store(layout.root) if store is None else store
        self._receipts: dict[ShardId, Receipt] = {}

    def plan(self) -> Plan | None:
        """The committed plan.  Raises ``RunConflictError`` if the object there is no plan of this version."""
        return self._record(self.layout.plan, "plan", lambda data: Plan.from_dict(json.loads(data)))

    def commit_plan(self, plan: Plan) -> Plan:
        """Commit ``plan`` unless there is one -> the plan that holds.  A ``_SUCCESS`` of an unfinished run goes.

        Raises ``RunConflictError`` if that one belongs to another run.
        """
        self._store.put_if_absent(self.layout.plan, _json(plan.to_dict()))
        held = self.plan()
        if held is None or held.fingerprint != plan.fingerprint:
            raise RunConflictError(
                f"{self.layout.root} holds another run; give this one another run.name or run.output"
            )
        self._unmark_success()
        return held

    def scored_parts(self) -> set[int]:
        """Numbers of the committed parts of the scored table."""
        objects = self._store.list(self.layout.scored_folder)
        return {part for item in objects if (part := parse_part(item.url)) is not None}

    def scored_by(self) -> dict[str, int]:
        """What computed the scores, by number of parts, as the parts themselves say; the most frequent first."""
        urls = [self.layout.scored(part) for part in sorted(self.scored_parts())]
        with ThreadPoolExecutor(_READERS) as pool:
            found = Counter(pool.map(self._scorer_of, urls))
        return dict(found.most_common())

    def _scorer_of(self, url: str) -> str:
        with reading(url), self._store.open_input(url) as file:
            return metadata_value(file, SCORED_BY) or "not known"

    def routing(self) -> Routing | None:
        """The committed routing, None before.  Raises ``RunConflictError`` if it is damaged."""
        return self._record(self.layout.routing, "routing", _routing_from_parquet)

    def commit_routing(self, routing: Routing) -> Routing:
        """Commit ``routing`` unless there is one -> the routing that holds."""
        self._store.put_if_absent(self.layout.routing, _routing_to_parquet(routing))
        held = self.routing()
        if held is None:
            raise StorageError(f"{self.layout.routing} vanished after it was written")
        return held

    def routed(self) -> set[ShardId]:
        """Shards whose rows are written."""
        return shards_in(item.url for item in self._store.list(self.layout.routed_folder))

    def committed(self) -> set[ShardId]:
        """Shards whose results are committed."""
        return shards_in(item.url for item in self._store.list(self.layout.results_folder))

    def is_committed(self, shard: ShardId) -> bool:
        """True if the results of ``shard`` are committed: asks for one object and lists nothing."""
        return self._store.stat(self.layout.results(shard)) is not None

    def commit_results(self, results: pa.Table, receipt: Receipt) -> bool:
        """Commit a shard -> False if another attempt had done it before (whose receipt then holds)."""
        text = json.dumps(receipt.to_dict())
        won = self._store.put_if_absent(self.layout.results(receipt.shard), to_parquet(results, {RECEIPT_KEY: text}))
        if won:
            # Replaces the copy of a result that somebody deleted in order to have it answered again.
            self._store.put(self.layout.receipt(receipt.shard), _json(receipt.to_dict()))
        else:
            held = self._receipt_of_results(receipt.shard)
            self._store.put_if_absent(self.layout.receipt(receipt.shard), _json(held.to_dict()))
        return won

    def receipts(self, shards: Iterable[ShardId]) -> list[Receipt]:
        """Receipts of committed ``shards``, in order; each is read once in the life of this ledger."""
        wanted = sorted(shards)
        unread = [shard for shard in wanted if shard not in self._receipts]
        with ThreadPoolExecutor(_READERS) as pool:
            self._receipts.update(zip(unread, pool.map(self._receipt, unread), strict=True))
        return [self._receipts[shard] for shard in wanted]

    def keep_dead_letters(self, shards: Iterable[ShardId]) -> None:
        """Remove dead letters of all shards but ``shards``: those of results that were answered again since."""
        kept = {self.layout.dead_letters(shard) for shard in shards}
        stale = [
            item.url
            for item in self._store.list(self.layout.dead_letters_folder)
            if item.url not in kept and parse_shard(item.url) is not None
        ]
        with ThreadPoolExecutor(_READERS) as pool:
            list(pool.map(self._store.delete, stale))

    def is_finished(self) -> bool:
        """Whether the manifest is there, which is not read."""
        return self._store.stat(self.layout.manifest) is not None

    def manifest(self) -> dict[str, Any] | None:
        """The manifest of a finished run, None before.  Raises ``RunConflictError`` if it is damaged."""
        return self._record(self.layout.manifest, "manifest", _manifest_from_json)

    def commit_manifest(self, manifest: Mapping[str, Any], *, marks: bool = True) -> dict[str, Any]:
        """Commit the manifest unless there is one -> the manifest that holds.

        ``_SUCCESS`` comes after it; without ``marks`` the caller has more to do before :meth:`mark_success`.
        """
        self._store.put_if_absent(self.layout.manifest, _json(manifest))
        held = self.manifest()
        if held is None:
            raise StorageError(f"{self.layout.manifest} vanished after it was written")
        if marks:
            self.mark_success()
        return held

    def mark_success(self) -> None:
        """Write ``_SUCCESS`` where it is missing; the run has a manifest."""
        # Looked for first: who may only read can still be told that a run is finished.
        if self._store.stat(self.layout.success) is None:
            self._store.put_if_absent(self.layout.success, b"")

    def _unmark_success(self) -> None:
        """Remove a ``_SUCCESS`` that no manifest stands behind: results of that run are made again."""
        if self._store.stat(self.layout.success) is not None and not self.is_finished():
            self._store.delete(self.layout.success)

    def put_report(self, url: str, data: bytes) -> None:
        """Write or replace a report: derived from committed objects, so the last writer may win."""
        self._store.put(url, data)

    def _record(self, url: str, kind: str, parse: Callable[[bytes], Record]) -> Record | None:
        data = self._store.read_if_present(url)
        if data is None:
            return None
        try:
            return parse(data)
        except (ValueError, KeyError, TypeError, pa.ArrowException, InputError) as error:
            raise RunConflictError(f"{url} is not a {kind} that this version can read: {error}") from error

    def _receipt(self, shard: ShardId) -> Receipt:
        data = self._store.read_if_present(self.layout.receipt(shard))
        if data is not None:
            return Receipt.from_dict(json.loads(data))
        receipt = self._receipt_of_results(shard)
        if self._mends:
            self._store.put_if_absent(self.layout.receipt(shard), _json(receipt.to_dict()))
        return receipt

    def _receipt_of_results(self, shard: ShardId) -> Receipt:
        url = self.layout.results(shard)
        try:
            with reading(url), self._store.open_input(url) as file:
                text = metadata_value(file, RECEIPT_KEY)
        except (pa.ArrowException, InputError) as error:
            # Results are never replaced, so neither a retry nor a resume mends this one.
            raise StorageError(
                f"{url} is damaged; delete it, and {self.layout.manifest} if that is there: then the command that "
                "started the run answers its rows again"
            ) from error
        if text is None:
            raise StorageError(f"{url} carries no receipt: it was not written by this program")
        return Receipt.from_dict(json.loads(text))


def _manifest_from_json(data: bytes) -> dict[str, Any]:
    manifest = json.loads(data)
    if not isinstance(manifest, dict):
        raise ValueError("it is no JSON object")
    return manifest


def _routing_to_parquet(routing: Routing) -> bytes:
    rows = [
        {"tier": shard.tier, "number": shard.number, "first_key": routing.ranges.first_keys[shard.tier][shard.number]}
        for shard in routing.shards
    ]
    scores = routing.histogram
    histogram = [part.tolist() for part in (scores.micros, scores.rows, scores.small) if part is not None]
    decision = {"decision": asdict(routing.decision), "histogram": histogram}
    return to_parquet(pa.Table.from_pylist(rows, schema=ROUTING), {ROUTING_KEY: json.dumps(decision)})


def _routing_from_parquet(data: bytes) -> Routing:
    table = from_parquet(data)
    figures = json.loads((table.schema.metadata or {})[ROUTING_KEY.encode()])
    first_keys: dict[str, list[str]] = {tier: [] for tier in TIERS}
    for row in table.to_pylist():
        first_keys[row["tier"]].append(row["first_key"])
    decision = RoutingDecision(**figures["decision"])
    micros, rows, *small = (np.array(values, dtype=np.int64) for values in figures["histogram"])
    histogram = ScoreHistogram(micros, rows, small[0] if small else None, decision.ungrouped)
    return Routing(decision, ShardRanges(first_keys), histogram)


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode()
